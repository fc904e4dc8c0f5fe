"""Copies between host and device that nobody waits for."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; the host does not wait for the copy, which on CUDA takes memory that is pinned."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class ToHost:
    """A tensor on its way to the host; the one on the device may be overwritten by what is computed next."""

    def __init__(self, tensor: Tensor) -> None:
        self._written: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._values = tensor.cpu().clone()
            return
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._values.copy_(tensor, non_blocking=True)
        self._written = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._written.record()

    def read(self) -> Tensor:
        """The tensor on the host; waits until it is there, and for no work that was begun later."""
        if self._written is not None:
            self._written.synchronize()
        return self._values
