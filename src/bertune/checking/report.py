"""A report of the data doctor as tables for people and as one JSON object for programs."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from bertune.checking.doctor import Report
from bertune.checking.findings import SEVERITIES, Finding
from bertune.checking.lengths import Lengths
from bertune.checking.survey import Survey
from bertune.errors import counted
from bertune.tables import PlainTable, plain_table

_BAR = 30
_LABELS = 20
_NOUNS = {"error": "error", "warn": "warning", "note": "note"}
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
    counts = ", ".join(counted(report.count(severity), _NOUNS[severity]) for severity in SEVERITIES)
    console.print(
        f"{counted(sum(map(len, report.surveys.values())), 'row')} in {report.seconds:.1f} s: {counts}", markup=False
    )


def _counts(report: Report) -> PlainTable:
    surveys = report.surveys
    rows: list[tuple[str, ...]] = [("rows", *(f"{len(survey)}" for survey in surveys.values()))]
    for label, _ in sorted(surveys["train"].labels.items(), key=lambda one: -one[1])[:_LABELS]:
        rows.append((label, *(_share(survey, label) for survey in surveys.values())))
    if len(surveys["train"].labels) > _LABELS:
        rows.append((f"… {len(surveys['train'].labels) - _LABELS} more labels",))
    if len(surveys["train"].numbers):
        numbers = [survey.numbers for survey in surveys.values()]
        rows.append(("mean", *(f"{values.mean():.4g}" for values in numbers)))
        rows.append(("standard deviation", *(f"{values.std():.4g}" for values in numbers)))
        rows.append(("smallest", *(f"{values.min():.4g}" for values in numbers)))
        rows.append(("largest", *(f"{values.max():.4g}" for values in numbers)))
    return plain_table("rows and labels", ("", *surveys), rows)


def _share(survey: Survey, label: str) -> str:
    count = survey.labels[label]
    return f"{count} ({count / max(1, survey.labels.total()):.1%})"


def _lengths(report: Report, role: str, lengths: Lengths) -> PlainTable:
    seen = "" if lengths.complete else f", from a sample of {len(lengths.values)}"
    title = f"{report.surveys[role].path}: tokens a sequence, by {report.encoder}'s vocabulary{seen}"
    rows: list[tuple[str, str, str]] = []
    total = max(1, len(lengths.values))
    for name, count in lengths.histogram():
        bar = "█" * round(_BAR * count / total) or ("▏" if count else "")
        rows.append((name, f"{count} ({count / total:.1%})", bar))
    fate = f"{lengths.lost:.1%} of tokens cut" if lengths.cuts else "read in windows"
    rows.append((f"over {report.max_seq_length}", f"{lengths.over:.1%}", fate))
    middle = f"median {lengths.quantile(0.5)}, 95 % up to {lengths.quantile(0.95)}"
    rows.append(("", "", f"{middle}, 99 % up to {lengths.quantile(0.99)}"))
    return plain_table(title, ("tokens", "sequences", ""), rows)


def _suggest(report: Report, console: Console) -> None:
    size, why = report.suggested_batch or (0, "")
    length = f"--max-seq-length {report.suggested_length} (99 % of the sequences fit)"
    console.print(f"Suggested: {length}, --batch-size {size} ({why})", markup=False, highlight=False)


def _findings(report: Report) -> PlainTable:
    rows = (
        (
            Text(finding.severity, _STYLES[finding.severity]),
            f"{Path(finding.file).name}: {finding.what}" if finding.remedy else finding.what,
            _where(finding),
            finding.remedy,
        )
        for finding in report.findings
    )
    return plain_table("findings", ("", "finding", "where", "what to do"), rows, show_lines=True)


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
