"""Heads as ONNX operators, by their classes; a new kind of head is written by registering a function for its class."""

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from torch import nn

from bertune.export.encoder import WORDS, Encoded, EncoderGraph
from bertune.export.layers import FloatArray, activate, layer_norm
from bertune.export.outputs import HeadOutput
from bertune.export.user_heads import traced_head
from bertune.tasks.masking.head import PretrainingHead
from bertune.tasks.shared.heads import PooledHead, PoolingHead, TokenHead
from bertune.tasks.shared.layers import LayerMix, LayersHead
from bertune.tasks.shared.pair_head import PairHead
from bertune.tasks.squad.head import SpanHead


@dataclass(frozen=True)
class Needs:
    """What a head reads of the encoder; see `EncoderGraph.write`."""

    layers: bool = False
    only_pooled: bool = False
    pooled: bool = False


def is_own(head: nn.Module) -> bool:
    """Whether a head's operators are written here; those of task files are exported by PyTorch."""
    return type(head) in write_head.registry


def needs_of(head: nn.Module) -> Needs:
    """What the encoder's graph must give for a head."""
    only_pooled = getattr(head, "reads", None) == "pooled_output"
    pooled = only_pooled or not is_own(head)  # what else the head of a task file reads is not known
    return Needs(bool(getattr(head, "needs_layers", False)), only_pooled, pooled)


@singledispatch
def write_head(head: nn.Module, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    """Write a head into the encoder's graph; one of a class that is not registered is exported by PyTorch.

    Raises:
        InputError: a head that PyTorch cannot export.
    """
    return traced_head(head, writer, encoded)


@write_head.register
def _(head: PooledHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    return HeadOutput(_linear(writer, encoded.pooled, head), "sequence", len(head.weight))


@write_head.register
def _(head: TokenHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    return HeadOutput(_linear(writer, writer.for_token_heads(encoded), head), "token", len(head.weight))


@write_head.register
def _(head: SpanHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    return HeadOutput(_linear(writer, writer.for_token_heads(encoded), head), "token", len(head.weight))


@write_head.register
def _(head: LayersHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    mixed = _mixed(head.mix, writer, encoded)
    rows = mixed if head.tokens else writer.rows.first_tokens(mixed)
    return HeadOutput(_linear(writer, rows, head), "token" if head.tokens else "sequence", len(head.weight))


@write_head.register
def _(head: PairHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    graph = writer.graph
    one, other = writer.means_of_segments(encoded.tokens)
    difference = graph.op("Abs", graph.op("Sub", one, other))
    compared = graph.op("Concat", one, other, difference, graph.op("Mul", one, other), axis=1)
    dense = (graph.weight(f"head.{name}", values(getattr(head, name))) for name in ("dense_weight", "dense_bias"))
    active = graph.op("Tanh", graph.op("Gemm", compared, *dense, transB=1))
    return HeadOutput(_linear(writer, active, head), "sequence", len(head.weight))


@write_head.register
def _(head: PoolingHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    graph, config = writer.graph, writer.config
    tokens = _mixed(head.mix, writer, encoded) if head.needs_layers else encoded.tokens
    width = head.mix.width if head.needs_layers else config.hidden_size
    pooled = writer.rows.first_tokens(tokens) if head.pooling == "cls" else writer.mean(tokens)
    if head.normalize:
        length = graph.op("ReduceL2", pooled, axes=(1,), keepdims=1)
        pooled = graph.op("Div", pooled, graph.op("Max", length, graph.scalar(1e-12)))
    return HeadOutput(pooled, "embedding", width, encoded.tokens)


@write_head.register
def _(head: PretrainingHead, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    graph, words = writer.graph, head.masked_lm
    x = writer.for_token_heads(encoded)
    if words.has_transform:
        active = activate(graph, _linear(writer, x, words.transform, "masked_lm.transform"), words.activation)
        norm = values(words.norm.weight), values(words.norm.bias)
        x = layer_norm(graph, active, "masked_lm.norm", *norm, words.norm.eps)
    own = graph.weight("masked_lm.table", values(words.table)) if words.own_vectors else f"{WORDS}.weight"
    biases = [graph.weight("masked_lm.bias", values(words.output_bias))] if words.has_bias else []
    logits = graph.op("Gemm", x, own, *biases, transB=1)
    return HeadOutput(logits, "token", writer.config.vocab_size)


def values(tensor: Any) -> FloatArray:
    """A parameter as float32 numbers."""
    found: FloatArray = tensor.detach().float().cpu().numpy()
    return found


def _linear(writer: EncoderGraph, x: str, head: Any, name: str = "head") -> str:
    graph = writer.graph
    weight, bias = graph.weight(f"{name}.weight", values(head.weight)), graph.weight(f"{name}.bias", values(head.bias))
    return graph.op("Gemm", x, weight, bias, transB=1)


def _mixed(mix: LayerMix, writer: EncoderGraph, encoded: Encoded) -> str:
    """See `LayerMix.forward`."""
    graph = writer.graph
    if mix.kind == "last":
        return encoded.tokens
    if mix.kind == "last4":
        return graph.op("Concat", *encoded.layers[-4:], axis=1)
    shares = (mix.scale * mix.weights.softmax(0)).tolist()
    parts = [graph.op("Mul", layer, graph.scalar(share)) for layer, share in zip(encoded.layers, shares, strict=True)]
    return graph.op("Sum", *parts)
