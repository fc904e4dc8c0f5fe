"""Rotary positions (Su et al., 2021): queries and keys turned by angles that follow from their places."""

import torch
from torch import Tensor

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of every token's angles. Shape: (tokens, 1, head size) each, float32."""


def rotation_of(positions: Tensor, head_size: int, base: float, scale: float = 1.0) -> Rotation:
    """The angles scale · position · base^(-2i / head size) of rotary positions (Su et al., 2021), for both halves.

    Shape: (tokens,) → (tokens, 1, head size) twice.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions.float()[:, None] * (scale / base**exponents)
    both = torch.cat([angles, angles], dim=-1)[:, None, :]
    return both.cos(), both.sin()


def rotated(qkv: Tensor, heads: int, rotation: Rotation) -> Tensor:
    """Queries and keys turned. Shape: (tokens, 3 * hidden)."""
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.view(tokens, 3, heads, width // heads).unbind(1)
    return torch.stack([turned(q, rotation), turned(k, rotation), v], dim=1).view(tokens, 3 * width)


def turned(x: Tensor, rotation: Rotation) -> Tensor:
    """Dimensions i and i + head size / 2 are one plane. Shape: (tokens, heads, head size)."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)
