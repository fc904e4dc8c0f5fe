"""Rows of a network's output by ONNX Runtime and by PyTorch, in the same form: an array for every sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.data.batching import sorted_batches
from bertune.data.features import IGNORED, Features
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.inference.evaluation import infer
from bertune.inference.network import Network
from bertune.ragged import Ragged
from bertune.tasks.masking.head import MaskedWords, PretrainingHead, most_probable

FloatArray = npt.NDArray[np.float32]
Rows = list[FloatArray]
"""A head's output for every sequence. Shape: (outputs,) or (tokens, outputs) each."""

_TOKENS = 4096


class OnnxModel:
    """An exported graph in ONNX Runtime."""

    def __init__(self, path: Path, *, optimized: bool = True) -> None:
        """Open it. optimized: let ONNX Runtime fuse operators, as it does when nothing is said."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow PyTorch's threads
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value.shape for value in self.session.get_inputs()}
        names = [value.name for value in self.session.get_outputs()]
        self.outputs = [name for name in names if name != "last_hidden_state"]

    def rows(self, features: Features) -> Rows:
        """The output for every sequence, in order; similar lengths are computed together."""
        found: Rows = [np.zeros(0, np.float32)] * len(features)
        lengths = features.input_ids.lengths
        for batch in sorted_batches(lengths, max_tokens=_TOKENS, max_sequences=64):
            for row, values in zip(batch, self.run(features, batch), strict=True):
                found[int(row)] = values
        return found

    def run(self, features: Features, batch: npt.NDArray[np.integer]) -> Rows:
        """The output for some sequences, padded to the longest of them."""
        feed = padded_inputs(features, batch)
        by_choice = len(self.inputs["input_ids"]) == 3
        shaped = {name: feed[name][:, None] if by_choice else feed[name] for name in self.inputs}
        results = self.session.run(self.outputs, shaped)
        values = np.stack(results, -1) if len(results) == 2 else results[0]
        if values.ndim == 2:
            return list(values)
        return [row[:length] for row, length in zip(values, feed["attention_mask"].sum(1), strict=True)]


def padded_inputs(features: Features, batch: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.int64]]:
    """Some sequences as the inputs of Hugging Face's models. Shape: (sequences, longest) each."""
    longest = int(features.input_ids.lengths[batch].max())
    feed = {
        name: np.zeros((len(batch), longest), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for place, row in enumerate(batch):
        ids = features.input_ids[int(row)]
        feed["input_ids"][place, : len(ids)] = ids
        feed["attention_mask"][place, : len(ids)] = 1
        feed["token_type_ids"][place, : len(ids)] = features.segment_ids[int(row)]
    return feed


def pytorch_rows(network: Network, features: Features) -> Rows:
    """What the graph must give, by PyTorch: of masked words the logits of the whole vocabulary."""
    if isinstance(network.head, PretrainingHead):
        words = _Words(network.head.masked_lm, network.encoder.embeddings.word.weight)
        network = Network(network.encoder, words)
    return infer(network, features).logits


class _Words(nn.Module):
    """Logits of the whole vocabulary for every token, as the exported graph has them."""

    def __init__(self, words: MaskedWords, table: Tensor) -> None:
        super().__init__()
        self.words, self.table = words, table

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: sequence_output (tokens, hidden) → (tokens, vocabulary)."""
        logits: Tensor = self.words(output.sequence_output, self.table)
        return logits


def for_task(head: nn.Module, rows: Sequence[FloatArray], features: Features) -> Sequence[FloatArray]:
    """Rows in the form that the task's `decode` and `metrics` take; other than the graph's for masked words alone."""
    if not isinstance(head, PretrainingHead):
        return rows
    asking = "asked" in features.targets
    marks = features.targets["asked" if asking else "labels"]
    if not isinstance(marks, Ragged):
        raise TypeError("features were made for another task")
    return [_masked(row, marks[i], asking=asking) for i, row in enumerate(rows)]


def _masked(row: FloatArray, marks: npt.NDArray[np.int32], *, asking: bool) -> FloatArray:
    """See `PretrainingHead.with_embeddings`. Shape: (tokens, vocabulary) → (tokens, columns)."""
    import torch

    at = np.flatnonzero(marks != IGNORED)
    logits = torch.from_numpy(row[at])
    if asking:
        values = most_probable(logits)
    else:
        labels = torch.from_numpy(marks[at].astype(np.int64))
        log_prob = -F.cross_entropy(logits, labels, reduction="none")
        values = F.pad(torch.stack([log_prob, (logits.argmax(1) == labels).float()], 1), (0, 2))
    found = np.zeros((len(row), values.shape[1]), np.float32)
    found[at] = values.numpy()
    return found
