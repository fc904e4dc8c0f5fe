"""Relative positions as ONNX operators; see `bertune.encoder.relative` for the formulas.

The vectors of distances depend on weights alone, so that they are projected once, when the graph is written, for every
distance up to the longest sequence; a batch slices out those that it needs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.relative import distance_rows
from bertune.export.graph import Graph
from bertune.export.layers import FloatArray, Rows


@dataclass
class RelativeGraph:
    """Writes what distances add to attention scores.

    graph: that grows.
    config: the encoder's numbers.
    weights: its `state_dict`, in float32.
    rows: where real tokens lie.
    """

    graph: Graph
    config: EncoderConfig
    weights: Mapping[str, FloatArray]
    rows: Rows

    @property
    def scale(self) -> float:
        """What products of queries and keys are multiplied by."""
        terms = len(self.config.relative_terms) if self.config.relative == "projected" else 0
        return float((self.config.head_size * (1 + terms)) ** -0.5)

    def scores(self, q: str, k: str, layer: int) -> str:
        """What one layer's scores gain.

        Args:
            q: queries. Shape: (heads, batch, length, head size).
            k: keys. Shape: (heads, batch, length, head size).
            layer: with weights of its own.

        Returns: Shape: (heads, batch or 1, length, length).
        """
        if self.config.relative == "bias":
            return self._bias
        graph, found = self.graph, []
        if "c2p" in self.config.relative_terms:  # a key's place rises as its distance falls
            vectors = self._vectors(layer, "key", descending=True)
            found.append(self._shifted(graph.op("MatMul", q, vectors)))
        if "p2c" in self.config.relative_terms:
            vectors = self._vectors(layer, "query", descending=False)
            by_key = self._shifted(graph.op("MatMul", k, vectors))
            found.append(graph.op("Transpose", by_key, perm=(0, 1, 3, 2)))
        return found[0] if len(found) == 1 else graph.op("Add", *found)

    @cached_property
    def _bias(self) -> str:
        """MPNet's numbers for all layers. Shape: (heads, 1, length, length)."""
        graph, heads = self.graph, self.config.num_attention_heads
        numbers = self.weights["distances.weight"][self._table_rows.numpy()]  # (2 * longest - 1, heads)
        table = graph.weight("distances.by_place", _with_one_more(numbers[::-1].T)[:, None, None])
        shape = graph.op("Concat", graph.ints(heads, 1), self._length, self._both, axis=0)
        return self._shifted(graph.op("Expand", self._slice(table), shape))

    def _vectors(self, layer: int, part: str, *, descending: bool) -> str:
        """What queries or keys meet at every distance. Shape: (heads or 1, 1, head size, 2 * length)."""
        config, size = self.config, self.config.head_size
        made = self._projected(layer, part)[self._table_rows]  # (2 * longest - 1, width)
        by_head = made.view(len(made), -1, size).permute(1, 2, 0).numpy()  # (heads or 1, head size, 2 * longest - 1)
        ordered = (by_head[..., ::-1] if descending else by_head) * np.float32(self.scale)
        name = f"layers.{layer}.attention.distances.{part}.by_place"
        if config.relative == "layer":
            name = f"layers.{layer}.attention.distances.{part}"
        return self._slice(self.graph.weight(name, _with_one_more(ordered)[:, None]))

    def _projected(self, layer: int, part: str) -> Tensor:
        """The table for queries or keys. Shape: (rows of the table, hidden or head size)."""
        name = f"layers.{layer}.attention"
        if self.config.relative == "layer":
            return self._tensor(f"{name}.distances.weight")
        table, width = self._tensor("distances.weight"), self.config.hidden_size
        if self.config.relative_norm:
            norm = self._tensor("distances.norm.weight"), self._tensor("distances.norm.bias")
            table = F.layer_norm(table, (width,), *norm, self.config.layer_norm_eps)
        if not self.config.relative_shared:
            return F.linear(
                table, self._tensor(f"{name}.distances.{part}.weight"), self._tensor(f"{name}.distances.{part}.bias")
            )
        rows = slice(width, 2 * width) if part == "key" else slice(0, width)
        return F.linear(table, self._tensor(f"{name}.qkv.weight")[rows], self._tensor(f"{name}.qkv.bias")[rows])

    def _tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.weights[name]))

    @property
    def _longest(self) -> int:
        return self.config.max_position_embeddings

    @cached_property
    def _table_rows(self) -> Tensor:
        """The table's row for every distance, from the most negative on. Shape: (2 * longest - 1,)."""
        return distance_rows(self.config, self._longest, torch.device("cpu"))

    @cached_property
    def _length(self) -> str:
        """The batch's length. Shape: (1,)."""
        return self.graph.op("Gather", self.rows.shape, self.graph.ints(1), axis=0)

    @cached_property
    def _both(self) -> str:
        """Twice the batch's length. Shape: (1,)."""
        return self.graph.op("Mul", self._length, self.graph.ints(2))

    @cached_property
    def _one_less(self) -> str:
        return self.graph.op("Sub", self._length, self.graph.ints(1))

    def _slice(self, table: str) -> str:
        """The columns for the distances of a batch, and one more, from those of the longest sequence's."""
        graph = self.graph
        start = graph.op("Sub", graph.ints(self._longest), self._length)
        end = graph.op("Add", graph.ints(self._longest), self._length)
        return graph.op("Slice", table, start, end, graph.ints(3))

    def _shifted(self, columns: str) -> str:
        """Row i's columns from `length - 1 - i` on. Shape: (…, length, 2 * length) → (…, length, length).

        The rows end to end, without the first `length - 1` numbers, are cut anew into rows that are one shorter: each
        then begins one column earlier than the one before.
        """
        graph = self.graph
        flat = graph.op("Reshape", columns, graph.ints(0, 0, -1))
        shorter = graph.op("Sub", self._both, graph.ints(1))
        end = graph.op("Add", self._one_less, graph.op("Mul", self._length, shorter))
        cut = graph.op("Slice", flat, self._one_less, end, graph.ints(2))
        shape = graph.op("Concat", graph.ints(0, 0), self._length, shorter, axis=0)
        rows = graph.op("Reshape", cut, shape)
        return graph.op("Slice", rows, graph.ints(0), self._length, graph.ints(3))


def _with_one_more(columns: FloatArray) -> FloatArray:
    """Shape: (…, n) → (…, n + 1)."""
    return np.concatenate([columns, np.zeros_like(columns[..., :1])], axis=-1)
