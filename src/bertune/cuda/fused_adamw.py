"""AdamW's arithmetic on an accelerator, every decision made there: the host never waits for a norm or a step count.

PyTorch's fused kernel reads and writes each weight once; `grad_scale` and `found_inf`, made for loss scaling, carry
clipping and the skipping of updates that are not finite. Because nothing is read back, CUDA graphs can hold an update.
"""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bertune.options import AdamWOptions

logger = logging.getLogger(__name__)

_ENDLESS = 1e9
"""A step count at which bias correction has worn off to exactly 1, for Adam without one."""


@dataclass(frozen=True)
class Weights:
    """Weights that share a learning rate and a decay, all float32 on one device; same order in every list.

    rate: multiplies the learning rate.  decay: share of a weight lost a step, times the learning rate.
    """

    rate: float
    decay: float
    masters: Sequence[Tensor]
    m: Sequence[Tensor]
    v: Sequence[Tensor]


class FusedAdamW:
    """The step count and the arithmetic; weights and moments belong to the optimizer.

    steps: updates made so far; skipped ones do not count. Shape: (), float32, on the device.
    """

    def __init__(self, options: AdamWOptions, device: torch.device) -> None:
        self._options = options
        self.steps = torch.zeros((), device=device)
        self._endless = torch.full((), _ENDLESS, device=device)

    def update(
        self,
        weights: Sequence[Weights],
        gradients: Sequence[Sequence[Tensor]],
        learning_rate: float | Tensor,
        scale: float | Tensor,
    ) -> Tensor:
        """One step over all weights, in place, or none where the gradients are not finite.

        Args:
            weights: what is updated.
            gradients: float32, one list for every entry of `weights`; overwritten.
            learning_rate: a number, or a tensor of shape ().
            scale: multiplies every gradient first.

        Returns: the joint norm of the scaled gradients before clipping. Shape: (), on the device.
        """
        options = self._options
        flat = [gradient for some in gradients for gradient in some]
        rate, scale = (_scalar(number, self.steps.device) for number in (learning_rate, scale))
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(flat))) * scale
        skip = (~torch.isfinite(norm)).float()
        # The kernel divides gradients by its grad_scale; clipping only ever divides by more.
        divisor = 1 / scale
        if options.max_grad_norm:
            over = norm > options.max_grad_norm
            divisor = torch.where(over, divisor * ((norm + 1e-6) / options.max_grad_norm), divisor)
        self.steps += 1 - skip
        for some, own in zip(weights, gradients, strict=True):
            torch._fused_adamw_(
                list(some.masters),
                list(own),
                list(some.m),
                list(some.v),
                [],
                [self.steps if options.bias_correction else self._endless] * len(own),
                lr=rate * some.rate,
                beta1=options.beta1,
                beta2=options.beta2,
                weight_decay=some.decay,
                eps=options.eps,
                amsgrad=False,
                maximize=False,
                grad_scale=divisor,
                found_inf=skip,
            )
        return norm


@functools.cache
def works(device: torch.device, options: AdamWOptions) -> bool:
    """Whether this PyTorch's fused kernel does on a device what is asked of it here: it is tried once."""
    try:
        weight, gradient = torch.ones(3, device=device), torch.ones(3, device=device)
        weights = Weights(1.0, 0.0, [weight], [torch.zeros_like(weight)], [torch.zeros_like(weight)])
        FusedAdamW(options, device).update([weights], [[gradient]], 0.1, 1.0)
        return bool(((weight > 0) & (weight < 1)).all())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        logger.warning("no fused AdamW on this device (%s); the host waits for every step's gradient norm", first)
        return False


def _scalar(number: float | Tensor, device: torch.device) -> Tensor:
    """A number on a device, float32; filled in there, for a copy from the host would wait."""
    if isinstance(number, Tensor):
        return number.to(device, torch.float32)
    return torch.full((), number, dtype=torch.float32, device=device)


def in_float32(gradients: Sequence[Tensor | None], masters: Sequence[Tensor]) -> list[Tensor]:
    """Dense float32 gradients; zeros where there is none."""
    found: list[Tensor] = []
    sources, copies = [], []
    for gradient, master in zip(gradients, masters, strict=True):
        if gradient is None:
            found.append(torch.zeros_like(master))
            continue
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        if dense.dtype == torch.float32:
            found.append(dense)
            continue
        found.append(torch.empty_like(master))
        sources.append(dense)
        copies.append(found[-1])
    if sources:
        torch._foreach_copy_(copies, sources)
    return found
