"""Texts, pairs and labels of a table: which columns hold them, and the rows that have them all."""

import difflib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bertune.data.columns import guess_label_column, guess_text_columns, is_customary_text, label_text, listed
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError, Problems, counted
from bertune.tasks.column_contents import columns_of_few_values, indicator_columns, text_columns
from bertune.tasks.options import TextColumns

logger = logging.getLogger(__name__)

_UNDECIDED = "-"
"""SNLI's, MultiNLI's and OCNLI's label of a pair on which annotators did not agree."""
_INFERENCE = {"entailment", "neutral", "contradiction", "not_entailment", "entailed", "contradictory"}
_KEPT = 100_000
"""Labels that are kept with their canonical names: most of them recur."""

Found = tuple[str, str | None, str | None]
"""Names of the columns of text, pair and label."""
TextRow = tuple[str, str | None, str | None, int]
"""Text, pair, label, line."""


def find_columns(file: Rows, options: TextColumns, *, labelled: bool) -> Found:
    """Names of the text, pair and label columns; the last is None where there is none and none is needed.

    A column is named as in the file, or by its number from 0.

    Raises:
        InputError: a named column that the file lacks, or none that can be guessed.
    """
    problems = Problems()
    text = by_name_or_number(file, options.text_column, "--text-column", problems)
    pair = by_name_or_number(file, options.pair_column, "--pair-column", problems)
    label = by_name_or_number(file, options.label_column, "--label-column", problems if labelled else Problems())
    problems.raise_if_any()
    try:
        text, pair, label = _guessed(file.columns, (text, pair, label), labelled=labelled)
    except InputError as error:
        texts = text_columns(file, [name for name in file.columns if name not in (text, pair, label)])
        customary = [name for name in file.columns if is_customary_text(name)]
        if text is not None or len(texts) != 1 or (customary and texts[0] not in customary):
            advice = _by_contents(file, texts, label, labelled=labelled)
            raise InputError(f"{file.path}: {error}{advice}{_without_header(file)}") from None
        logger.info("%s: %r is the only column of longer texts (--text-column)", file.path, texts[0])
        text, pair, label = _guessed(file.columns, (texts[0], pair, label), labelled=labelled)
    if labelled and label is None:
        advice = _candidates(file, (text, pair)) + _indicators_advice(file, (text, pair)) + _without_header(file)
        raise InputError(
            f"{file.path}: no column looks like a label; name it with --label-column (it has: "
            f"{', '.join(file.columns)}){advice}"
        )
    label = label if label in file.columns else None
    if labelled:
        log_columns(file, {"text": text, "pair": pair, "label": label})
    return text, pair, label


def log_columns(file: Rows, taken: Mapping[str, str | None]) -> None:
    """One line: which columns were taken as what, and which are not read."""
    named = ", ".join(f"{what} from {column!r}" for what, column in taken.items() if column is not None)
    rest = [column for column in file.columns if column not in taken.values()]
    unread = f"; not read: {listed(rest)}" if rest else ""
    logger.info("%s: %s%s", file.path, named, unread, extra={"once": True})


def by_name_or_number(file: Rows, column: str | None, flag: str, problems: Problems) -> str | None:
    """A column that an option names, or numbers from 0; what the file lacks is added to `problems`."""
    if column is None or column in file.columns:
        return column
    if column.isdecimal() and int(column) < len(file.columns):
        return file.columns[int(column)]
    near = [name for name in file.columns if name.casefold() == column.casefold()]
    near = near or difflib.get_close_matches(column, file.columns, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    problems.add(f"{file.path}: no column {column!r} ({flag}); it has: {', '.join(file.columns)}{hint}")
    return column


def _guessed(columns: Sequence[str], given: tuple[str | None, str | None, str | None], *, labelled: bool) -> Found:
    text, pair, label = given
    if text is None:
        text, guessed = guess_text_columns([column for column in columns if column not in (label, pair)])
        pair = pair or guessed
    if labelled and label is None:
        label = guess_label_column([column for column in columns if column not in (text, pair)])
    return text, pair, label


def _without_header(file: Rows) -> str:
    """For a file whose columns are numbered, its first row, to choose from."""
    if not all(name.isdecimal() for name in file.columns):
        return ""
    first = next(iter(file)).values
    shown = ", ".join(f"{name}: {str(value)[:30]!r}" for name, value in first.items())
    return f". Its first line is not a header; its first row is {shown}. For example --text-column 1 --label-column 0"


def _by_contents(file: Rows, texts: Sequence[str], label: str | None, *, labelled: bool) -> str:
    """What the columns look like, and the options to try: for a table whose columns have other names."""
    if not texts:
        return ""
    advice, tried = f". Longer texts are in {listed(texts)}", f"--text-column {_as_typed(texts[0])}"
    labels = columns_of_few_values(file, [name for name in file.columns if name not in texts])
    if labelled and label is None and labels:
        advice += f", a few values that recur in {' or '.join(f'{name!r} ({count})' for name, count in labels[:5])}"
        tried += f" --label-column {_as_typed(labels[0][0])}"
    return f"{advice}; for example {tried}"


def _as_typed(name: str) -> str:
    return f"'{name}'" if re.search(r"[^\w.-]", name) else name


def _candidates(file: Rows, texts: tuple[str | None, str | None]) -> str:
    """The columns in which few values recur, as labels do, with the number of values."""
    others = [name for name in file.columns if name not in texts]
    found = columns_of_few_values(file, others)
    named = " or ".join(f"{name!r} ({count} values)" for name, count in found[:5])
    return f". Labels may be in {named}; for example --label-column {_as_typed(found[0][0])}" if found else ""


def _indicators_advice(file: Rows, texts: tuple[str | None, str | None]) -> str:
    found = indicator_columns(file, [name for name in file.columns if name not in texts])
    if len(found) < 2:
        return ""
    return (
        f". The columns {listed(found)} hold only 0 and 1, so every text may have several labels: "
        f"--task multi-label-classification --label-columns {' '.join(repr(n) if ' ' in n else n for n in found)}"
    )


def text_rows(file: Rows, columns: Found, *, labelled: bool, drop_unlabelled: bool = False) -> Iterator[TextRow]:
    """Text, pair or None, label or None, and line of every row.

    Pairs that SNLI, MultiNLI and OCNLI label "-", because annotators did not agree, are left out and counted.

    Args:
        file: The table.
        columns: Those of text, pair and label.
        labelled: Whether labels are wanted.
        drop_unlabelled: Leave out rows without a text or a label, and count them.

    Raises:
        InputError: at the end, all rows that lack a text or, when `labelled`, a label.
    """
    text_column, pair_column, label_column = columns
    problems = Problems()
    dropped, undecided = LeftOut("without a text or a label"), LeftOut("labelled '-': annotators did not agree")
    empty = EmptyTexts(file, columns[0], labelled=labelled)
    known: dict[str, str] = {}
    inference: bool | None = None if labelled and pair_column is not None else False
    single = pair_column is None
    wants_label = labelled and label_column is not None
    for row in file:
        values = row.values
        text = values.get(text_column)
        pair = None if single else values.get(pair_column)  # type: ignore[arg-type]
        label = None
        if wants_label:
            raw = values.get(label_column)  # type: ignore[arg-type]
            label = known.get(raw) if type(raw) is str else None
            if label is None:
                try:
                    label = _label(raw)
                except InputError as error:
                    problems.add(f"{file.where(row, label_column)}: {error}")
                    continue
                if label == _UNDECIDED and inference is not False:
                    inference = _is_inference(file, str(label_column)) if inference is None else inference
                    if inference:
                        undecided.add(row.line)
                        continue
                elif type(raw) is str and label is not None and len(known) < _KEPT:
                    known[raw] = label
        whole = type(text) is str and (single or type(pair) is str) and (label is not None or not labelled)
        if whole and (not drop_unlabelled or str(text).strip()):
            empty.add(row.line, text, pair)  # type: ignore[arg-type]
            if not problems:
                yield text, pair, label, row.line  # type: ignore[misc]
            continue
        if not drop_unlabelled:
            problems.extend(_wrong(file, row, columns, (text, pair, label), labelled=labelled))
            continue
        dropped.add(row.line)
    problems.raise_if_any()
    for left_out in (dropped, undecided):
        left_out.log(file)
    empty.tell()


_LIST_OF_FLAGS = re.compile(r"\[\s*[01](\.0*)?(\s*[,\s]\s*[01](\.0*)?)+\s*\]")


def _label(raw: object) -> str | None:
    written = str(raw) if isinstance(raw, list) else raw if isinstance(raw, str) and raw[:1] == "[" else ""
    if _LIST_OF_FLAGS.fullmatch(written.strip()):
        raise InputError(
            f"{written!r} holds a 0 or 1 for every label; --task multi-label-classification (--label-names) reads it"
        )
    if isinstance(raw, list) and all(isinstance(name, str) for name in raw):
        if len(raw) > 1:
            raise InputError(f"several labels, {raw!r}; for any number of them: --task multi-label-classification")
        raw = raw[0] if raw else None
    return label_text(raw)


def _wrong(
    file: Rows, row: Row, columns: Found, values: tuple[object, object, str | None], *, labelled: bool
) -> Iterable[str]:
    for column, value in zip(columns[:2], values[:2], strict=True):
        if column is not None and not isinstance(value, str):
            yield f"{file.where(row, column)}: expected text, found {value!r}{_hint(value, labelled=labelled)}"
    if labelled and values[2] is None:
        yield (
            f"{file.where(row, columns[2])}: the label is missing; fill it in, or leave such rows out with "
            "--drop-unlabelled"
        )


def _hint(value: object, *, labelled: bool) -> str:
    if value is None:
        return " (such rows are left out with --drop-unlabelled)" if labelled else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return " (a number: write it in quotation marks; in a data frame .astype(str) makes a column's numbers texts)"
    return ""


def _is_inference(file: Rows, label_column: str) -> bool:
    """Whether the labels of a whole file are those of natural language inference."""
    labels = {str(row.values.get(label_column)).strip().lower() for row in file} - {_UNDECIDED, "", "none"}
    return bool(labels) and labels <= _INFERENCE


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing: null, text of white space alone, an empty list."""
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


class EmptyTexts:
    """Rows that are used though their text is empty: counted and told; refused where none of those to learn has one.

    labelled: whether the rows are to be learnt or judged; otherwise they are to be answered.
    """

    def __init__(self, file: Rows, column: str, *, labelled: bool = True) -> None:
        self._file, self._column, self._labelled = file, column, labelled
        self._rows, self._empty, self._first = 0, 0, list[int]()

    def add(self, line: int, *texts: str | None) -> None:
        """A row's texts, by its line."""
        self._rows += 1
        if not any(texts) or all(text is None or not text or text.isspace() for text in texts):
            self._empty += 1
            if len(self._first) < 3:
                self._first.append(line)

    def tell(self) -> None:
        """Say how many rows have no text.

        Raises:
            InputError: none of several to learn has one.
        """
        if self._labelled and self._empty == self._rows > 1:
            raise InputError(
                f"{self._file.path}: the column {self._column!r} is empty in all {self._rows} rows; name the column of "
                f"the texts with --text-column (it has: {listed(self._file.columns)})"
            )
        if self._empty:
            used = "used as they are; --drop-unlabelled leaves them out" if self._labelled else "answered all the same"
            logger.warning(
                "%s: %d of %s %s an empty text in column %r (%s%s %s%s), and %s %s",
                self._file.path, self._empty, counted(self._rows, "row"), "has" if self._empty == 1 else "have",
                self._column, _unit(self._file), "s" * (self._empty > 1),
                ", ".join(map(str, self._first)), ", …" * (self._empty > len(self._first)),
                "is" if self._empty == 1 else "are", used,
                extra={"once": True},
            )  # fmt: skip


def _unit(file: Rows) -> str:
    """What places in a file are counted in: lines of text, or rows of a workbook."""
    return "row" if file.where(1) == f"{file.path}, row 1" else "line"


class LeftOut:
    """Rows that are left out, counted. why: what they lack, for the message."""

    def __init__(self, why: str) -> None:
        self._why, self._count = why, 0
        self._first: list[int] = []

    def add(self, line: int) -> None:
        """One more row, by its line."""
        self._count += 1
        if len(self._first) < 3:
            self._first.append(line)

    def log(self, file: Rows | Path) -> None:
        """Log how many there are, and the places of the first ones; nothing if there are none."""
        path, unit = (file, "line") if isinstance(file, Path) else (file.path, _unit(file))
        if self._count:
            more = ", …" if self._count > len(self._first) else ""
            rows, lines = ("row is", unit) if self._count == 1 else ("rows are", f"{unit}s")
            first = ", ".join(map(str, self._first))
            logger.info("%s: %d %s left out, %s (%s %s%s)", path, self._count, rows, self._why, lines, first, more)
