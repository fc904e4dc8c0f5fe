"""The report at the end of a training run, from the logits of the evaluation that picked the model."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bertune.distributed.world import current
from bertune.durations import Clock
from bertune.encoder.config import EncoderConfig
from bertune.files.json_files import read_json
from bertune.model.record import MODEL_FILE
from bertune.progress import console
from bertune.report.answers import Answered
from bertune.report.opinions import MOST_JUDGED, MOST_LEARNT
from bertune.report.options import ReportOptions
from bertune.report.write import Report, write_answered, write_report
from bertune.tasks.shared.review import with_every_answer
from bertune.tasks.user_files import task_file_of
from bertune.training.loop.state import Evaluation
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData

logger = logging.getLogger(__name__)

_AT_LEAST, _A_ROW, _LOADING = 1.5, 6e-4, 2.0
"""Seconds of a report, of each of its rows more, and of loading an encoder for opinions."""


@dataclass(frozen=True)
class SavedModel:
    """The model that a run saved last: its evaluation and its encoder's numbers."""

    evaluation: Evaluation
    config: EncoderConfig


def seconds_of_report(data: PreparedData) -> float:
    """What a report takes without other methods' opinions of the labels, generously: 10,000 rows take 4.5 s."""
    return _AT_LEAST + _A_ROW * (0 if data.validation is None else len(data.validation.examples))


def write_closing_report(
    options: TrainOptions, data: PreparedData, saved: SavedModel | None, clock: Clock | None = None
) -> None:
    """Write the report of a run that is done; a report that fails is logged, and the run is kept.

    Args:
        options: of the run.
        data: as it was trained and validated on.
        saved: the model in the output folder; None: it was saved by an earlier process, and is loaded.
        clock: of the time limit; where little is left, other methods are not asked which labels may be wrong.
    """
    if (data.validation is None and options.folds is None) or not current().is_first:
        return
    folder = Path(options.output)
    if saved is None and (folder / "report.html").is_file():
        return
    try:
        report = _written(folder, options, data, saved, opinions=options.opinions and _has_time(data, saved, clock))
    except Exception as error:
        logger.warning("no report (%s: %s); bertune report %s tries again", type(error).__name__, error, folder)
        return
    console.print(f"report: {report.html}", markup=False, highlight=False)


def report_files(folder: Path) -> list[Path]:
    """What a report leaves in a run's folder; not all of it need be there."""
    return [folder / name for name in ("report.html", "report.json", "errors.csv", "suspects.csv")]


def _has_time(data: PreparedData, saved: SavedModel | None, clock: Clock | None) -> bool:
    """Whether there is time for opinions, which compute vectors of training and validation rows."""
    if clock is None:
        return True
    rows = min(MOST_LEARNT, len(data.train.examples))
    rows += 0 if data.validation is None else min(MOST_JUDGED, len(data.validation.examples))
    speed = saved.evaluation.metrics.get("examples_per_second", 0.0) if saved is not None else 0.0
    if clock.left > seconds_of_report(data) + _LOADING + (rows / speed if speed else 60.0):
        return True
    logger.info("no time is left to ask other methods which labels may be wrong; bertune report does")
    return False


def _written(
    folder: Path, options: TrainOptions, data: PreparedData, saved: SavedModel | None, *, opinions: bool
) -> Report:
    split = data.validation
    how = ReportOptions(
        baselines=False,
        opinions=opinions,
        device=options.device,
        precision=options.precision,
        trust_task_file=options.task.rpartition(":")[0] if task_file_of(data.task) is not None else None,
    )
    if split is None or saved is None or saved.evaluation.logits is None:
        return write_report(folder, how)
    task = with_every_answer(saved.evaluation.task or data.task)
    logits = saved.evaluation.logits
    answered = Answered(
        task=task,
        record=read_json(folder / MODEL_FILE),
        config=saved.config,
        path=split.path,
        examples=list(split.examples),
        logits=logits,
        features=split.features,
        predictions=list(task.decode(logits, split.features, split.examples)),
        max_seq_length=data.max_seq_length,
        recorded=True,
        labelled=split.labelled,
    )
    return write_answered(folder, answered, how, data.train.examples)
