"""The parts of an encoder as ONNX operators, on one flat axis of real tokens.

Products, activations and norms see real tokens only: padding exists around the attention product alone, as in
`bertune.encoder`. The token axis is gathered from the padded inputs by their attention mask, inside the graph, so that
its signature is that of every exported BERT.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bertune.export.graph import Graph

FloatArray = npt.NDArray[np.float32]

HIDDEN = -1e9
"""Added to attention scores of padding: float32 keeps nothing of a score beside it."""


LEAST = {"gelu": -0.1701, "gelu_tanh": -0.1701, "silu": -0.2785, "relu": 0.0}
"""Numbers a little below the smallest that an activation gives."""


class Products(Protocol):
    """How products with weights, and the table of words, are written: in float32, or in 8 bits."""

    def linear(
        self, graph: Graph, x: str, name: str, weight: FloatArray, bias: FloatArray | None, least: float | None = None
    ) -> str:
        """X Wᵀ + b. weight: Shape: (outputs, inputs); x: Shape: (rows, inputs) → (rows, outputs).

        least: no value of x lies below it; None: it is not known.
        """
        ...

    def words(self, graph: Graph, name: str, table: FloatArray, ids: str) -> str:
        """Rows of a table. table: Shape: (vocabulary, width); ids: Shape: (tokens,) → (tokens, width)."""
        ...


class Float32Products:
    """Products in float32."""

    def linear(
        self,
        graph: Graph,
        x: str,
        name: str,
        weight: FloatArray,
        bias: FloatArray | None,
        least: float | None = None,  # noqa: ARG002
    ) -> str:
        """See `Products`."""
        inputs = [x, graph.weight(f"{name}.weight", weight)]
        if bias is not None:
            inputs.append(graph.weight(f"{name}.bias", bias))
        return graph.op("Gemm", *inputs, transB=1)

    def words(self, graph: Graph, name: str, table: FloatArray, ids: str) -> str:
        """See `Products`."""
        return graph.op("Gather", graph.weight(f"{name}.weight", table), ids, axis=0)


@dataclass(frozen=True)
class Rows:
    """Where the real tokens of a padded batch lie.

    graph: that the values belong to.
    mask: attention mask. Shape: (batch, length), int64.
    """

    graph: Graph
    mask: str

    @cached_property
    def flat(self) -> str:
        """The mask along one axis. Shape: (batch * length,)."""
        return self.graph.op("Reshape", self.mask, self.graph.ints(-1))

    @cached_property
    def places(self) -> str:
        """Every real token's place on the padded axis. Shape: (tokens,)."""
        found = self.graph.op("NonZero", self.flat)  # (1, tokens)
        return self.graph.op("Squeeze", found, self.graph.ints(0))

    @cached_property
    def padded(self) -> str:
        """Every place's token; padding points at the token before it. Shape: (batch, length)."""
        graph = self.graph
        counted = graph.op("Sub", graph.op("CumSum", self.flat, graph.scalar(0, np.int64)), graph.ints(1))
        return graph.op("Reshape", graph.op("Max", counted, graph.ints(0)), self.shape)

    @cached_property
    def shape(self) -> str:
        """(batch, length) as a vector."""
        return self.graph.op("Shape", self.mask)

    @cached_property
    def lengths(self) -> str:
        """Real tokens of every sequence. Shape: (batch,)."""
        return self.graph.op("ReduceSum", self.mask, self.graph.ints(1), keepdims=0)

    @cached_property
    def starts(self) -> str:
        """Every sequence's first token. Shape: (batch,)."""
        counted = self.graph.op("CumSum", self.lengths, self.graph.scalar(0, np.int64))
        return self.graph.op("Sub", counted, self.lengths)

    @cached_property
    def columns(self) -> str:
        """0, 1, … length - 1. Shape: (length,)."""
        graph = self.graph
        length = graph.op("Gather", self.shape, graph.scalar(1, np.int64), axis=0)
        return graph.op("Range", graph.scalar(0, np.int64), length, graph.scalar(1, np.int64))

    @cached_property
    def positions(self) -> str:
        """Every real token's place in its sequence, from 0. Shape: (tokens,)."""
        graph = self.graph
        counted = graph.op("Sub", graph.op("CumSum", self.mask, graph.scalar(1, np.int64)), graph.ints(1))
        return self.real(counted)

    @cached_property
    def bias(self) -> str:
        """Zero for keys that are real, HIDDEN for padding. Shape: (batch, 1, length)."""
        graph = self.graph
        real = graph.op("Cast", self.mask, to=1)
        hidden = graph.op("Mul", graph.op("Sub", real, graph.scalar(1.0)), graph.scalar(-HIDDEN))
        return graph.op("Unsqueeze", hidden, graph.ints(1))

    def local_bias(self, window: int) -> str:
        """`bias` with HIDDEN for keys further away than `window` places. Shape: (batch, length, length)."""
        graph = self.graph
        row, column = (graph.op("Unsqueeze", self.columns, graph.ints(axis)) for axis in (1, 0))
        apart = graph.op("Abs", graph.op("Sub", row, column))
        far = graph.op("Cast", graph.op("Greater", apart, graph.ints(window)), to=1)
        return graph.op("Add", self.bias, graph.op("Mul", far, graph.scalar(HIDDEN)))

    def real(self, padded: str) -> str:
        """Values of real tokens. Shape: (batch, length) → (tokens,)."""
        flat = self.graph.op("Reshape", padded, self.graph.ints(-1))
        return self.graph.op("Gather", flat, self.places, axis=0)

    def to_padded(self, tokens: str) -> str:
        """Rows by sequence; padding holds copies of other rows. Shape: (tokens, width) → (batch, length, width)."""
        return self.graph.op("Gather", tokens, self.padded, axis=0)

    def first_tokens(self, tokens: str) -> str:
        """Shape: (tokens, width) → (batch, width)."""
        return self.graph.op("Gather", tokens, self.starts, axis=0)


def layer_norm(graph: Graph, x: str, name: str, weight: FloatArray, bias: FloatArray | None, eps: float) -> str:
    """Shape: (rows, width) → (rows, width)."""
    inputs = [x, graph.weight(f"{name}.weight", weight)]
    inputs.append(graph.weight(f"{name}.bias", np.zeros_like(weight) if bias is None else bias))
    return graph.op("LayerNormalization", *inputs, axis=-1, epsilon=eps)


def rms_norm(graph: Graph, x: str, name: str, weight: FloatArray, eps: float) -> str:
    """Division by the root mean square, in the pattern that runtimes fuse. Shape: (rows, width) → (rows, width)."""
    square = graph.op("ReduceMean", graph.op("Pow", x, graph.scalar(2.0)), axes=(-1,), keepdims=1)
    root = graph.op("Sqrt", graph.op("Add", square, graph.scalar(eps)))
    return graph.op("Mul", graph.op("Div", x, root), graph.weight(f"{name}.weight", weight))


def activate(graph: Graph, x: str, activation: str) -> str:
    """An activation of `encoder.config.ACTIVATIONS`, in the pattern that runtimes recognise and fuse."""
    if activation == "gelu":
        part = graph.op("Erf", graph.op("Div", x, graph.scalar(math.sqrt(2))))
        product = graph.op("Mul", x, graph.op("Add", part, graph.scalar(1.0)))
        return graph.op("Mul", product, graph.scalar(0.5))
    if activation == "gelu_tanh":
        cube = graph.op("Mul", graph.op("Pow", x, graph.scalar(3.0)), graph.scalar(0.044715))
        inner = graph.op("Mul", graph.op("Add", x, cube), graph.scalar(math.sqrt(2 / math.pi)))
        product = graph.op("Mul", x, graph.op("Add", graph.op("Tanh", inner), graph.scalar(1.0)))
        return graph.op("Mul", product, graph.scalar(0.5))
    if activation == "linear":
        return x
    if activation == "silu":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    return graph.op({"relu": "Relu", "tanh": "Tanh"}[activation], x)
