"""Data that Python programs hold: frames, Arrow tables, `datasets`, arrays, columns, iterables.

The one place where they become rows or items. No library is imported for it: an object's own module says what it is.

* A table (frame, Arrow table, dataset, mapping of columns, structured array) becomes a file of JSON lines, which tasks
  read as they read any file: by their options and the customary names of columns.
* Everything else that can be iterated over is a series of items (texts, pairs, mappings), in its order.
"""

import hashlib
import json
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.data.arrow_rows import class_names, names_of_classes, with_class_names
from bertune.data.columns import guess_text_columns, listed, repeated
from bertune.errors import InputError, counted
from bertune.files.cache import cache_folder

logger = logging.getLogger(__name__)

Values = dict[str, Any]


@dataclass(frozen=True)
class MemoryTable:
    """A table in memory.

    kind: What it is, in words.  columns: Their names, in order.  read: Starts reading its rows.
    """

    kind: str
    columns: Sequence[str]
    read: Callable[[], Iterator[Values]]


def as_table(data: object) -> MemoryTable | None:
    """A table that a program holds; None for anything else.

    Raises:
        InputError: A table without columns, with two of one name, or several tables in one object.
    """
    library = type(data).__module__.partition(".")[0]
    make = _MAKERS.get((library, type(data).__name__))
    if make is not None:
        table = make(data)
    elif isinstance(data, Mapping):
        table = _of_columns(data)
    elif library == "numpy" and getattr(getattr(data, "dtype", None), "names", None):
        table = _of_structured_array(data)
    elif hasattr(data, "__arrow_c_stream__") and library not in _LIBRARIES:
        table = _of_stream(data)
    else:
        return None
    if table is not None and not table.columns:
        raise InputError(f"a {table.kind} without columns")
    if table is not None and (twice := repeated(table.columns)):
        raise InputError(f"a {table.kind} with several columns of the same name: {listed(twice)}; rename them")
    return table


def as_items(data: object, function: str, item: str = "item") -> Iterable[Any]:
    """Items in their order from a list, an array, a series or anything that can be iterated over.

    Args:
        data: what a caller handed over; no table.
        function: that was called, for messages.
        item: what it takes, for messages.

    Raises:
        InputError: a single text or mapping, a set, numbers, something that cannot be iterated over.
    """
    kind = type(data).__name__
    if isinstance(data, str | bytes | Mapping):
        raise InputError(f"{function} takes a list of {item}s, not a single {kind}; write [{item}]")
    if isinstance(data, AbstractSet) and not hasattr(data, "mapping"):  # views of a dictionary have its order
        raise InputError(f"{function}: a {kind} has no order in which answers could come; write sorted(texts)")
    for convert in ("to_pylist", "to_list", "tolist"):  # Arrow, pandas and polars, NumPy and PyTorch
        if not isinstance(data, list) and hasattr(data, convert):
            data = _from_array(getattr(data, convert)(), function, kind)
            break
    if not isinstance(data, Iterable):
        raise InputError(
            f"{function}: cannot take items from a {kind}; it takes a list of texts, pairs or mappings, or a table "
            "(pandas, polars, Arrow, datasets)"
        )
    return map(_named_fields, data)


def texts_of(table: MemoryTable, function: str) -> list[Any]:
    """The only column of text of a table, by its customary name.

    Raises:
        InputError: none or several columns could be it.
    """
    columns = guess_or_refuse(table, function)
    if columns[1] is not None:
        raise InputError(
            f"{function}: the {table.kind} has two columns of text, {columns[0]!r} and {columns[1]!r}; hand over one: "
            f"data[{columns[0]!r}]"
        )
    return [row[columns[0]] for row in table.read()]


def guess_or_refuse(table: MemoryTable, function: str) -> tuple[str, str | None]:
    """Columns of text and pair of a table.

    Raises:
        InputError: they cannot be told from their names.
    """
    try:
        return guess_text_columns(table.columns)
    except InputError as error:
        raise InputError(f"{function}: {table.kind}: {error}; in Python hand over the column: data['NAME']") from None


@contextmanager
def as_file(table: MemoryTable) -> Iterator[Path]:
    """The table as a file for as long as the block lasts. Errors name the table and its rows, from 1, not the file.

    Raises:
        InputError: a table without rows.
    """
    with tempfile.TemporaryDirectory(prefix="bertune-") as folder:
        path = Path(folder) / f"{table.kind.replace(' ', '_')}.jsonl"
        _write(table, path)
        try:
            yield path
        except InputError as error:
            told = re.sub(rf"{re.escape(str(path))}(, line )?", lambda at: _place(table, at[1]), str(error))
            raise InputError(told) from None


def _place(table: MemoryTable, line: str | None) -> str:
    return f"the {table.kind}" + (", row " if line else "")


def kept_file(table: MemoryTable, role: str) -> Path:
    """The table as a file in the cache folder, called by its content: the same rows are the same file.

    So a run that is resumed finds its data, and run.yaml, which names the file, repeats the run.

    Raises:
        InputError: a table without rows.
    """
    folder = cache_folder("data")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        written = Path(beside) / "rows"
        digest, rows = _write(table, written)
        path = folder / f"{role}-{digest[:16]}.jsonl"
        written.replace(path)
    logger.info("%s: a %s of %s, kept as %s", role, table.kind, counted(rows, "row"), path)
    return path


def _write(table: MemoryTable, path: Path) -> tuple[str, int]:
    """Write JSON lines. Returns: their SHA-256 and number."""
    digest, rows = hashlib.sha256(), 0
    with path.open("wb") as stream:
        for row in table.read():
            line = json.dumps({name: _plain(row.get(name)) for name in table.columns}).encode() + b"\n"
            digest.update(line)
            stream.write(line)
            rows += 1
    if not rows:
        shutil.rmtree(path, ignore_errors=True)
        raise InputError(f"the {table.kind} has columns ({listed(table.columns)}) but no rows")
    return digest.hexdigest(), rows


def _plain(value: Any) -> Any:
    """A cell as JSON has it; what JSON has no word for becomes an object that says so, and is no text and no label."""
    if value is None or isinstance(value, bool | str):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    for convert in ("to_list", "tolist"):
        if hasattr(value, convert):
            return _plain(getattr(value, convert)())
    return {"type": type(value).__name__}


def _from_array(values: Any, function: str, kind: str) -> Any:
    if not isinstance(values, list):
        raise InputError(f"{function}: a {kind} with a single value; write [item]")
    first = next((value for value in values if value is not None), None)
    if isinstance(first, bool | int | float) and not (isinstance(first, float) and math.isnan(first)):
        raise InputError(
            f"{function}: a {kind} of numbers; texts are expected (tokens and vectors are made from them here)"
        )
    # Rows of an array of one column are single texts.
    return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in values]


def _named_fields(item: Any) -> Any:
    """A named tuple (`DataFrame.itertuples`) as a mapping; its fields have names, so two of them are no pair."""
    return item._asdict() if isinstance(item, tuple) and hasattr(item, "_asdict") else item


def _of_pandas(frame: Any) -> MemoryTable:
    if frame.columns.nlevels > 1:
        raise InputError("a DataFrame whose columns have several levels; give each a single name")
    names = [str(name) for name in frame.columns]

    def read() -> Iterator[Values]:
        columns = [frame.iloc[:, i] for i in range(len(names))]
        values = [column.astype(object).where(column.notna(), None).tolist() for column in columns]
        return (dict(zip(names, row, strict=True)) for row in zip(*values, strict=True))

    return MemoryTable("DataFrame", names, read)


def _of_polars(frame: Any) -> MemoryTable:
    collected = frame.collect() if hasattr(frame, "collect") else frame
    return MemoryTable("DataFrame", list(collected.columns), lambda: collected.iter_rows(named=True))


def _of_arrow(table: Any) -> MemoryTable:
    names = class_names(table.schema.metadata)

    def read() -> Iterator[Values]:
        for batch in table.to_batches() if hasattr(table, "to_batches") else [table]:
            yield from (with_class_names(row, names) for row in batch.to_pylist())

    return MemoryTable("Arrow table", list(table.schema.names), read)


def _of_stream(data: Any) -> MemoryTable:
    import pyarrow as pa

    return _of_arrow(pa.table(data))


def _of_dataset(dataset: Any) -> MemoryTable:
    features = dataset.features or {}
    columns = list(dataset.column_names or features)
    if not columns:
        columns = list(next(iter(dataset), ()))
    names = {column: found for column in features if (found := names_of_classes(features[column])) is not None}
    return MemoryTable("Dataset", columns, lambda: (with_class_names(dict(row), names) for row in dataset))


def _of_several(data: Any) -> MemoryTable:
    splits = list(data)
    raise InputError(
        f"a {type(data).__name__} holds several tables ({listed(splits)}); hand over one: data[{splits[0]!r}]"
        if splits
        else f"a {type(data).__name__} without any table"
    )


def _of_columns(data: Mapping[Any, Any]) -> MemoryTable | None:
    """A mapping of columns; a mapping of anything else is no table."""
    columns = {str(name): column for name, column in data.items()}
    if not columns or not all(_is_column(column) for column in columns.values()):
        return None
    values = {name: list(column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"columns of different lengths: {', '.join(f'{n!r} {k}' for n, k in lengths.items())}")
    if not any(column and isinstance(column[0], str | list | tuple) for column in values.values()):
        return None
    return MemoryTable(
        "mapping of columns",
        list(values),
        lambda: (dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)),
    )


def _is_column(value: Any) -> bool:
    return not isinstance(value, str | bytes | Mapping) and hasattr(value, "__len__") and hasattr(value, "__iter__")


def _of_structured_array(array: Any) -> MemoryTable:
    names = list(array.dtype.names)
    return MemoryTable(
        "structured array", names, lambda: (dict(zip(names, row, strict=True)) for row in array.tolist())
    )


def of_rows(rows: Sequence[Mapping[Any, Any]]) -> MemoryTable:
    """A list of mappings as a table; a row without some column has None there."""
    columns = list(dict.fromkeys(str(name) for row in rows for name in row))
    return MemoryTable(
        "list of mappings", columns, lambda: ({str(name): value for name, value in row.items()} for row in rows)
    )


_MAKERS: Mapping[tuple[str, str], Callable[[Any], MemoryTable | None]] = {
    ("pandas", "DataFrame"): _of_pandas,
    ("polars", "DataFrame"): _of_polars,
    ("polars", "LazyFrame"): _of_polars,
    ("pyarrow", "Table"): _of_arrow,
    ("pyarrow", "RecordBatch"): _of_arrow,
    ("pyarrow", "RecordBatchReader"): _of_stream,
    ("datasets", "Dataset"): _of_dataset,
    ("datasets", "IterableDataset"): _of_dataset,
    ("datasets", "DatasetDict"): _of_several,
    ("datasets", "IterableDatasetDict"): _of_several,
}
"""By library and class what makes a table of an object."""
_LIBRARIES = {library for library, _ in _MAKERS}


def data_path(data: object, role: str) -> str | Path:
    """What names the data of a role ("train", "validation"): a path as it is, a table by its file in the cache folder.

    Raises:
        InputError: neither.
    """
    if isinstance(data, str | Path):
        return data
    return kept_file(labelled_table(data, role), role)


def labelled_table(data: object, role: str) -> MemoryTable:
    """A table with labels, from a table or a list of mappings.

    Raises:
        InputError: anything else.
    """
    table = as_table(data)
    if table is None and isinstance(data, list | tuple) and data and all(isinstance(row, Mapping) for row in data):
        table = of_rows(data)
    if table is None:
        raise InputError(
            f"{role}: expected a file, a table (pandas, polars, Arrow, datasets), or a list of mappings such as "
            f"{{'text': …, 'label': …}}, not a {type(data).__name__}"
        )
    return table
