"""What a column of several labels holds: names, numbers of labels, or 0 and 1 for every label; one form a file.

A cell is a list, an object of names and flags (`{"a": 1, "b": 0}`, as spaCy's `cats`), or a text: a list as JSON,
Python or NumPy writes it (`["a"]`, `['a']`, `[0 1 1]`), names joined by a delimiter, or a row of flags (`0 1 1`,
`0,1,1`, `011`).
"""

import ast
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bertune.data.columns import label_text, listed
from bertune.data.tables import Rows
from bertune.errors import InputError
from bertune.files.json_files import parse_json

logger = logging.getLogger(__name__)

TRUE = frozenset({"1", "true", "yes", "1.0", "y", "t"})
FALSE = frozenset({"0", "false", "no", "0.0", "n", "f"})
INDICATORS = "0 and 1 for"
_FLAGS = re.compile(r"[01](?:(?P<between>\s*[,;|\s]\s*)[01](?:(?P=between)[01])*|[01]+)")
_MARKS = (";", ",", "/", "#", "\t")
"""What joins labels, besides the delimiter that an option names."""
_KEPT = 10_000
"""Different cells that are looked at for these."""
Read = Callable[[object], frozenset[str]]
"""A cell → the names of its labels. Raises InputError for a cell of another form."""


def reader_of(file: Rows, column: str, delimiter: str, names: Sequence[str] | None) -> Read:
    """What reads the cells of a column of labels, whose form is decided from all of them.

    Args:
        file: The table, which is read for it.
        column: The column.
        delimiter: What joins names in a text.
        names: The labels' names in order, for numbers and indicators; None: the numbers are the names.

    Raises:
        InputError: More labels than names.
    """
    detector, flags, joined = _LabelFormDetector(), _FlagTexts(), _Joined(delimiter)
    for row in file:
        cell = row.values.get(column)
        flags.see(cell)
        joined.see(cell)
        try:
            detector.see(parts_of(cell, delimiter))
        except InputError:
            continue  # reported when the row is read
    if flags.found and not detector.form(names).startswith(INDICATORS):
        return _reader_of_flags(file, column, flags.width, names)
    form = detector.form(names)
    logger.info("%s, column %r: %s", file.path, column, form)
    if (other := joined.other()) is not None:
        logger.warning(
            "%s, column %r: %r seems to hold several labels, joined by %r; it is read as one label. If so, give "
            "--label-delimiter %r", file.path, column, *other, other[1],
        )  # fmt: skip
    if form.startswith(INDICATORS):
        chosen = _names_of(file, detector.widths.pop(), names)
        return lambda cell: _indicated(parts_of(cell, delimiter), chosen)
    if names is not None:
        return lambda cell: _numbered(parts_of(cell, delimiter), names)
    return lambda cell: _named(parts_of(cell, delimiter))


def _reader_of_flags(file: Rows, column: str, width: int, names: Sequence[str] | None) -> Read:
    """What reads cells that are texts of a 0 or 1 for every label."""
    chosen = _names_of(file, width, names)
    numbered = "" if names else "; they are called by their numbers from 0 (names: --label-names)"
    logger.info("%s, column %r: texts of %s each of %d labels%s", file.path, column, INDICATORS, width, numbered)
    return lambda cell: _indicated(re.findall("[01]", str(cell)), chosen)


def _names_of(file: Rows, width: int, names: Sequence[str] | None) -> list[str]:
    if names is not None and len(names) != width:
        raise InputError(f"--label-names: {len(names)} names, but {file.path} has lists of {width}")
    return list(names or map(str, range(width)))


@dataclass
class _FlagTexts:
    """Whether all cells are texts of as many 0s and 1s, divided in one way or not at all.

    Undivided they begin with 0 somewhere (`011`), as no number does.
    """

    shapes: set[tuple[int, str]] = field(default_factory=set)
    zero_first: bool = False

    def see(self, cell: object) -> None:
        """One more cell."""
        match = _FLAGS.fullmatch(cell.strip()) if isinstance(cell, str) else None
        self.shapes.add((0, "") if match is None else (len(re.findall("[01]", match[0])), match["between"] or ""))
        self.zero_first |= match is not None and match[0][0] == "0"

    @property
    def width(self) -> int:
        """How many labels there are."""
        return next(iter(self.shapes))[0]

    @property
    def found(self) -> bool:
        """Whether they are."""
        shape = next(iter(self.shapes)) if len(self.shapes) == 1 else (0, "")
        return shape[0] > 1 and (bool(shape[1]) or self.zero_first)


@dataclass
class _Joined:
    """Whether texts join labels otherwise than by the delimiter: what a mark divides recurs in other cells."""

    delimiter: str
    cells: set[str] = field(default_factory=set)

    def see(self, cell: object) -> None:
        """One more cell."""
        if isinstance(cell, str) and cell.strip() and len(self.cells) < _KEPT:
            self.cells.add(cell.strip())

    def other(self) -> tuple[str, str] | None:
        """Such a cell and the mark; None where there is none, or the delimiter occurs."""
        if any(self.delimiter in cell or cell[0] in "[{" for cell in self.cells):
            return None
        for mark in _MARKS:
            parts = [[part.strip() for part in cell.split(mark)] for cell in sorted(self.cells)]
            count = Counter(part for some in parts for part in set(some))
            divided = [some for some in parts if len(some) > 1]
            recurring = sum(count[part] > 1 for some in divided for part in some)
            if divided and recurring * 2 > sum(map(len, divided)):
                return next(cell for cell in sorted(self.cells) if mark in cell), mark
        return None


@dataclass
class _LabelFormDetector:
    """What all cells so far have in common. widths: lengths of lists that are not empty."""

    widths: set[int] = field(default_factory=set)
    indicators: bool = True
    numbers: bool = True
    both: set[str] = field(default_factory=set)

    def see(self, parts: list[object]) -> None:
        """One more cell."""
        if not parts:
            self.indicators = False
            return
        if len(self.widths) < 3:
            self.widths.add(len(parts))
        label = {str(label_text(part)) for part in parts}
        self.indicators &= label <= {"0", "1", "true", "false"}
        self.numbers &= all(one.isdecimal() for one in label)
        self.both |= label if len(self.both) < 3 else set()

    def form(self, names: Sequence[str] | None) -> str:
        """In words."""
        if self.indicators and len(self.widths) == 1 and self.widths != {1} and len(self.both) > 1:
            count = next(iter(self.widths))
            numbered = "" if names else "; they are called by their numbers from 0 (names: --label-names)"
            return f"{INDICATORS} each of {count} labels{numbered}"
        if self.numbers and self.widths:
            return "numbers of labels" + ("" if names else ", which serve as names (others: --label-names)")
        return "names of labels"


def parts_of(value: object, delimiter: str) -> list[object]:
    """The items of a cell.

    Raises:
        InputError: a text that begins as a list and is none.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return [name for name, flag in value.items() if flag is not None and flag_of(flag)]
    if not isinstance(value, str):
        return [] if value is None else [value]
    text = value.strip()
    if not text:
        return []
    if text[0] in "[({" and text[-1] in "])}":
        return _written_list(text)
    if text[0] == "[":
        raise InputError(f"{value[:80]!r} begins as a list and does not end as one")
    return [part for part in text.split(delimiter) if part.strip()]


def _written_list(text: str) -> list[object]:
    for parse in (parse_json, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list | tuple | set | frozenset):
            return sorted(found, key=str) if isinstance(found, set | frozenset) else list(found)
    inner = text[1:-1].replace("'", " ").replace('"', " ").split()  # as NumPy writes arrays: [0 1 1]
    if text[0] == "[" and all(part.replace(".", "", 1).isdecimal() for part in inner):
        return list(inner)
    raise InputError(f"{text[:80]!r} is not a list in JSON or Python")


def _named(parts: list[object]) -> frozenset[str]:
    found = [label_text(part) for part in parts]
    return frozenset(name for name in found if name is not None)


def _indicated(parts: list[object], names: Sequence[str]) -> frozenset[str]:
    if len(parts) != len(names):
        raise InputError(f"{len(parts)} values, but there are {len(names)} labels")
    return frozenset(name for name, part in zip(names, parts, strict=True) if flag_of(part))


def _numbered(parts: list[object], names: Sequence[str]) -> frozenset[str]:
    found = []
    for part in parts:
        label = str(label_text(part))
        if label in names:
            found.append(label)
        elif label.isdecimal() and int(label) < len(names):
            found.append(names[int(label)])
        else:
            raise InputError(f"{label!r} is neither one of --label-names ({listed(names)}) nor one's number")
    return frozenset(found)


def flag_of(value: object) -> bool:
    """Whether a label holds, by a cell of 0 or 1, true or false, yes or no.

    Raises:
        InputError: anything else.
    """
    label = (label_text(value) or "").lower()
    if label in TRUE or label in FALSE:
        return label in TRUE
    raise InputError(f"expected 0 or 1, found {value!r} (true and false, yes and no are read, too)")
