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
from bertune.report.collect import collect
from bertune.report.options import ReportOptions
from bertune.report.page import page

_COLUMNS = ("row", "place", "text", "truth", "answer", "score", "kind")


@dataclass(frozen=True)
class Report:
    """Where a report lies, and its figures."""

    html: Path
    json: Path
    errors: Path
    figures: Mapping[str, Any]

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
    target = Path(options.output) if options.output else folder / "report.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {target}: name a file that ends in .html")
    if target.is_dir():
        raise InputError(f"--output {target}: is a folder; name a file that ends in .html")
    report, wrong = collect(folder, options)
    json_file = target.with_suffix(".json")
    errors = target.with_name("errors.csv" if target.name == "report.html" else f"{target.stem}-errors.csv")
    if not options.texts:
        report = _without_texts(report)
        wrong = [{**one, "text": ""} for one in wrong]
    html = page(report, language=options.language, texts=options.texts, errors_file=errors.name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(errors, _csv(wrong))
        write_text(json_file, json.dumps(report, ensure_ascii=False, indent=1) + "\n")
        write_text(target, html)
    except OSError as error:
        raise unwritable(error, f"--output {target}: cannot be written: {error.strerror}") from error
    return Report(target, json_file, errors, report)


def _without_texts(report: Mapping[str, Any]) -> dict[str, Any]:
    rows = ("errors", "suspects", "contrary")
    return {name: [{**one, "text": ""} for one in value] if name in rows else value for name, value in report.items()}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        writer.writerow([_harmless(row.get(name)) for name in _COLUMNS])
    return out.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") else value
