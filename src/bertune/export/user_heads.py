"""A head of a task file, exported by PyTorch and put behind the encoder's graph."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.export.encoder import Encoded, EncoderGraph
from bertune.export.graph import OPSET
from bertune.export.outputs import HeadOutput

_LENGTHS = (2, 4, 1)
"""Tokens of the sequences that a head is traced with: neither their number nor the tokens' is that of another axis."""


class _Traced(nn.Module):
    """A head as a function of tensors alone."""

    def __init__(self, head: nn.Module, *, only_pooled: bool) -> None:
        super().__init__()
        self.head, self.only_pooled = head, only_pooled

    def forward(self, lengths: Tensor, pooled: Tensor, tokens: Tensor, *layers: Tensor) -> Tensor:
        """Shape: (batch,), (batch, hidden), (tokens, hidden) each → (batch or tokens, outputs)."""
        layout = Layout(lengths, lengths.cumsum(0) - lengths, tokens.shape[0], tokens.shape[0], lengths.max())  # type: ignore[arg-type]
        output: Tensor = self.head(EncoderOutput(None if self.only_pooled else tokens, pooled, layers), layout)
        return output.float()


def traced_head(head: nn.Module, writer: EncoderGraph, encoded: Encoded) -> HeadOutput:
    """Put a head of any class behind the encoder's graph.

    Raises:
        InputError: PyTorch cannot export the head, or it gives something else than a row a sequence or token.
    """
    hidden, sequences, rows = writer.config.hidden_size, len(_LENGTHS), sum(_LENGTHS)
    names = ["lengths", "pooled", "tokens", *(f"layer_{i}" for i in range(len(encoded.layers)))]
    examples = [torch.tensor(_LENGTHS), torch.randn(sequences, hidden)]
    examples += [torch.randn(rows, hidden) for _ in names[2:]]
    traced = _Traced(head, only_pooled=not encoded.tokens).eval()
    shape = tuple(_run(head, traced, examples).shape)
    if len(shape) != 2 or shape[0] not in (sequences, rows):
        raise InputError(
            f"export: the head {type(head).__name__} gives a tensor of shape {shape} for {sequences} sequences of "
            f"{rows} tokens; only (sequences, outputs) and (tokens, outputs) can be exported"
        )
    values = (writer.rows.lengths, encoded.pooled, encoded.tokens or encoded.pooled, *encoded.layers)
    result = _merge(writer, _exported(head, traced, examples, names), dict(zip(names, values, strict=True)))
    return HeadOutput(result, "sequence" if shape[0] == sequences else "token", shape[1])


def _run(head: nn.Module, traced: nn.Module, examples: list[Tensor]) -> Tensor:
    try:
        with torch.no_grad():
            found: Tensor = traced(*examples)
            return found
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"export: the head {type(head).__name__} cannot be run by itself: {_line(error)}") from None


def _exported(head: nn.Module, traced: nn.Module, examples: list[Tensor], names: list[str]) -> Any:
    """PyTorch's export of a head as `onnx.ModelProto`."""
    import onnx

    axes = {name: {0: "batch" if name in ("lengths", "pooled") else "rows"} for name in names}
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as work:
            warnings.simplefilter("ignore")  # that this exporter is the older one, and that shapes are traced
            torch.onnx.export(
                traced, tuple(examples), Path(work) / "head.onnx", input_names=names, output_names=["result"],
                opset_version=OPSET, dynamic_axes={**axes, "result": {0: "rows_out"}}, dynamo=False,
            )  # fmt: skip
            return onnx.load(Path(work) / "head.onnx")
    except Exception as error:  # whatever PyTorch has for operators that it does not know
        raise InputError(
            f"export: PyTorch cannot export the head {type(head).__name__}: {_line(error)}; nothing was written"
        ) from None


def _merge(writer: EncoderGraph, model: Any, inputs: dict[str, str]) -> str:
    """Append a model's nodes to the graph; its inputs are values there. Returns the name of its result."""
    graph = writer.graph
    for tensor in model.graph.initializer:
        tensor.name = f"head/{tensor.name}"
        graph.constants.append(tensor)
    for node in model.graph.node:
        node.name = f"head/{node.name}"
        for names in (node.input, node.output):
            names[:] = [inputs.get(name, f"head/{name}") if name else "" for name in names]
        graph.nodes.append(node)
    return "head/result"


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
