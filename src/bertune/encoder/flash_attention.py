"""PyTorch's variable-length flash attention on CUDA, and whether it runs here."""

import functools
import logging

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


@functools.cache
def flash_works(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether variable-length flash attention runs here, there and back: it is tried once.

    It is private to PyTorch and asks for half precision, an NVIDIA GPU of compute capability 8 or more, and heads of a
    multiple of 8 up to 256. Where it fails, attention runs on padded sequences.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return False
    try:
        with torch.random.fork_rng([device]), torch.inference_mode(False), torch.enable_grad():
            split = torch.zeros(8, 3, 1, head_size, device=device, dtype=dtype, requires_grad=True)
            bounds = torch.tensor([0, 3, 8, 8], device=device, dtype=torch.int32)
            flash_attention(split, bounds, 5, 0.1, 0).sum().backward()  # type: ignore[no-untyped-call]
            return split.grad is not None and bool(split.grad.isfinite().all())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        logger.warning("no flash attention on this device (%s); attention runs on padded sequences", first)
        return False


def flash_attention(split: Tensor, bounds: Tensor, longest: int, dropout: float, window: int) -> Tensor:
    """Variable-length flash attention on CUDA, with dropout, which PyTorch's public `varlen_attn` lacks.

    `aten::_flash_attention_forward` is private but differentiable and present from PyTorch 2.6 on.
    bounds: where sequences begin and end; they must cover all rows, for it leaves others unwritten.
    Shape: (tokens, 3, heads, head size) → (tokens, heads, head size).
    """
    q, k, v = split.unbind(1)
    near = {"window_size_left": window, "window_size_right": window} if window else {}
    out: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, bounds, bounds, longest, longest, dropout, False, False, **near
    )[0]
    return out
