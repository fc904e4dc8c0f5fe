"""Rows of Parquet and Arrow files; numbers of classes become their names where `datasets` kept them.

`datasets` writes its features into the schema's metadata, under "huggingface": a ClassLabel (or a list of them) holds
numbers there and the names in the metadata; -1 stands for no label.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bertune.data.rows import Row, parquet_file
from bertune.errors import InputError, Problems
from bertune.files.pyarrow_package import require_pyarrow
from bertune.files.text_files import unreadable

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1024


def open_arrow(path: Path) -> tuple[list[str], Callable[[], Iterator[Row]]]:
    """Names of the columns, and what reads the rows.

    Raises:
        InputError: The file cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        with parquet_file(path) as reader:
            schema = reader.schema_arrow
    else:
        with _ipc_reader(path) as batches:
            schema = batches[0]
    if not schema.names:
        raise InputError(f"{path} is empty: it holds no columns")
    names = class_names(schema.metadata)
    return list(schema.names), lambda: _rows(path, names)


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """By column the names of classes that a schema's metadata holds."""
    try:
        dataset_info = json.loads((metadata or {}).get(b"huggingface", b"{}"))
        features = dataset_info["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        names = names_of_classes(feature)
        if names:
            found[str(column)] = names
    return found


def names_of_classes(feature: Any) -> list[str] | None:
    """The classes' names of one feature of `datasets`, as an object or as its metadata has it; None without any."""
    if isinstance(feature, list):  # the older way to write a list of features
        return names_of_classes(feature[0]) if feature else None
    if not isinstance(feature, dict):
        feature = {
            "_type": type(feature).__name__,
            **{key: getattr(feature, key, None) for key in ("names", "feature")},
        }
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, list):
        return [str(name) for name in names]
    return None if feature.get("feature") is None else names_of_classes(feature["feature"])


def with_class_names(row: dict[str, Any], names: Mapping[str, list[str]]) -> dict[str, Any]:
    """A row whose numbers of classes are replaced by the names.

    Raises:
        InputError: a number without a name.
    """
    try:
        return row | {column: _named(row.get(column), known) for column, known in names.items()}
    except IndexError:
        numbers = ", ".join(f"{column!r}: {row.get(column)!r} of {len(known)}" for column, known in names.items())
        raise InputError(f"a class without a name ({numbers} names)") from None


def _rows(path: Path, names: Mapping[str, list[str]]) -> Iterator[Row]:
    problems = Problems()
    first = 1
    for batch in _batches(path):
        rows = _cells(path, batch, first, problems)
        if names:
            _name_classes(path, rows, names, first, problems)
        if not problems:
            yield from map(Row, itertools.count(first), rows)
        first += batch.num_rows
    problems.raise_if_any()


def _name_classes(
    path: Path, rows: list[dict[str, Any]], names: Mapping[str, list[str]], first: int, problems: Problems
) -> None:
    for column, known in names.items():
        for number, row in enumerate(rows, first):
            try:
                row[column] = _named(row.get(column), known)
            except IndexError:
                problems.add(
                    f"{path}, row {number}, column {column!r}: {row[column]!r}; there are {len(known)} names of classes"
                )


def _named(value: object, names: list[str]) -> object:
    if isinstance(value, list):
        return [_named(one, names) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return None if value < 0 else names[value]
    return value


def _batches(path: Path) -> Iterator["pa.RecordBatch"]:
    if path.suffix.lower() == ".parquet":
        with parquet_file(path) as reader:
            yield from reader.iter_batches(_ROWS)
        return
    with _ipc_reader(path) as (_, batches):
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS):
                yield batch.slice(start, _ROWS)


@contextmanager
def _ipc_reader(path: Path) -> Iterator[tuple["pa.Schema", Iterator["pa.RecordBatch"]]]:
    """Schema and batches of an Arrow file, in either of Arrow's two layouts (`datasets` writes the stream)."""
    require_pyarrow(path)
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as file:
            try:
                reader = pa.ipc.open_file(file)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
                yield reader.schema, batches
            except pa.ArrowInvalid:
                file.seek(0)
                stream = pa.ipc.open_stream(file)
                yield stream.schema, iter(stream)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(unreadable(path, error)) from error


def _cells(path: Path, batch: "pa.RecordBatch", first: int, problems: Problems) -> list[dict[str, Any]]:
    try:
        return cast("list[dict[str, Any]]", batch.to_pylist())
    except ValueError:  # text that is not UTF-8, a time finer than Python's: find which
        for name in batch.schema.names:
            for row, cell in enumerate(batch[name], first):
                try:
                    cell.as_py()
                except ValueError as error:
                    problems.add(f"{path}, row {row}, column {name!r}: {error}")
        return []
