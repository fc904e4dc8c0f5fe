"""Our encoder as ONNX operators: every family whose wiring `EncoderConfig` describes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.export.graph import Graph
from bertune.export.layers import LEAST, Float32Products, FloatArray, Products, Rows, activate, layer_norm, rms_norm
from bertune.export.relative import RelativeGraph

WORDS = "embeddings.word"
"""Name of the table of words' vectors."""
FAMILIES = (
    *("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra", "albert", "modernbert"),
    *("mpnet", "deberta-v2", "eurobert", "ultrabert", "nomic_bert", "gte"),
)
"""Families whose graphs are written, and compared with PyTorch's in the tests."""


def check_family(config: EncoderConfig) -> None:
    """Refuse an encoder that this module has no operators for.

    Raises:
        InputError: naming the family and those that can be exported.
    """
    if config.family not in FAMILIES:
        raise InputError(
            f"export: encoders of the family {config.family!r} are not supported; {', '.join(FAMILIES)} are"
        )


@dataclass(frozen=True)
class Encoded:
    """What the graph holds of an encoder's output.

    tokens: `sequence_output`; "" where only first tokens were computed. Shape: (tokens, hidden).
    pooled: `pooled_output`; "" where it was not asked for. Shape: (batch, hidden).
    layers: the embeddings' and every layer's output where they were asked for. Shape: (tokens, hidden) each.
    """

    tokens: str
    pooled: str
    layers: tuple[str, ...] = ()


@dataclass
class EncoderGraph:
    """Writes an encoder into a graph.

    graph: that grows.
    config: the encoder's numbers.
    weights: its `state_dict`, in float32.
    products: how products with weights are written.
    rows: where real tokens lie.
    reuses_words: the head multiplies by the table of words, which is then in float32 and in the file once.
    """

    graph: Graph
    config: EncoderConfig
    weights: Mapping[str, FloatArray]
    products: Products
    rows: Rows
    reuses_words: bool = False
    _segments: str | None = None
    _rotations: dict[float, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Distances between tokens have operators of their own."""
        self.relative = RelativeGraph(self.graph, self.config, self.weights, self.rows)

    def write(
        self, input_ids: str, segment_ids: str | None, *, keep_layers: bool, only_pooled: bool, pooled: bool
    ) -> Encoded:
        """Write all of it.

        Args:
            input_ids: Shape: (batch, length).
            segment_ids: likewise; None where the family has no segments.
            keep_layers: also give every layer's output.
            only_pooled: give the pooled output alone; the last layer then computes first tokens only.
            pooled: give the pooled output.
        """
        config = self.config
        self._segments = segment_ids
        x = self._embeddings(input_ids, segment_ids)
        kept = [x]
        first_only = only_pooled and config.pooling == "first" and not keep_layers
        first_only = first_only and not config.relative and not config.convolution
        last = config.num_hidden_layers - 1
        for index in range(last + 1):
            x = self._layer(x, index, first_only=first_only and index == last)
            if index == 0 and config.convolution:
                x = self._convolution(kept[0], x)
            if index == last and config.pre_norm:
                x = self.norm(x, "norm")
            kept.append(x)
        result = ""
        if (pooled or only_pooled) and config.pooling == "late":
            result = self._pool(self.transform(x))
        elif pooled or only_pooled:
            result = self.transform(x if first_only else self._pool(x))
        return Encoded("" if first_only else x, result, tuple(kept) if keep_layers else ())

    def linear(self, x: str, name: str, rows: slice = slice(None), least: float | None = None) -> str:
        """A product with a weight of the encoder, or with some of its rows. Shape: (…, inputs) → (…, outputs).

        least: see `Products.linear`.
        """
        bias = self.weights.get(f"{name}.bias")
        weight = self.weights[f"{name}.weight"]
        suffix = "" if rows == slice(None) else f".{rows.start}"
        return self.products.linear(
            self.graph, x, f"{name}{suffix}", weight[rows], None if bias is None else bias[rows], least
        )

    def norm(self, x: str, name: str) -> str:
        """A normalisation of the encoder. Shape: (rows, hidden) → the same."""
        if self.config.norm == "rms":
            return rms_norm(self.graph, x, name, self.weights[f"{name}.weight"], self.config.layer_norm_eps)
        bias = self.weights.get(f"{name}.bias")
        return layer_norm(self.graph, x, name, self.weights[f"{name}.weight"], bias, self.config.layer_norm_eps)

    def transform(self, x: str) -> str:
        """The pooler, where there is one. Shape: (rows, hidden) → (rows, hidden)."""
        if not self.config.pooler:
            return x
        active = activate(self.graph, self._plain(x, "pooler"), self.config.pooler_act)
        return self.norm(active, "pooler_norm") if self.config.pooler_norm else active

    def for_token_heads(self, encoded: Encoded) -> str:
        """What heads on single tokens take. Shape: (tokens, hidden)."""
        return self.transform(encoded.tokens) if self.config.pooler_norm else encoded.tokens

    def mean(self, tokens: str) -> str:
        """The mean of every sequence's rows. Shape: (tokens, width) → (batch, width)."""
        graph, rows = self.graph, self.rows
        real = graph.op("Unsqueeze", graph.op("Cast", rows.mask, to=1), graph.ints(1))  # (batch, 1, length)
        total = graph.op("Squeeze", graph.op("MatMul", real, rows.to_padded(tokens)), graph.ints(1))
        count = graph.op("Cast", graph.op("Unsqueeze", rows.lengths, graph.ints(1)), to=1)
        return graph.op("Div", total, count)

    def means_of_segments(self, tokens: str) -> tuple[str, str]:
        """The mean of every sequence's rows of the first segment, and of the second; zero where it has none of them.

        Shape: (tokens, width) → (batch, width) twice.
        """
        graph, rows = self.graph, self.rows
        assert self._segments is not None, "the head was refused for an encoder without segments"
        real = graph.op("Cast", rows.mask, to=1)
        second = graph.op("Mul", graph.op("Cast", self._segments, to=1), real)
        padded, found = rows.to_padded(tokens), []
        for share in (graph.op("Sub", real, second), second):
            spread = graph.op("Unsqueeze", share, graph.ints(1))  # (batch, 1, length)
            total = graph.op("Squeeze", graph.op("MatMul", spread, padded), graph.ints(1))
            count = graph.op("ReduceSum", share, graph.ints(1), keepdims=1)
            found.append(graph.op("Div", total, graph.op("Max", count, graph.scalar(1.0))))
        return found[0], found[1]

    def _plain(self, x: str, name: str) -> str:
        """A product in float32 whatever the others are written in. Shape: (rows, inputs) → (rows, outputs)."""
        inputs = [x, self.graph.weight(f"{name}.weight", self.weights[f"{name}.weight"])]
        if (bias := self.weights.get(f"{name}.bias")) is not None:
            inputs.append(self.graph.weight(f"{name}.bias", bias))
        return self.graph.op("Gemm", *inputs, transB=1)

    def _pool(self, x: str) -> str:
        return self.rows.first_tokens(x) if self.config.pooling == "first" else self.mean(x)

    def _embeddings(self, input_ids: str, segment_ids: str | None) -> str:
        graph, rows, weights = self.graph, self.rows, self.weights
        products = Float32Products() if self.reuses_words else self.products
        x = products.words(graph, WORDS, weights[f"{WORDS}.weight"], rows.real(input_ids))
        if "embeddings.position.weight" in weights:
            table = weights["embeddings.position.weight"][self.config.position_offset :]
            position = graph.weight("embeddings.position.weight", table)
            x = graph.op("Add", x, graph.op("Gather", position, rows.positions, axis=0))
        if "embeddings.segment.weight" in weights:
            segments = weights["embeddings.segment.weight"]
            if segment_ids is None:
                x = graph.op("Add", x, graph.weight("embeddings.segment.weight", segments[0]))
            else:
                segment = graph.weight("embeddings.segment.weight", segments)
                x = graph.op("Add", x, graph.op("Gather", segment, rows.real(segment_ids), axis=0))
        if self.config.embedding_norm:
            x = self.norm(x, "embeddings.norm")
        return self._plain(x, "embeddings.projection") if "embeddings.projection.weight" in weights else x

    def _layer(self, x: str, index: int, *, first_only: bool) -> str:
        graph, config = self.graph, self.config
        name = f"layers.{index % config.stored_layers}"
        residual = self.rows.first_tokens(x) if first_only else x
        if config.pre_norm:
            normal = self.norm(x, f"{name}.attention_norm") if index or not config.embedding_norm else x
            x = graph.op("Add", residual, self._attention(normal, index, first_only=first_only))
            return graph.op("Add", x, self._feed_forward(self.norm(x, f"{name}.feed_forward_norm"), name))
        attended = self._attention(x, index, first_only=first_only)
        x = self.norm(graph.op("Add", attended, residual), f"{name}.attention_norm")
        return self.norm(graph.op("Add", self._feed_forward(x, name), x), f"{name}.feed_forward_norm")

    def _convolution(self, embeddings: str, x: str) -> str:
        """See `bertune.encoder.convolution`. Shape: (tokens, hidden) twice → (tokens, hidden)."""
        graph, config = self.graph, self.config
        real = graph.op("Unsqueeze", graph.op("Cast", self.rows.mask, to=1), graph.ints(2))
        channels = graph.op("Transpose", graph.op("Mul", self.rows.to_padded(embeddings), real), perm=(0, 2, 1))
        parts = [
            graph.weight(f"convolution.{part}", self.weights[f"convolution.{part}"]) for part in ("weight", "bias")
        ]
        side = config.convolution // 2
        found = graph.op("Conv", channels, *parts, group=config.convolution_groups, pads=(side, side))
        flat = graph.op("Reshape", graph.op("Transpose", found, perm=(0, 2, 1)), graph.ints(-1, config.hidden_size))
        found = graph.op("Gather", flat, self.rows.places, axis=0)
        return self.norm(graph.op("Add", x, activate(graph, found, config.convolution_act)), "convolution.norm")

    def _feed_forward(self, x: str, name: str) -> str:
        graph, config = self.graph, self.config
        if config.gated:
            half = config.intermediate_size
            first = self.linear(x, f"{name}.feed_forward.up", slice(0, half))
            second = self.linear(x, f"{name}.feed_forward.up", slice(half, 2 * half))
            gate, up = (second, first) if config.gate_last else (first, second)
            active = graph.op("Mul", activate(graph, gate, config.hidden_act), up)
        else:
            active = activate(graph, self.linear(x, f"{name}.feed_forward.up"), config.hidden_act)
        least = None if config.gated else LEAST.get(config.hidden_act)
        return self.linear(active, f"{name}.feed_forward.down", least=least)

    def _attention(self, x: str, index: int, *, first_only: bool) -> str:
        """Shape: (tokens, hidden) → (tokens, hidden); with `first_only` → (batch, hidden)."""
        graph, config, rows = self.graph, self.config, self.rows
        layer, width = index % config.stored_layers, config.hidden_size
        is_local = config.is_local(index)
        base = config.local_rotary_base if is_local else config.rotary_base
        q, k, v = self._projected(x, layer, base, first_only=first_only)
        q = graph.op("Unsqueeze", self._by_head(q), graph.ints(2)) if first_only else self._padded_heads(q)
        k, v = self._padded_heads(k), self._padded_heads(v)
        bias = rows.local_bias(config.local_window) if is_local else rows.bias
        if is_local and first_only:
            bias = graph.op("Slice", bias, graph.ints(0), graph.ints(1), graph.ints(1))
        if config.relative:
            bias = graph.op("Add", self.relative.scores(q, k, layer), bias)
        # ONNX Runtime makes one operator of the product, the scale and the transposition of its second operand.
        scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=(0, 1, 3, 2)))
        scores = graph.op("Mul", scores, graph.scalar(self.relative.scale))
        shares = graph.op("Softmax", graph.op("Add", scores, bias), axis=-1)
        context = graph.op("MatMul", shares, v)  # (heads, batch, length, head size)
        if first_only:
            context = graph.op("Squeeze", context, graph.ints(2))
        else:
            flat = graph.op("Reshape", context, graph.ints(config.num_attention_heads, -1, config.head_size))
            context = graph.op("Gather", flat, rows.places, axis=1)
        context = graph.op("Reshape", graph.op("Transpose", context, perm=(1, 0, 2)), graph.ints(-1, width))
        return self.linear(context, f"layers.{layer}.attention.output")

    def _projected(self, x: str, layer: int, base: float, *, first_only: bool) -> tuple[str, str, str]:
        """Queries, keys and values, rotated where positions are rotary. Shape: (tokens, hidden) each.

        With `first_only`, queries have one row a sequence.
        """
        config, rows, name = self.config, self.rows, f"layers.{layer}.attention.qkv"
        width, shared = config.hidden_size, (config.key_value_heads or config.num_attention_heads) * config.head_size
        queried = rows.first_tokens(x) if first_only and not base else x
        q = self.linear(queried, name, slice(0, width))
        k = self.linear(x, name, slice(width, width + shared))
        v = self.linear(x, name, slice(width + shared, width + 2 * shared))
        if base:
            q, k = self._rotated(q, base), self._rotated(k, base)
            q = rows.first_tokens(q) if first_only else q
        return q, self._repeated(k), self._repeated(v)

    def _repeated(self, x: str) -> str:
        """Keys or values for every head of queries. Shape: (tokens, key_value_heads * head size) → (tokens, hidden)."""
        graph, config = self.graph, self.config
        if not config.key_value_heads:
            return x
        times = config.num_attention_heads // config.key_value_heads
        by_head = graph.op("Reshape", x, graph.ints(0, config.key_value_heads, 1, config.head_size))
        wide = graph.op("Expand", by_head, graph.ints(1, 1, times, 1))
        return graph.op("Reshape", wide, graph.ints(0, config.hidden_size))

    def _by_head(self, x: str) -> str:
        """Shape: (rows, hidden) → (heads, rows, head size)."""
        heads, size = self.config.num_attention_heads, self.config.head_size
        split = self.graph.op("Reshape", x, self.graph.ints(-1, heads, size))
        return self.graph.op("Transpose", split, perm=(1, 0, 2))

    def _padded_heads(self, x: str) -> str:
        """Rows by head and sequence; heads come first, so that padding is not transposed.

        Shape: (tokens, hidden) → (heads, batch, length, head size).
        """
        return self.graph.op("Gather", self._by_head(x), self.rows.padded, axis=1)

    def _rotated(self, x: str, base: float) -> str:
        """Rotary positions; see `bertune.encoder.rotary.rotated`. Shape: (tokens, heads * head size) → the same."""
        graph, size = self.graph, self.config.head_size
        if base not in self._rotations:
            self._rotations[base] = self._rotation(base)
        cos, sin = self._rotations[base]
        by_head = graph.op("Reshape", x, graph.ints(0, -1, size))
        first, second = graph.op_many("Split", (by_head, graph.ints(size // 2, size // 2)), 2, axis=2)
        turned = graph.op("Concat", graph.op("Neg", second), first, axis=2)
        total = graph.op("Add", graph.op("Mul", by_head, cos), graph.op("Mul", turned, sin))
        return graph.op("Reshape", total, graph.op("Shape", x))

    def _rotation(self, base: float) -> tuple[str, str]:
        """Cosine and sine of every token's angles. Shape: (tokens, 1, head size)."""
        graph, size = self.graph, self.config.head_size
        exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
        scale = self.config.rotary_scale if base == self.config.rotary_base else 1.0
        steps = (np.float32(scale) / np.float32(base) ** exponents).astype(np.float32)
        both = graph.weight(f"rotary.{base:g}", np.concatenate([steps, steps])[None, None])
        places = graph.op("Cast", graph.op("Unsqueeze", self.rows.positions, graph.ints(1, 2)), to=1)
        angles = graph.op("Mul", places, both)
        return graph.op("Cos", angles), graph.op("Sin", angles)
