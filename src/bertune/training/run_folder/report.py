"""What a finished run says: metrics.json, the record in run.yaml, and the closing table."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bertune.distributed.world import current
from bertune.errors import InputError
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.files.yaml_files import read_yaml, write_yaml
from bertune.model.provenance import RECORD_KEY
from bertune.tables import PlainTable, for_people, plain_table, table_of
from bertune.tasks.protocol import Task, metric_in_words
from bertune.training.loop.state import TrainState
from bertune.training.run_folder.errors import disk_errors

Scores = Mapping[str, float]


def metrics_of(state: TrainState) -> dict[str, float]:
    """The best model's metrics and the run's speed."""
    return metrics_of_evaluation(state.best_metrics, state.examples, state.seconds)


def metrics_of_evaluation(found: Scores, examples: float, seconds: float) -> dict[str, float]:
    """Metrics as metrics.json has them, and the speed of the training.

    Args:
        found: by an evaluation.
        examples: that were trained on, as often as they were.
        seconds: of all updates.
    """
    metrics = dict(found)
    speed = metrics.pop("examples_per_second", None)
    metrics |= {"train_examples_per_second": examples / max(seconds, 1e-9), "train_seconds": seconds}
    if speed is not None:
        metrics["eval_examples_per_second"] = speed
    return metrics


def record_of(
    state: TrainState,
    provenance: Mapping[str, Any],
    *,
    collapse: str | None = None,
    late_collapse: str | None = None,
    given_up: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The record of a run in metrics.json and run.yaml.

    Args:
        state: at the end.
        provenance: known at the start (`model.provenance.run_provenance`).
        collapse: of the model that is kept.
        late_collapse: of later updates.
        given_up: attempts with other seeds before this one.
    """
    return {
        **provenance,
        "seed": state.seed,
        "steps": state.step,
        "best_step": state.best_step,
        "skipped_updates": state.skipped,
        "wall_seconds": round(state.wall_seconds, 3),
        "collapse": collapse,
        "late_collapse": late_collapse,
        "given_up": list(given_up),
    }


def write_metrics(folder: Path, metrics: Scores, record: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """metrics.json: figures at its top, beside them `record`, and what `more` holds; the record in run.yaml too."""
    if not current().is_first:
        return
    with disk_errors(folder / "metrics.json", 0):
        write_text(folder / "metrics.json", json.dumps({**metrics, **more, RECORD_KEY: record}, indent=2) + "\n")
        write_yaml(folder / "run.yaml", read_yaml(folder / "run.yaml") | {RECORD_KEY: dict(record)})


def write_all(
    folder: Path,
    metrics: Scores,
    record: Mapping[str, Any],
    more: Mapping[str, Any],
    baselines: Callable[[], Mapping[str, Scores]],
) -> dict[str, Any]:
    """Write metrics.json, and once more when the baselines are known: should they fail, the run has its figures.

    Args:
        folder: of the run.
        metrics: figures for its top.
        record: how they were had.
        more: what stands beside them; baselines that are there already are not had again.
        baselines: has them; none where none were asked for.

    Returns: `more` with the baselines.
    """
    write_metrics(folder, metrics, record, more)
    if "baselines" in more or not (found := baselines()):
        return dict(more)
    whole = {**more, "baselines": found}
    write_metrics(folder, metrics, record, whole)
    return whole


def finished(folder: Path) -> tuple[dict[str, float], dict[str, Any], dict[str, Any]] | None:
    """What a run that has ended left in metrics.json: its figures, its record, and what stands beside them.

    None while it has not, for the record comes last, and where the file cannot be read.
    """
    try:
        stored = read_json(folder / "metrics.json")
    except InputError:
        return None
    record = stored.pop(RECORD_KEY, None)
    if not isinstance(record, dict):
        return None
    metrics = {name: value for name, value in stored.items() if isinstance(value, int | float)}
    return metrics, record, {name: value for name, value in stored.items() if name not in metrics}


def closing_table(title: str, task: Task[Any], metrics: Scores, baselines: Mapping[str, Scores]) -> PlainTable:
    """The model's figures, and beside them those of simple methods."""
    metrics = for_people(metrics)
    if not baselines:
        named: dict[str, object] = {metric_in_words(task, name): value for name, value in metrics.items()}
        return table_of(title, named)
    rows = (
        (
            metric_in_words(task, name),
            f"{value:.4f}",
            *(f"{found[name]:.4f}" if name in found else "" for found in baselines.values()),
        )
        for name, value in metrics.items()
    )
    return plain_table(title, ("", "model", *baselines), rows)
