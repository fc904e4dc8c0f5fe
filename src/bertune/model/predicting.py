"""Predicting, whatever computes the logits: PyTorch (`model.use.Model`) or ONNX Runtime (`bertune_runtime`)."""

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from bertune.data import in_memory
from bertune.data.prefetch import in_chunks
from bertune.features import Features
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.predictions import Predictions
from bertune.option_values import whole_number
from bertune.tasks.protocol import Logits, Prediction, Task
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.unknown import warn_of_unknown

logger = logging.getLogger(__name__)

CHUNK = 2048
"""Examples read, run and decoded at a time: predictions stream in constant memory."""


class Predictor(Protocol):
    """A model to predict with and to serve."""

    @property
    def task(self) -> Task[Any]:
        """Reads, featurizes and decodes."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        ...

    @property
    def max_seq_length(self) -> int:
        """Tokens of the longest sequence."""
        ...

    @property
    def record(self) -> Mapping[str, Any]:
        """What bertune.json says of its making."""
        ...

    @property
    def precision(self) -> str:
        """The numbers it computes in: float32, bfloat16, int8."""
        ...

    @property
    def version(self) -> str:
        """The first 12 digits of its weights' SHA-256."""
        ...

    @property
    def host_is_free(self) -> bool:
        """Whether the CPU can tokenize the next texts while the logits of the last ones are computed."""
        ...

    def compute_logits(self, features: Features, *, batch_size: int = 256) -> Logits:
        """One array a sequence, in the features' order. Shape: (outputs,) or (tokens, outputs) each, float32."""
        ...


def label_names(task: Task[Any]) -> tuple[str, ...]:
    """A task's labels in the order of its logits; empty for a task without labels."""
    for attribute in ("labels", "types"):  # a task of one's own may have either
        found = getattr(task, attribute, None)
        if isinstance(found, list | tuple):
            return tuple(str(label) for label in found)
    return ()


def predict(model: Predictor, items: Iterable[Any] | Path, *, batch_size: int = 256) -> Predictions:
    """Predictions for what the task takes, one each, in order.

    Args:
        model: computes the logits.
        items: for text classification strings or pairs of strings; or a table, or the path of a file as a `Path`.
        batch_size: largest number of sequences in a batch.

    Raises:
        InputError: an item that the task cannot take.
    """
    batch_size = whole_number("predict: batch_size", batch_size)
    if isinstance(items, Path):
        return Predictions(predict_examples(model, model.task.read(items, labelled=False), batch_size=batch_size))
    table = in_memory.as_table(items)
    if table is not None:
        with in_memory.as_file(table) as path:
            return predict(model, path, batch_size=batch_size)
    examples: Iterable[Any] = map(model.task.example, in_memory.as_items(items, "predict"))
    if model.host_is_free:
        examples = list(examples)  # what the items come from may belong to the caller's thread
    return Predictions(predict_examples(model, examples, batch_size=batch_size))


def predict_examples(
    model: Predictor, examples: Iterable[Any], *, batch_size: int = 256
) -> Generator[Prediction, None, None]:
    """Predictions as a stream: CHUNK examples at a time, in order, in constant memory.

    Where the CPU is free while logits are computed, a thread reads and tokenizes the next chunk.
    """

    def tokenized(chunk: list[Any]) -> Features:
        check_pairs(trained_on_pairs(model.record), chunk)
        return model.task.featurize(chunk, model.tokenizer, model.max_seq_length, purpose="predict")

    batch_size = whole_number("predict: batch_size", batch_size)
    with closing(in_chunks(tokenized, examples, CHUNK, ahead=model.host_is_free)) as chunks:
        for index, (chunk, features) in enumerate(chunks):
            if not index:
                warn_of_unknown(features.input_ids, model.tokenizer, "these texts")
            logits = model.compute_logits(features, batch_size=batch_size)
            yield from model.task.decode(logits, features, chunk)
