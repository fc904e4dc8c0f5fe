"""`bertune report`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.options import option
from bertune.report.options import ReportOptions


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the figures as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Write the report of a run."""
    folders = list(takewhile(lambda argument: not argument.startswith("-"), argv))
    about = "Describe a model's results on labelled rows: one page in HTML, its figures as JSON, its errors as CSV."
    run = ("RUN", "a folder that bertune train wrote")
    given = parse("bertune report", about, [ReportOptions, _Extra], argv[len(folders) :], leading=run)
    as_json = given.pop("json", False)
    if len(folders) != 1:
        raise InputError(f"bertune report: name one folder that bertune train wrote, not {len(folders)}")

    from bertune.progress import console
    from bertune.report.write import write_report

    found = write_report(folders[0], ReportOptions(**given))
    console.print(f"report: {found.html}", markup=False, highlight=False)
    if as_json:
        print(json.dumps(found.figures, ensure_ascii=False))
