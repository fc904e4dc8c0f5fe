"""A loaded model as the batcher uses it: items → examples → features → logits → answers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.features import Column, Features, Ragged
from bertune.model.pairs import checked_example, trained_on_pairs
from bertune.model.predicting import Predictor

Logits = list[npt.NDArray[np.float32]]
Prediction = dict[str, Any]


class Engine:
    """The steps of `predict`, each callable by itself from its own thread."""

    def __init__(self, model: Predictor) -> None:
        self.model = model
        self._pairs = trained_on_pairs(model.record)
        self._truncates = getattr(model.task.options, "long_text", "truncate") != "window"

    @property
    def host_is_free(self) -> bool:
        """Whether the CPU has time for other things while logits are computed."""
        return self.model.host_is_free

    def example(self, item: Any) -> Any:
        """What `predict` makes of an item.

        Raises:
            InputError: an item that the task cannot take.
        """
        return checked_example(self._pairs, self.model.task.example(item))

    def estimate(self, item: Any) -> int:
        """Tokens that an item will come to, roughly, without tokenizing it: for the limits of the queue."""
        tokens = sum(_text_tokens(text) for text in _texts(item)) + 3
        return min(tokens, self.model.max_seq_length) if self._truncates else tokens

    def featurize(self, examples: Sequence[Any]) -> Features:
        """Tokenized examples."""
        return self.model.task.featurize(examples, self.model.tokenizer, self.model.max_seq_length, purpose="predict")

    def compute(self, groups: Sequence[Features]) -> list[Logits]:
        """The logits of several features in one go, one list each; a sequence's are the same in any company."""
        together = concatenated(groups) if len(groups) > 1 else groups[0]
        rows = list(self.model.compute_logits(together))
        found: list[Logits] = []
        start = 0
        for group in groups:
            found.append(rows[start : start + len(group)])
            start += len(group)
        return found

    def decode(self, examples: Sequence[Any], features: Features, logits: Logits) -> list[Prediction]:
        """One answer an example: what `predict` says, with the tokens read and whether some were cut off.

        Logits that are not numbers give `{"error", "error_type": "not_finite"}` in place of an answer.
        """
        owners = np.asarray(features.example_index)
        tokens = np.bincount(owners, weights=features.input_ids.lengths, minlength=len(examples)).astype(int)
        truncated = np.zeros(len(examples), bool)
        if len(features.cut):
            truncated[owners[np.asarray(features.cut)]] = True
        bad = {int(owner) for owner, row in zip(owners, logits, strict=True) if not np.isfinite(row).all()}
        usable = [np.zeros_like(row) if int(owner) in bad else row for owner, row in zip(owners, logits, strict=True)]
        answers: list[Prediction] = []
        for index, answer in enumerate(self.model.task.decode(usable, features, examples)):
            if index in bad:
                answer = {"error": "the model computed no finite numbers for it", "error_type": "not_finite"}
            answers.append({**answer, "truncated": bool(truncated[index]), "tokens": int(tokens[index])})
        return answers


def concatenated(groups: Sequence[Features]) -> Features:
    """Several features as one, for computing: sequences, owners and targets, nothing for decoding."""
    counts = [int(np.asarray(group.example_index).max(initial=-1)) + 1 for group in groups]
    starts = np.cumsum([0, *counts[:-1]])
    owners = [np.asarray(group.example_index) + start for group, start in zip(groups, starts, strict=True)]
    return Features(
        _joined([group.input_ids for group in groups]),
        _joined([group.segment_ids for group in groups]),
        np.concatenate(owners).astype(np.int32),
        {name: _joined_column([group.targets[name] for group in groups]) for name in groups[0].targets},
        together=groups[0].together,
    )


def _joined(columns: Sequence[Ragged]) -> Ragged:
    values = np.concatenate([column.values for column in columns])
    return Ragged.from_lengths(values, np.concatenate([column.lengths for column in columns]))


def _joined_column(columns: Sequence[Column]) -> Column:
    ragged = [column for column in columns if isinstance(column, Ragged)]
    if len(ragged) == len(columns):
        return _joined(ragged)
    return np.concatenate([np.asarray(column) for column in columns])


def _texts(item: Any) -> Iterable[str]:
    """All strings in an item."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        for value in item.values():
            yield from _texts(value)
    elif isinstance(item, list | tuple):
        for value in item:
            yield from _texts(value)


def _text_tokens(text: str) -> int:
    """Chinese has a token a character, ASCII text about one in four."""
    return len(text) // 4 + 1 if text.isascii() else len(text) + 1
