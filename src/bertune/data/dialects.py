"""How a table of text is written: what separates its fields, whether quotes have a meaning, whether it has a header.

Recognised from the first rows, once for the whole file.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.data.columns import is_customary

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
"""What may separate fields, and its name for people."""
_SAMPLE_ROWS = 200
_LONGEST_NAME = 60
_FEWEST_BELOW_A_TITLE = 2
"""Columns of which a table has more where its title stands alone on its line: else a text with a comma is one."""
_MOST_WORDS = 2
_MOST_IDEOGRAPHS = 8
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?%?$")
_SENTENCE_END = re.compile(r"[.!?。！？…]['\"”’」』)]*$")
_SEP_LINE = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n", re.IGNORECASE)

Records = list[list[str]]


@dataclass(frozen=True)
class Dialect:
    """How fields are written.

    skipped: lines before the table (`sep=;`, which Excel reads and writes).
    spaced: whether spaces stand between a separator and a quote (`"a", "b"`).
    titles: lines above the header, among those that are skipped, that are no part of the table.
    """

    separator: str
    quoted: bool
    header: bool
    skipped: int = 0
    spaced: bool = False
    titles: int = 0


def recognise(
    text: str, own: str | None, *, separator: str | None = None, quoted: bool | None = None, header: bool | None = None
) -> Dialect:
    """The dialect of a table.

    Args:
        text: The beginning of the file, whole lines.
        own: The separator that the file's name promises; kept unless another one fits and it does not.
        separator: The separator, where it is known.
        quoted: Whether quotes have a meaning, where it is known.
        header: Whether the first line names the columns, where it is known.
    """
    skipped = 0
    if announced := _SEP_LINE.match(text):
        text, skipped = text[announced.end() :], 1
        separator = separator or announced[1]
    if separator is None:
        separator = _separator(text, own, quoted)
    if quoted is None:
        quoted = separator != "\t" or tabs_are_quoted(text)
    spaced = quoted and _is_spaced(text, separator)
    records = sample_records(text, separator, quoted, spaced=spaced)
    above = titles(records) if header is not False and _has_no_blank_line(text) else 0
    if header is None:
        header = has_header(records[above:])
    return Dialect(separator, quoted, header, skipped + above, spaced, above)


_MOST_TITLES = 5


def titles(records: Sequence[Sequence[str]]) -> int:
    """How many of the first records stand above a table, as reports have them: one cell alone, or none.

    The next record must name columns, as rows of several cells below it show.
    """
    filled = [sum(bool(field.strip()) for field in fields) for fields in records[:40]]
    if not filled or filled[0] != 1 or any(is_customary(field.strip()) for field in records[0]):
        return 0
    above = next((i for i, cells in enumerate(filled) if cells > 1), 0)
    rows = filled[above + 1 :]
    if not 0 < above <= _MOST_TITLES or not rows or filled[above] < max(2, len(records[above]) - 1):
        return 0
    full = sum(cells > 1 for cells in rows) > 0.7 * len(rows)
    return above if full and has_header(records[above:]) else 0


def _has_no_blank_line(text: str) -> bool:
    """Whether records can be counted from the beginning of the file as readers count them."""
    return all(line.strip() for line in text.rstrip().split("\n", _MOST_TITLES + 1)[: _MOST_TITLES + 1])


def _is_spaced(text: str, separator: str) -> bool:
    """Whether quotes behind a separator and spaces quote a field: so they cut every record alike."""
    if f'{separator} "' not in text:
        return False
    plain, spaced = (sample_records(text, separator, True, spaced=wanted) for wanted in (False, True))
    loose = [field.startswith(' "') and field.endswith('"') for fields in plain for field in fields]
    return any(loose) and len({len(fields) for fields in spaced}) == 1


def sample_records(text: str, separator: str, quoted: bool, *, spaced: bool = False) -> Records:
    """The first records that are not blank; quotes that break the rules are taken as they can be."""
    lines = list(io.StringIO(text, newline="\n"))  # no other character ends a line, U+2028 neither
    if not quoted:
        split = (line.rstrip("\r\n").split(separator) for line in lines if line.strip())
        return [fields for fields, _ in zip(split, range(_SAMPLE_ROWS), strict=False)]
    csv.field_size_limit(2**31 - 1)
    found: Records = []
    try:
        for fields in csv.reader(lines, delimiter=separator, skipinitialspace=spaced):
            if any(field.strip() for field in fields) or len(fields) > 1:
                found.append(fields)
            if len(found) >= _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return found


def _separator(text: str, own: str | None, quoted: bool | None) -> str:
    """The separator that cuts all rows alike; the file's own one where it does that, too, or none does."""
    fits: dict[str, int] = {}
    for candidate in SEPARATORS:
        in_quotes = quoted if quoted is not None else candidate != "\t" or tabs_are_quoted(text)
        records = sample_records(text, candidate, in_quotes)
        above = titles(records)
        records = records[above:] if above and len(records[above]) > _FEWEST_BELOW_A_TITLE else records
        widths = Counter(len(fields) for fields in records)
        width = len(records[0]) if records else 0
        if width > 1 and widths[width] >= 0.9 * len(records):
            fits[candidate] = width
    if own in fits or not fits:
        return own or ("\t" if "\t" in text else ",")
    return max(fits, key=lambda candidate: fits[candidate])


def tabs_are_quoted(text: str) -> bool:
    """Whether a table separated by tabs was quoted by a spreadsheet.

    So it was where some field is quoted for a reason (a doubled quote, a tab or a line end inside, or the whole header
    is quoted) and no field breaks the rules of quoting. Else a quote is an ordinary character, as in GLUE's files.
    """
    if '"' not in text:
        return False
    csv.field_size_limit(2**31 - 1)
    try:
        records = list(csv.reader(io.StringIO(text, newline="\n"), delimiter="\t", strict=True))
    except csv.Error:
        return False
    fields = [field for fields in records for field in fields]
    width = Counter(len(fields) for fields in records).most_common(1)[0][0]
    if any(len(fields) not in (width, 0) for fields in records):
        return False
    first = text.lstrip("\ufeff").split("\n", 1)[0].rstrip("\r").split("\t")
    header = all(len(name) > 1 and name[0] == name[-1] == '"' for name in first)
    doubled = any('"' in field for field in fields if f'"{field.replace(chr(34), chr(34) * 2)}"' in text)
    return header or doubled or any("\t" in field or "\n" in field for field in fields)


def has_header(records: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names the columns, rather than being a row.

    It does where one of its fields is a customary name. It does not where a field is a number, a sentence or very long,
    or occurs again below in the same column.
    """
    if not records:
        return True
    first, rest = [field.strip() for field in records[0]], records[1:]
    if any(is_customary(name) for name in first):
        return True
    if first == [str(i) for i in range(len(first))]:  # pandas' names of columns without names
        return True
    if len(first) == 1:
        return not _is_text(first[0])
    columns = [[row[i].strip() for row in rest if len(row) > i] for i in range(len(first))]
    numeric = [bool(column) and all(_NUMBER.match(cell) for cell in column if cell) for column in columns]
    if any(_NUMBER.match(field) for field in first):
        return False
    if any(is_number and any(column) for is_number, column in zip(numeric, columns, strict=True)):
        return True  # a name over numbers
    if any(len(field) > _LONGEST_NAME or _ideographs(field) > _MOST_IDEOGRAPHS for field in first):
        return False
    rows = [list(row) for row in rest if list(row) != list(records[0])]
    again = (field and any(len(row) > i and row[i].strip() == field for row in rows) for i, field in enumerate(first))
    return not any(again)


def _is_text(field: str) -> bool:
    """Whether the only field of a first line is rather a text than a column's name."""
    words, ideographs = len(field.split()), _ideographs(field)
    return (
        len(field) > _LONGEST_NAME
        or words > _MOST_WORDS
        or ideographs > _MOST_IDEOGRAPHS
        or (bool(_SENTENCE_END.search(field)) and words + ideographs > 1)
    )


def _ideographs(field: str) -> int:
    return sum("\u3040" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3" for char in field)
