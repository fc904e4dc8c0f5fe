"""A fine-tuned network as an ONNX model with the inputs and outputs that Hugging Face's exports have."""

from typing import Any

import bertune
from bertune.export.encoder import EncoderGraph, check_family
from bertune.export.graph import Axes, Graph
from bertune.export.heads import needs_of, values, write_head
from bertune.export.layers import Float32Products, Products, Rows
from bertune.export.outputs import HeadOutput
from bertune.network import Network
from bertune.tasks.masking.head import PretrainingHead

QUESTIONS, CHOICES = "ForQuestionAnswering", "ForMultipleChoice"
"""Kinds of heads whose inputs or outputs differ, as `task_kind` names them."""


def network_model(network: Network, kind: str, products: Products | None = None) -> Any:
    """The `onnx.ModelProto` of a network.

    Inputs are int64: `input_ids`, `attention_mask`, and `token_type_ids` where the family has several segments. Shape:
    (batch, length), of multiple choice (batch, choices, length). Outputs are float32: `logits`; of question answering
    `start_logits` and `end_logits`; of embeddings `last_hidden_state` and `sentence_embedding`.

    Args:
        network: in float32.
        kind: transformers' class for its head, after the family's name.
        products: how products of the encoder are written; float32 when left out.

    Raises:
        InputError: a family or a head without operators.
    """
    config = network.encoder.config
    check_family(config)
    graph = Graph()
    axes = ("batch", "choices", "length") if kind == CHOICES else ("batch", "length")
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if config.type_vocab_size > 1 else [])
    inputs = {name: graph.input(name, axes) for name in names}
    if kind == CHOICES:
        width = graph.op("Gather", graph.op("Shape", "input_ids"), graph.ints(2), axis=0)
        flat = graph.op("Concat", graph.ints(-1), width, axis=0)
        inputs = {name: graph.op("Reshape", value, flat) for name, value in inputs.items()}
    rows = Rows(graph, inputs["attention_mask"])
    weights = {name: values(tensor) for name, tensor in network.encoder.state_dict().items()}
    reuses_words = isinstance(network.head, PretrainingHead)
    writer = EncoderGraph(graph, config, weights, products or Float32Products(), rows, reuses_words)
    needs = needs_of(network.head)
    encoded = writer.write(
        inputs["input_ids"],
        inputs.get("token_type_ids"),
        keep_layers=needs.layers,
        only_pooled=needs.only_pooled,
        pooled=needs.pooled,
    )
    _write_outputs(graph, rows, write_head(network.head, writer, encoded), kind)
    return graph.model("bertune", bertune.__version__)


def _write_outputs(graph: Graph, rows: Rows, head: HeadOutput, kind: str) -> None:
    if head.unit == "embedding":
        graph.output("last_hidden_state", rows.to_padded(head.tokens), ("batch", "length", "hidden"))
        graph.output("sentence_embedding", head.value, ("batch", head.width))
    elif kind == CHOICES:
        shape = graph.op("Slice", graph.op("Shape", "input_ids"), graph.ints(0), graph.ints(2))
        graph.output("logits", graph.op("Reshape", head.value, shape), ("batch", "choices"))
    elif head.unit == "sequence":
        graph.output("logits", head.value, ("batch", head.width))
    elif kind == QUESTIONS:
        both = graph.op_many("Split", (rows.to_padded(head.value), graph.ints(1, 1)), 2, axis=2)
        axes: Axes = ("batch", "length")
        for name, value in zip(("start_logits", "end_logits"), both, strict=True):
            graph.output(name, graph.op("Squeeze", value, graph.ints(2)), axes)
    else:
        graph.output("logits", rows.to_padded(head.value), ("batch", "length", head.width))
