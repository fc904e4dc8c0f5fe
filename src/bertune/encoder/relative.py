"""Relative positions: what the distance between two tokens adds to their attention score.

With queries q, keys k and a distance d = i - j from the query's place i to the key's place j, scores gain

    "bias"       b[d]                                 MPNet (Song et al., 2020): one number a head, for all layers
    "layer"      q_i · r[d] (+ k_j · r[d])            Shaw et al., 2018 and Huang et al., 2020: vectors of each layer
    "projected"  q_i · (W_k r[d]) + k_j · (W_q r[d])  DeBERTa (He et al., 2021): vectors shared by layers, projected

Distances fall into buckets, so that a table of few rows reaches far. Only the rows for distances that occur in a batch
are used: 2 · longest - 1 of them, against the whole table in transformers.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.layout import Layout
from bertune.encoder.modules import LayerNorm, Linear, dropout

if TYPE_CHECKING:
    from bertune.encoder.config import EncoderConfig

_MPNET_REACH = 128
"""MPNet's distances from here on share one bucket in each direction."""


def distance_rows(config: "EncoderConfig", longest: int, device: torch.device) -> Tensor:
    """The table's row for every distance from -(longest - 1) to longest - 1. Shape: (2 * longest - 1,), int64."""
    distances = torch.arange(1 - longest, longest, device=device)
    if config.relative == "bias":
        return _mpnet_buckets(distances, config.relative_buckets)
    if config.relative_buckets:
        distances = _log_buckets(distances, config.relative_buckets, config.relative_reach)
    middle = relative_rows(config) // 2
    if config.relative == "layer":
        return distances + middle
    return (distances + middle).clamp(0, 2 * middle - 1)


def relative_rows(config: "EncoderConfig") -> int:
    """Rows of the table of distances."""
    if config.relative == "bias":
        return config.relative_buckets
    if config.relative == "layer":
        return 2 * config.relative_reach - 1
    return 2 * (config.relative_buckets or config.relative_reach)


def _mpnet_buckets(distances: Tensor, buckets: int) -> Tensor:
    """Half of the buckets for each direction; of these half for distances of their own, half for growing ranges."""
    half = buckets // 2
    exact = half // 2
    apart = distances.abs()
    far = torch.log(apart.float() / exact) / math.log(_MPNET_REACH / exact) * (half - exact)
    far = torch.where(apart < exact, 0.0, far)  # the logarithm of 0 is no number to make an integer of
    row = torch.where(apart < exact, apart, (exact + far.long()).clamp(max=half - 1))
    return row + (distances < 0) * half


def _log_buckets(distances: Tensor, buckets: int, reach: int) -> Tensor:
    """DeBERTa's: distances up to half of `buckets` as they are, those up to `reach` in ranges of growing width."""
    middle = buckets // 2
    apart = torch.where(distances.abs() < middle, middle - 1, distances.abs())
    ranges = torch.log(apart / middle) / torch.log(torch.tensor((reach - 1) / middle)) * (middle - 1)
    far = (torch.ceil(ranges) + middle) * torch.sign(distances)
    return torch.where(apart <= middle, distances.to(far.dtype), far).long()


class RelativeTable(nn.Module):
    """What the layers share: the numbers or the vectors of distances, with a normalisation where the family has one."""

    def __init__(self, config: "EncoderConfig") -> None:
        super().__init__()
        self.config = config
        width = config.num_attention_heads if config.relative == "bias" else config.hidden_size
        self.weight = new_rows(config, width)
        if config.relative_norm:
            self.norm = LayerNorm(width, config.layer_norm_eps)

    def forward(self, longest: int) -> Tensor:
        """Vectors of all distances in `distance_rows`'s order, or the numbers themselves, ready to be added to scores.

        Shape: (2 * longest - 1, hidden), or (1, heads, longest, longest).
        """
        rows = self.weight[distance_rows(self.config, longest, self.weight.device)]
        if self.config.relative == "bias":
            descending = rows.flip(0).t()  # a key's place rises as its distance falls
            return _shifted(descending[:, None].expand(-1, longest, -1))[None]
        return self.norm(rows) if self.config.relative_norm else rows


def new_rows(config: "EncoderConfig", width: int) -> nn.Parameter:
    """A table with a row for each bucket of distances."""
    table = torch.empty(relative_rows(config), width)
    return nn.Parameter(table if table.is_meta else nn.init.trunc_normal_(table, std=config.initializer_range))


class RelativeScores(nn.Module):
    """What vectors of distances add to one layer's scores, and by what queries times keys are scaled."""

    def __init__(self, config: "EncoderConfig") -> None:
        super().__init__()
        self.config, self.terms = config, config.relative_terms
        self.heads, projects = config.num_attention_heads, config.relative == "projected"
        self.dropout = config.hidden_dropout_prob
        self.scale = (config.head_size * (1 + len(self.terms) if projects else 1)) ** -0.5
        if not projects:
            self.weight = new_rows(config, config.head_size)
        elif not config.relative_shared:
            if "c2p" in self.terms:
                self.key = Linear(config.hidden_size, config.hidden_size)
            if "p2c" in self.terms:
                self.query = Linear(config.hidden_size, config.hidden_size)

    def forward(self, q: Tensor, k: Tensor, qkv: Linear, shared: Tensor | None, layout: Layout) -> Tensor:
        """Scaled scores of the distances.

        Args:
            q: queries, padded. Shape: (sequences, heads, longest, head size).
            k: keys, likewise.
            qkv: the layer's projection, whose rows for keys and queries also project distances in DeBERTa-v3.
            shared: the vectors of `RelativeTable`; None where the layer has its own.
            layout: where the sequences lie.

        Returns: Shape: (sequences, heads, longest, longest).
        """
        by_query, by_key = self._vectors(layout, qkv, shared, q.dtype)
        found = []
        if by_query is not None:  # a key's place rises as its distance falls
            found.append(_shifted(torch.matmul(q * self.scale, by_query.flip(1).transpose(1, 2))))
        if by_key is not None:
            found.append(_shifted(torch.matmul(k * self.scale, by_key.transpose(1, 2))).transpose(2, 3))
        return found[0] if len(found) == 1 else found[0] + found[1]

    def _vectors(
        self, layout: Layout, qkv: Linear, shared: Tensor | None, dtype: torch.dtype
    ) -> tuple[Tensor | None, Tensor | None]:
        """What queries and what keys meet at every distance. Shape: (heads or 1, 2 * longest - 1, head size) each."""
        if shared is None:
            rows = self.weight[distance_rows(self.config, layout.longest, self.weight.device)].to(dtype)[None]
            return (rows if "c2p" in self.terms else None), (rows if "p2c" in self.terms else None)
        numbers = None if layout.keys is None else torch.arange(1 - layout.longest, layout.longest) * shared.shape[1]
        x = dropout(shared, self.dropout if self.training else 0.0, numbers).to(dtype)  # alike for all sequences

        def projected(term: str, own: str, part: int) -> Tensor | None:
            if term not in self.terms:
                return None
            rows = slice(part * x.shape[1], (part + 1) * x.shape[1])
            is_shared = self.config.relative_shared
            made = F.linear(x, qkv.weight[rows], qkv.bias[rows].to(dtype)) if is_shared else getattr(self, own)(x)
            return made.view(len(x), self.heads, -1).transpose(0, 1)

        return projected("c2p", "key", 1), projected("p2c", "query", 0)


def _shifted(columns: Tensor) -> Tensor:
    """Row i's columns from `longest - 1 - i` on: from columns for all distances to one for every place.

    Nothing is copied: a row begins one column earlier than the one before.
    Shape: (…, longest, 2 * longest - 1) → (…, longest, longest).
    """
    longest, all_distances = columns.shape[-2:]
    columns = columns.contiguous()
    stride = (*columns.stride()[:-2], all_distances - 1, 1)
    return columns.as_strided((*columns.shape[:-2], longest, longest), stride, columns.storage_offset() + longest - 1)
