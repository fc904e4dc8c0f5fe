"""bertune as a scikit-learn classifier: pipelines, cross-validation and grid search over texts.

from bertune.sklearn import BertuneClassifier

classifier = BertuneClassifier(encoder="minilm", epochs=3)
classifier.fit(texts, labels)
classifier.predict_proba(["a text"])
"""

import dataclasses
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, column_or_1d

from bertune.data.in_memory import as_items, as_table, guess_or_refuse
from bertune.errors import InputError
from bertune.model.pack import model_files
from bertune.model.use import Model, load
from bertune.progress import console
from bertune.training.train import train


class BertuneClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A text classifier: an encoder and a linear layer, fine-tuned on texts or pairs of texts.

    Attributes:
        classes_: the labels, sorted as `numpy.unique` sorts them. Shape: (classes,).
        model_: the fine-tuned `bertune.Model`.
        metrics_: what `bertune.train` returns as metrics: with `validation_share`, those on the rows held out.
    """

    def __init__(
        self,
        encoder: str = "minilm",
        *,
        max_seq_length: int = 128,
        epochs: float = 3.0,
        batch_size: int = 32,
        learning_rate: float = 5e-5,
        random_state: int = 42,
        train_options: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        """Keep the options; nothing is read before `fit`.

        Args:
            encoder: what `--encoder` takes: a folder, a checkpoint, a name on the Hub, or `minilm`.
            max_seq_length: longest sequence in tokens, special tokens included.
            epochs: passes over the training data.
            batch_size: examples in an update.
            learning_rate: the highest learning rate.
            random_state: seed of new weights, order and dropout.
            train_options: further options of `bertune.train`, such as `{"class_weights": ["balanced"]}`, `device` and
                `precision`. `validation_share` is 0 here: all rows are trained on. `output` names a folder for the
                model; without it a temporary folder is used, which is deleted with the classifier.
            verbose: show what `bertune.train` shows.
        """
        self.encoder = encoder
        self.max_seq_length = max_seq_length
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.random_state = random_state
        self.train_options = train_options
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803 (scikit-learn's name)
        """Fine-tune the encoder.

        Args:
            X: texts or pairs of texts: a list, a series, an array of strings, or a frame with one or two text columns.
            y: a label for each; numbers are classes too.

        Raises:
            ValueError: no rows, an `X` that is not text, labels that are missing, or fewer than two different labels.
        """
        items = _items(X)
        names = self._names_of(y, len(items))
        rows = [{"text": text, "pair": pair, "label": name} for (text, pair), name in zip(items, names, strict=True)]
        if all(row["pair"] is None for row in rows):
            rows = [{"text": row["text"], "label": row["label"]} for row in rows]
        self._temporary = tempfile.TemporaryDirectory(prefix="bertune-")
        options: dict[str, Any] = {
            "task": "text-classification",
            "encoder": self.encoder,
            "max_seq_length": self.max_seq_length,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "seed": self.random_state,
            "validation_share": 0.0,
            "report": False,
            "output": Path(self._temporary.name, "model"),
            **(self.train_options or {}),
        }
        with _value_errors(), _shown(self.verbose):
            run = train(train=rows, **options)
            self._load(run.output)
        shutil.rmtree(Path(self._temporary.name, "model", "checkpoints"), ignore_errors=True)
        self.metrics_ = dict(run.metrics)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: N803
        """The most probable class of each text. Shape: (texts,).

        Raises:
            ValueError: an `X` that is not text.
        """
        best = self.predict_proba(X).argmax(1)
        labels: npt.NDArray[Any] = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> npt.NDArray[np.float64]:  # noqa: N803
        """The probability of every class, in the order of `classes_`. Shape: (texts, classes).

        Raises:
            ValueError: an `X` that is not text.
        """
        check_is_fitted(self, "classes_")
        items = _items(X)
        with _value_errors(), _shown(self.verbose):
            found = self.model_.predict([text if pair is None else (text, pair) for text, pair in items])
        scores = np.array([[one["scores"][name] for name in self._names] for one in found], np.float64)
        probabilities: npt.NDArray[np.float64] = scores / scores.sum(1, keepdims=True)
        return probabilities

    def _names_of(self, y: Any, rows: int) -> list[str]:
        """The name of every row's label; sets `classes_`."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None: a label for each text")
        given = column_or_1d(y, warn=True)
        if len(given) != rows:
            raise ValueError(f"y: expected a label for each of the {rows} texts, found {len(given)} labels")
        if any(label is None or (isinstance(label, float) and math.isnan(label)) for label in given.tolist()):
            raise ValueError("y: some labels are missing (None or NaN); leave these rows out, or label them")
        self.classes_, places = np.unique(given, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y: a classifier needs at least two different labels; here is one class, {given[:1]}")
        names = [str(label) for label in self.classes_.tolist()]
        if len({name.strip() for name in names} - {""}) < len(names):  # names that a file of labels cannot tell apart
            names = [str(place) for place in range(len(names))]
        self._names = [name.strip() for name in names]
        return [self._names[place] for place in places]

    def _load(self, folder: Path) -> None:
        options = self.train_options or {}
        self._folder = folder
        self.model_: Model = load(
            folder, **{name: options[name] for name in ("device", "precision") if name in options}
        )
        every = dataclasses.replace(self.model_.task.options, all_scores=True)
        self.model_.task = self.model_.task.with_options(every)

    def __getstate__(self) -> dict[str, Any]:
        """The options and, where fitted, the model folder's files: a network prepared for a CPU cannot be pickled."""
        state: dict[str, Any] = dict(super().__getstate__())
        state.pop("model_", None)
        state.pop("_temporary", None)
        root = state.pop("_folder", None)
        if root is not None:
            files = model_files(root)  # without checkpoints and curves
            state["_files"] = {path.relative_to(root).as_posix(): path.read_bytes() for path in files}
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Write the model folder's files to a temporary folder and load them."""
        state = dict(state)
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is not None:
            self._temporary = tempfile.TemporaryDirectory(prefix="bertune-")
            root = Path(self._temporary.name, "model")
            for name, content in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self._load(root)

    def __sklearn_tags__(self) -> Tags:
        """Texts go in, not a matrix of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags


@contextmanager
def _value_errors() -> Iterator[None]:
    """Bad input is a ValueError to scikit-learn."""
    try:
        yield
    except InputError as error:
        raise ValueError(str(error)) from error


@contextmanager
def _shown(verbose: bool) -> Iterator[None]:
    """Without `verbose`, no tables and no messages but errors: a grid search would print them many times."""
    logger = logging.getLogger("bertune")
    before, level = console.quiet, logger.level
    if not verbose:
        console.quiet = True
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = before
        logger.setLevel(level)


def _items(X: Any) -> list[tuple[str, str | None]]:  # noqa: N803
    """Texts, or pairs of texts, from what scikit-learn's users hold.

    Raises:
        ValueError: something else, or nothing.
    """
    with _value_errors():
        table = as_table(X)
        if table is not None:
            first, *more = table.columns if len(table.columns) < 3 else guess_or_refuse(table, "X")
            second = more[0] if more else None
            items: list[Any] = [(row[first], None if second is None else row[second]) for row in table.read()]
        else:
            items = [(item, None) if isinstance(item, str) else item for item in as_items(X, "X", "text")]
    for place, item in enumerate(items):
        if isinstance(item, list | tuple) and len(item) == 1:  # a column of texts as a matrix
            items[place] = item = (item[0], None)
        legal = isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[0], str)
        if not legal or not isinstance(item[1], str | None):
            raise ValueError(f"X: item {place} is {str(item)[:60]!r}; expected a text or a pair of texts")
    if not items:
        raise ValueError("X: found 0 sample(s), no text at all, while a minimum of 1 is required")
    return [(item[0], item[1]) for item in items]
