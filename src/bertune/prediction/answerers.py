"""What answers examples: a fine-tuned model, or an encoder that gives vectors."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertune.data.tables import open_table
from bertune.encoder.float32_route import fast_float32
from bertune.model.predicting import CHUNK
from bertune.model.use import Model
from bertune.tasks.options import TextColumns
from bertune.tasks.protocol import Task
from bertune.tasks.reading import find_columns, text_rows

if TYPE_CHECKING:
    from bertune.embedding import Embedder

_DECIMALS = 7
"""Of a vector's numbers, as float32 has them for vectors of length 1."""


def _read_examples(task: Task[Any], path: Path) -> Iterator[Any]:
    return task.read(path, labelled=False)


def _read_texts(columns: TextColumns, path: Path) -> Iterator[str]:
    file = open_table(path, columns)
    text, _, _ = find_columns(file, columns, labelled=False)
    return (row[0] for row in text_rows(file, (text, None, None), labelled=False))


@dataclass(frozen=True)
class ModelAnswerer:
    """A fine-tuned model's predictions.

    precision, device: as they were asked for.
    """

    model: Model
    batch_size: int = 256
    precision: str = "auto"

    @property
    def read(self) -> Callable[[Path], Iterator[Any]]:
        """Reads examples of a file, without labels."""
        return partial(_read_examples, self.model.task)

    def answers(self, examples: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        """A prediction for every example."""
        return self.model.predict_examples(examples, batch_size=self.batch_size)

    @property
    def looks_first(self) -> bool:
        """Where 8-bit products are to be checked."""
        return self.model.reference is not None

    def prepare(self, examples: Sequence[Any]) -> None:
        """Check 8-bit products on the beginning of the whole input, so that every process decides alike."""
        model = self.model
        if model.reference is not None and examples:
            features = model.task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="predict")
            with fast_float32(model.network.device):
                model.check_int8(features)

    def described(self) -> Mapping[str, Any]:
        """The model's weights and length, the task's options, the precision."""
        return {
            "model": self.model.record.get("weights_sha256"),
            "task": self.model.task.name,
            "task_options": dataclasses.asdict(self.model.task.options),
            "max_seq_length": self.model.max_seq_length,
            "precision": self.precision,
        }


@dataclass(frozen=True)
class EmbeddingAnswerer:
    """Vectors of texts, as `bertune.embed` computes them.

    source: what the encoder was opened from.  columns: where the texts stand.
    """

    embedder: "Embedder"
    source: str
    options: Mapping[str, Any]
    columns: TextColumns
    batch_size: int = 256
    prompt_name: str | None = None

    @property
    def read(self) -> Callable[[Path], Iterator[str]]:
        """Reads texts of a table's text column."""
        return partial(_read_texts, self.columns)

    def answers(self, examples: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        """`{"embedding": [numbers]}` for every text."""
        rest = iter(examples)
        while texts := list(islice(rest, CHUNK)):
            vectors = self.embedder(texts, batch_size=self.batch_size, prompt_name=self.prompt_name)
            for vector in np.round(vectors.astype(np.float64), _DECIMALS).tolist():
                yield {"embedding": vector}

    @property
    def looks_first(self) -> bool:
        """No."""
        return False

    def prepare(self, examples: Sequence[str]) -> None:
        """Nothing."""

    def described(self) -> Mapping[str, Any]:
        """The encoder and the options of its vectors."""
        return {"encoder": self.source, **self.options, "prompt_name": self.prompt_name}
