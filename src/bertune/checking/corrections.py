"""Corrected labels back into the data: what people wrote into a report's suspects.csv."""

import codecs
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.data.columns import label_text
from bertune.data.rows import Row
from bertune.data.tables import open_table
from bertune.errors import InputError, Problems
from bertune.files.outputs import open_output
from bertune.files.spreadsheets import original
from bertune.tasks.options import TextOptions
from bertune.tasks.protocol import Task
from bertune.tasks.reading import find_columns

NEEDED = ("file", "place", "text", "truth", "correct_label")
"""Columns of a file of corrections, as reports write them."""
WRITTEN = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Applied:
    """What became of a file's labels. rows: in the new file.  changed, confirmed: labels that people judged."""

    output: Path
    rows: int
    changed: int
    confirmed: int


@dataclass(frozen=True)
class _Correction:
    """A judged row. line: of the file of corrections.  place: of the data."""

    line: int
    place: int
    text: str
    before: str
    label: str


def apply_corrections(task: Task[Any], data: Path, corrections: Path, output: Path) -> Applied:
    """Write a table anew with the labels that people corrected; all other values stay.

    Args:
        task: text-classification, whose options say how the table is read.
        data: the table.
        corrections: suspects.csv of a report, its column `correct_label` filled in where somebody judged.
        output: a new file, by its suffix CSV, TSV or JSON lines.

    Raises:
        InputError: another task, rows that are not as the corrections have them, labels that the data do not know;
            all at once, and nothing is written.
    """
    if not isinstance(task.options, TextOptions) or task.name != "text-classification":
        raise InputError(f"--apply: corrects labels of text-classification, not of {task.name}")
    if output.suffix.lower() not in WRITTEN:
        raise InputError(f"--output {output}: name a file that ends in {', '.join(WRITTEN)}")
    if output.exists():
        raise InputError(f"--output {output}: already exists; name a new file")
    judged = _judged(corrections, data)
    table = open_table(data, task.options)
    text_column, pair_column, label_column = find_columns(table, task.options, labelled=True)
    labels = {label_text(row.values.get(str(label_column))) for row in table} - {None}
    problems, found = Problems(), set[int]()
    for row in table:
        if (one := judged.get(row.line)) is None:
            continue
        found.add(row.line)
        problems.extend(_mismatches(one, row, (text_column, pair_column, str(label_column)), corrections))
    for one in judged.values():
        if one.place not in found:
            problems.add(f"{corrections}, line {one.line}: {data} has no row at line {one.place}")
        if one.label not in labels:
            known = ", ".join(sorted(map(str, labels)))
            problems.add(f"{corrections}, line {one.line}: no label {one.label!r} in {data}; known: {known}")
    problems.raise_if_any()
    changes = {one.place: one.label for one in judged.values() if one.label != one.before}

    def corrected() -> Iterator[Mapping[str, object]]:
        for row in table:
            change = changes.get(row.line)
            yield row.values if change is None else {**row.values, str(label_column): change}

    rows = _write(output, table.columns, corrected())
    return Applied(output, rows, len(changes), len(judged) - len(changes))


def _judged(corrections: Path, data: Path) -> dict[int, _Correction]:
    """Rows of this data file that somebody judged, by their line in it.

    Raises:
        InputError: no file of corrections, or none of its rows is judged, or a row is judged twice.
    """
    table = open_table(corrections, columns=NEEDED)
    problems, found = Problems(), dict[int, _Correction]()
    others: set[str] = set()
    for row in table:
        values = {name: original(row.values.get(name)) for name in NEEDED}
        if not values["correct_label"].strip():
            continue
        if Path(values["file"]).resolve() != data.resolve():
            others.add(values["file"])
            continue
        if not values["place"].isdecimal():
            problems.add(f"{table.where(row, 'place')}: {values['place']!r} is not a line of a table")
            continue
        place = int(values["place"])
        if place in found:
            problems.add(f"{table.where(row)}: line {place} of {data} is judged in line {found[place].line} already")
        label = values["correct_label"].strip()
        found[place] = _Correction(row.line, place, values["text"], values["truth"], label)
    problems.raise_if_any()
    if not found:
        about = f"; they are about {', '.join(sorted(others))}" if others else ": fill in its column correct_label"
        raise InputError(f"--apply {corrections}: no row of {data} is judged there{about}")
    return found


def _mismatches(one: _Correction, row: Row, columns: tuple[str, str | None, str], corrections: Path) -> list[str]:
    """Whether the data changed since the report was written."""
    text_column, pair_column, label_column = columns
    texts = [row.values.get(text_column), row.values.get(pair_column) if pair_column else None]
    text = " ¦ ".join(str(part) for part in texts if part is not None)
    where = f"{corrections}, line {one.line}"
    if " ".join(text.split()) != " ".join(one.text.split()):
        return [f"{where}: line {one.place} of the data reads {text[:60]!r}, not {one.text[:60]!r}; it has changed"]
    label = label_text(row.values.get(label_column))
    if label != one.before:
        return [f"{where}: line {one.place} of the data is labelled {label!r}, not {one.before!r}; it has changed"]
    return []


def _write(output: Path, columns: list[str], rows: Iterator[Mapping[str, object]]) -> int:
    count = 0
    with open_output(str(output)) as stream:
        if output.suffix.lower() == ".jsonl":
            for count, row in enumerate(rows, 1):  # noqa: B007 (counted for the caller)
                stream.write(json.dumps(dict(row), ensure_ascii=False).encode() + b"\n")
            return count
        text = codecs.getwriter("utf-8")(stream)
        writer = csv.writer(text, delimiter="\t" if output.suffix.lower() == ".tsv" else ",", lineterminator="\n")
        writer.writerow(columns)
        for count, row in enumerate(rows, 1):  # noqa: B007 (counted for the caller)
            writer.writerow(["" if row.get(name) is None else row.get(name) for name in columns])
    return count
