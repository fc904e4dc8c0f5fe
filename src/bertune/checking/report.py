"""A report of the data doctor as tables for people and as one JSON object for programs."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bertune.checking.doctor import Report
from bertune.checking.findings import SEVERITIES, Finding
from bertune.checking.lengths import Lengths
from bertune.checking.survey import Survey

_BAR = 30
_LABELS = 20
_STYLES = {"error": "bold red", "warn": "yellow", "note": "dim"}


def show(report: Report, console: Console) -> None:
    """Print counts, lengths and findings."""
    console.print(_counts(report))
    for role, lengths in report.lengths.items():
        console.print(_lengths(report, role, lengths))
    if report.lengths:
        _suggest(report, console)
    else:
        console.print("Lengths in tokens: name the encoder to come with --encoder.", markup=False)
    if report.findings:
        console.print(_findings(report))
    told = ", ".join(f"{report.count(severity)} {severity}" for severity in SEVERITIES)
    console.print(f"{sum(map(len, report.surveys.values()))} rows in {report.seconds:.1f} s: {told}", markup=False)


def _counts(report: Report) -> Table:
    surveys = report.surveys
    table = Table("", *surveys, title="rows and labels", title_justify="left")
    table.add_row("rows", *(f"{len(survey)}" for survey in surveys.values()))
    for label, _ in sorted(surveys["train"].labels.items(), key=lambda one: -one[1])[:_LABELS]:
        table.add_row(Text(label), *(_share(survey, label) for survey in surveys.values()))
    if len(surveys["train"].labels) > _LABELS:
        table.add_row(f"… {len(surveys['train'].labels) - _LABELS} more labels")
    if len(surveys["train"].numbers):
        numbers = [survey.numbers for survey in surveys.values()]
        table.add_row("mean", *(f"{values.mean():.4g}" for values in numbers))
        table.add_row("standard deviation", *(f"{values.std():.4g}" for values in numbers))
        table.add_row("smallest", *(f"{values.min():.4g}" for values in numbers))
        table.add_row("largest", *(f"{values.max():.4g}" for values in numbers))
    return table


def _share(survey: Survey, label: str) -> str:
    count = survey.labels[label]
    return f"{count} ({count / max(1, survey.labels.total()):.1%})"


def _lengths(report: Report, role: str, lengths: Lengths) -> Table:
    seen = "" if lengths.complete else f", from a sample of {len(lengths.values)}"
    title = f"{report.surveys[role].path}: tokens a sequence, by {report.encoder}'s vocabulary{seen}"
    table = Table("tokens", "sequences", "", title=title, title_justify="left")
    total = max(1, len(lengths.values))
    for name, count in lengths.histogram():
        bar = "█" * round(_BAR * count / total) or ("▏" if count else "")
        table.add_row(name, f"{count} ({count / total:.1%})", bar)
    fate = f"{lengths.lost:.1%} of tokens cut" if lengths.cuts else "read in windows"
    table.add_row(f"over {report.max_seq_length}", f"{lengths.over:.1%}", fate)
    middle = f"median {lengths.quantile(0.5)}, 95 % up to {lengths.quantile(0.95)}"
    table.add_row("", "", f"{middle}, 99 % up to {lengths.quantile(0.99)}")
    return table


def _suggest(report: Report, console: Console) -> None:
    size, why = report.suggested_batch or (0, "")
    length = f"--max-seq-length {report.suggested_length} (99 % of the sequences fit)"
    console.print(f"Suggested: {length}, --batch-size {size} ({why})", markup=False, highlight=False)


def _findings(report: Report) -> Table:
    table = Table(title="findings", title_justify="left", show_lines=True)
    for heading in ("", "finding", "where", "what to do"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        severity = Text(finding.severity, _STYLES[finding.severity])
        what = f"{Path(finding.file).name}: {finding.what}"
        table.add_row(severity, Text(what), Text(_where(finding)), Text(finding.remedy))
    return table


def _where(finding: Finding) -> str:
    more = ["…"] if finding.places and finding.rows > len(finding.places) else []
    return "\n".join([*finding.places, *more])


def to_json(report: Report) -> dict[str, Any]:
    """The report as a JSON object."""
    files = {
        role: {
            "file": str(survey.path),
            "rows": len(survey),
            "labels": dict(survey.labels.most_common()),
            **({"lengths": _lengths_json(report.lengths[role])} if role in report.lengths else {}),
        }
        for role, survey in report.surveys.items()
    }
    size, why = report.suggested_batch or (None, None)
    return {
        "task": report.task.name,
        "encoder": report.encoder,
        "max_seq_length": report.max_seq_length,
        "files": files,
        "suggested": {"max_seq_length": report.suggested_length, "batch_size": size, "batch_size_because": why},
        "findings": [finding.to_json() for finding in report.findings],
        "counts": {severity: report.count(severity) for severity in SEVERITIES},
        "seconds": round(report.seconds, 3),
    }


def _lengths_json(lengths: Lengths) -> dict[str, Any]:
    return {
        "sequences": len(lengths.values),
        "complete": lengths.complete,
        "histogram": dict(lengths.histogram()),
        "quantiles": {str(share): lengths.quantile(share) for share in (0.5, 0.9, 0.95, 0.99, 1.0)},
        "over": lengths.over,
        "tokens_cut": lengths.lost,
        "windows": not lengths.cuts,
        "unknown_tokens": lengths.unknown,
    }
