"""Write a report: the page, its figures as JSON, and all errors as CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.atomic_write import unwritable, write_text
from bertune.files.spreadsheets import harmless
from bertune.model.presence import require_model
from bertune.model.use import Model, load
from bertune.report.answers import Answered, answer, labelled_rows, out_of_fold
from bertune.report.collect import collect
from bertune.report.explained import explanations
from bertune.report.options import ReportOptions
from bertune.report.page import page

_COLUMNS = ("row", "place", "text", "truth", "answer", "score", "kind")
SUSPECT_COLUMNS = ("file", "place", "text", "truth", "suggested", "self_confidence", "correct_label")
"""Of suspects.csv; `correct_label` is for a person to fill in."""


@dataclass(frozen=True)
class Report:
    """Where a report lies, and its figures. suspects: rows whose label may be wrong, where there are any."""

    html: Path
    json: Path
    errors: Path
    figures: Mapping[str, Any]
    suspects: Path | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the page in a frame of its own, where none of its styles reach the notebook."""
        from html import escape

        content = escape(self.html.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{content}" sandbox width="100%" height="600" style="border:0"></iframe>'


def write_report(folder: str | Path, options: ReportOptions | None = None) -> Report:
    """Write the report of a run.

    Args:
        folder: a model folder that `bertune train` wrote.
        options: data, place, language, and how to compute.

    Raises:
        InputError: no model or no labelled rows there.
        FaultError: it cannot be written.
    """
    options, folder = options or ReportOptions(), Path(folder)
    target_of(folder, options)  # refused before anything is computed
    require_model(folder, "")
    model = load(folder, device=options.device, precision=options.precision, trust_task_file=options.trust_task_file)
    validated = isinstance((model.record.get("data") or {}).get("validation"), Mapping)
    answered = None if options.data is not None or validated else out_of_fold(folder, model)
    if answered is None:
        answered = answer(model, labelled_rows(folder, model.task, model.record, options), options)
    return write_answered(folder, answered, options, model=model if options.explain else None)


def target_of(folder: Path, options: ReportOptions) -> Path:
    """The page's file. Raises InputError for one that cannot be."""
    target = Path(options.output) if options.output else folder / "report.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {target}: name a file that ends in .html")
    if target.is_dir():
        raise InputError(f"--output {target}: is a folder; name a file that ends in .html")
    return target


def write_answered(
    folder: Path,
    answered: Answered,
    options: ReportOptions,
    train: Sequence[Any] | None = None,
    model: Model | None = None,
) -> Report:
    """Write the report of answers that are there already.

    Args:
        folder: a model folder that `bertune train` wrote.
        answered: the model's answers to labelled rows.
        options: place, language, what to show.
        train: the training examples; None: they are read again, where they are still as they were.
        model: explains its surest errors; None: nothing is explained.

    Raises:
        InputError: a place or a column that cannot be.
        FaultError: it cannot be written.
    """
    target = target_of(folder, options)
    collected = collect(folder, answered, options, train)
    report, wrong, suspects = collected.figures, collected.errors, collected.suspects
    if model is not None:
        report["explained"] = explanations(model, answered, wrong[: options.explain])
    of_folder = target.name == "report.html"
    errors, doubtful = (
        target.with_name(f"{name}.csv" if of_folder else f"{target.stem}-{name}.csv") for name in ("errors", "suspects")
    )
    if not options.texts:
        report = _without_texts(report)
        wrong = [{**one, "text": ""} for one in wrong]
    html = page(report, language=options.language, texts=options.texts, errors_file=errors.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(errors, csv_text(_COLUMNS, wrong))
        if suspects and options.texts:
            write_text(doubtful, csv_text(SUSPECT_COLUMNS, with_corrections(doubtful, suspects)))
        write_text(target.with_suffix(".json"), json.dumps(report, ensure_ascii=False, indent=1) + "\n")
        write_text(target, html)
    except OSError as error:
        raise unwritable(error, f"--output {target}: cannot be written: {error.strerror}") from error
    return Report(target, target.with_suffix(".json"), errors, report, doubtful if doubtful.is_file() else None)


def _without_texts(report: Mapping[str, Any]) -> dict[str, Any]:
    rows = ("errors", "suspects", "contrary")
    kept = {name: value for name, value in report.items() if name != "explained"}
    return {name: [{**one, "text": ""} for one in value] if name in rows else value for name, value in kept.items()}


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([harmless(row.get(name)) for name in columns])
    return out.getvalue()


def with_corrections(file: Path, suspects: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Suspect rows, with what a person wrote into an earlier file of them; rows of that file that a person judged stay.

    Args:
        file: that may be there already.
        suspects: rows for the new one.
    """
    judged: dict[tuple[str, str], Mapping[str, Any]] = {}
    if file.is_file():
        with file.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if (row.get("correct_label") or "").strip():
                    judged[str(row.get("file")), str(row.get("place"))] = row
    found: list[Mapping[str, Any]] = []
    for one in suspects:
        before = judged.pop((str(one["file"]), str(one["place"])), None)
        found.append({**one, "correct_label": before["correct_label"] if before else ""})
    return [*judged.values(), *found]
