"""A model's answers to labelled rows: what a report is made of."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.encoder.config import EncoderConfig
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.evaluation.outcomes import FromTask, Outcomes
from bertune.features import Features
from bertune.inference.evaluation import infer
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.use import Model
from bertune.report.options import ReportOptions
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.labelled import Labelled, read_recorded
from bertune.tasks.parts import parts_of
from bertune.tasks.protocol import Logits, Prediction, Task
from bertune.tasks.shared.review import with_every_answer


@dataclass(frozen=True)
class Answered:
    """A model's answers to labelled rows.

    task: of the model, as its folder has it.
    record: its bertune.json.  config: its encoder's numbers.
    path: of the rows, for people.  labelled: the rows file by file; None: all from `path`.
    logits, features: of the rows, as the task decodes them; logits are None where only predictions are known.
    max_seq_length: tokens of the longest sequence.
    recorded: whether these are the rows that picked the best model.
    """

    task: Task[Any]
    record: Mapping[str, Any]
    config: EncoderConfig
    path: Path
    examples: list[Any]
    logits: Logits | None
    features: Features
    predictions: list[Prediction]
    max_seq_length: int
    recorded: bool
    labelled: Labelled | None = None

    @property
    def truth(self) -> list[Any]:
        """True answers."""
        return [self.task.true_answer(example) for example in self.examples]

    @property
    def answers(self) -> list[Any]:
        """The model's."""
        return [self.task.predicted_answer(prediction) for prediction in self.predictions]

    def path_of(self, row: int) -> Path:
        """The file or folder that a row comes from."""
        return self.path if self.labelled is None else self.labelled.path_of(row)

    def outcomes(self) -> Outcomes:
        """What the answers came to, from which every metric follows."""
        known = self.task.row_metrics(self.examples, self.predictions)
        if known is not None:
            return known
        if self.logits is None:
            raise InputError(f"{self.path}: {self.task.name} gives no row_metrics, which predictions are judged by")
        return FromTask(self.task, self.logits, self.features, self.examples)

    def calibration_rows(self) -> CalibrationRows | None:
        """What probabilities are computed from, and what was true; None where that is not known."""
        if self.logits is None:
            return None
        return self.task.calibration_rows(self.logits, self.features, self.examples)

    def tokens(self) -> npt.NDArray[np.int64]:
        """Tokens read of every row. Shape: (rows,)."""
        owners, lengths = np.asarray(self.features.example_index), self.features.input_ids.lengths
        return np.bincount(owners, weights=lengths, minlength=len(self.examples)).astype(np.int64)

    def cut(self) -> npt.NDArray[np.bool_]:
        """Whether a row lost tokens to the length limit. Shape: (rows,)."""
        cut = np.zeros(len(self.examples), np.bool_)
        if len(self.features.cut):
            cut[np.asarray(self.features.example_index)[np.asarray(self.features.cut)]] = True
        return cut

    def texts(self) -> list[str]:
        """The text of every row, of several texts all."""
        return [text_of(example) for example in self.examples]


def text_of(example: Any) -> str:
    """An example's texts in one line."""
    parts = parts_of(example)
    return " ¦ ".join(parts.texts.values()) if parts.texts else str(getattr(example, "text", example))


def answer(model: Model, rows: Labelled, options: ReportOptions) -> Answered:
    """Answer labelled rows.

    Raises:
        InputError: rows that the model cannot judge.
    """
    task, examples = with_every_answer(model.task), rows.examples
    problems = Problems()
    problems.extend(rows.problems(task))
    problems.raise_if_any()
    check_pairs(trained_on_pairs(model.record), examples)
    features = task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="evaluate")
    with fast_float32(model.network.device):
        logits = infer(model.network, features, batch_size=options.batch_size).logits
    return Answered(
        task=task,
        record=model.record,
        config=model.network.encoder.config,
        path=rows.path,
        examples=examples,
        logits=logits,
        features=features,
        predictions=list(task.decode(logits, features, examples)),
        max_seq_length=model.max_seq_length,
        recorded=options.data is None,
        labelled=rows,
    )


OUT_OF_FOLD = "out_of_fold.jsonl"
"""In the folder of a run with `--folds`: a prediction for every training row, by a model that did not see it."""


def out_of_fold(folder: Path, model: Model) -> Answered | None:
    """The training rows and their out-of-fold predictions; None where the run has none.

    Raises:
        InputError: the training data are not there or have changed, or the predictions are not theirs.
    """
    file = folder / OUT_OF_FOLD
    if not file.is_file():
        return None
    try:
        recorded = (model.record.get("data") or {}).get("train") or {}
        rows = read_recorded(model.task, recorded, model.record.get("options"))
    except InputError as error:
        raise InputError(f"{folder}: {error}; name labelled rows with --data FILE") from None
    with file.open(encoding="utf-8") as lines:
        predictions: list[Prediction] = [json.loads(line) for line in lines]
    if len(predictions) != len(rows.examples):
        raise InputError(f"{file}: has {len(predictions)} predictions for {len(rows.examples)} training rows")
    added = ("fold", "row")
    return Answered(
        task=with_every_answer(model.task),
        record=model.record,
        config=model.network.encoder.config,
        path=rows.path,
        examples=rows.examples,
        logits=None,
        features=model.task.featurize(rows.examples, model.tokenizer, model.max_seq_length, purpose="predict"),
        predictions=[{name: one[name] for name in one if name not in added} for one in predictions],
        max_seq_length=model.max_seq_length,
        recorded=False,
        labelled=rows,
    )


def labelled_rows(folder: Path, task: Task[Any], record: Mapping[str, Any], options: ReportOptions) -> Labelled:
    """The rows that a report is about: `--data`, or those that the run validated on.

    Raises:
        InputError: none recorded, or they are not there any more, or have changed.
    """
    if options.data is not None:
        return Labelled.read(task, options.data, "--data")
    recorded = (record.get("data") or {}).get("validation")
    if not isinstance(recorded, Mapping):
        raise InputError(f"{folder}: was trained without validation data; name labelled rows with --data FILE")
    try:
        return read_recorded(task, recorded, record.get("options"))
    except InputError as error:
        raise InputError(f"{folder}: {error}; name labelled rows with --data FILE") from None
