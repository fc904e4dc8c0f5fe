"""Rows of a network's output by PyTorch, in the form that `inference.onnx_model` gives."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.features import IGNORED, Features, Ragged
from bertune.inference.evaluation import infer
from bertune.inference.onnx_model import FloatArray, Rows
from bertune.network import Network
from bertune.tasks.masking.head import MaskedWords, PretrainingHead, most_probable


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
        """Shape: token_output (tokens, hidden) → (tokens, vocabulary)."""
        logits: Tensor = self.words(output.token_output, self.table)
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
