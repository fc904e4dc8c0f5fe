"""What the columns of a table hold, by their first thousand rows: for tables whose columns have no customary names."""

import contextlib
import re
from collections.abc import Sequence
from itertools import islice

from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError

_LOOKED_AT = 1000
_FEW_VALUES = 50
"""Values of a column up to which they may be labels."""
_WORD = re.compile(r"[\u3040-\u9fff\uac00-\ud7a3]|[^\W\d_]+")
"""A word, or an ideograph."""
_WORDS_OF_A_TEXT = 3
_FEWEST = 10
"""Cells from which on the contents of a column say that it holds texts."""
_FLAGS = ({"0", "1"}, {"true", "false"}, {"yes", "no"}, {"0.0", "1.0"})


def text_columns(file: Rows, columns: Sequence[str]) -> list[str]:
    """Those columns that hold texts: several words in most cells, and mostly different ones."""
    rows = _first_rows(file)
    found = []
    for name in columns:
        texts = [str(row.values[name]) for row in rows if not is_blank(row.values.get(name))]
        long = sum(len(_WORD.findall(text)) >= _WORDS_OF_A_TEXT for text in texts)
        if len(texts) >= _FEWEST and long > 0.6 * len(texts) and len(set(texts)) > 0.5 * len(texts):
            found.append(name)
    return found


def columns_of_few_values(file: Rows, columns: Sequence[str]) -> list[tuple[str, int]]:
    """Those columns in which few values recur, as labels do, and how many values each has."""
    rows = _first_rows(file)
    found = []
    for name in columns:
        values = {str(row.values.get(name)) for row in rows if not is_blank(row.values.get(name))}
        if 1 < len(values) <= min(_FEW_VALUES, len(rows) / 2):
            found.append((name, len(values)))
    return found


def indicator_columns(file: Rows, columns: Sequence[str]) -> list[str]:
    """Those columns whose values are 0 and 1 (true and false, yes and no)."""
    rows = _first_rows(file)
    found = []
    for name in columns:
        values = {str(row.values.get(name)).strip().lower() for row in rows}
        if any(values <= flags for flags in _FLAGS):
            found.append(name)
    return found


def is_blank(value: object) -> bool:
    """Whether a cell holds nothing: null, text of white space alone, an empty list."""
    return value is None or (isinstance(value, str) and not value.strip()) or value == []


def _first_rows(file: Rows) -> list[Row]:
    """The first thousand rows; those before one that cannot be read, which is reported when all are read."""
    rows: list[Row] = []
    with contextlib.suppress(InputError):
        rows.extend(islice(iter(file), _LOOKED_AT))
    return rows
