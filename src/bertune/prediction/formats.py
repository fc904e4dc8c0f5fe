"""Files of answers: JSON lines, CSV, TSV and Parquet, plain or compressed, told by the name."""

import csv
import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from bertune.errors import InputError
from bertune.files.text_files import plain_suffix

if TYPE_CHECKING:
    import pyarrow as pa

KINDS = ("jsonl", "csv", "tsv", "parquet")
_NOT_WRITTEN = dict.fromkeys(("xlsx", "xlsm", "xls"), "Excel's workbooks") | {
    "ods": "LibreOffice's spreadsheets", "zip": "archives", "arrow": "Arrow files",
    "feather": "Feather files", "html": "web pages", "pdf": "documents", "docx": "documents",
}  # fmt: skip
"""Names of files that promise what is not written."""
_ROWS = 16_384
"""Rows of a group in a Parquet file."""


@dataclass(frozen=True)
class Format:
    """How answers are written. kind: one of KINDS.  compression: "", ".gz" or ".zst"."""

    kind: str = "jsonl"
    compression: str = ""

    @classmethod
    def of_name(cls, path: Path) -> "Format":
        """As a file's name says; JSON lines where it says nothing.

        Raises:
            InputError: a Parquet file that is to be compressed once more.
        """
        compression = path.suffix.lower() if path.suffix.lower() in (".gz", ".zst") else ""
        kind = plain_suffix(path).removeprefix(".")
        if kind == "parquet" and compression:
            raise InputError(f"{path}: Parquet files are compressed inside; name it .parquet")
        if kind in _NOT_WRITTEN:
            raise InputError(
                f"--output {path}: {_NOT_WRITTEN[kind]} are not written; name a .csv file, which spreadsheets open "
                f"(or {', '.join(f'.{one}' for one in KINDS if one != 'csv')})"
            )
        return cls(kind if kind in KINDS else "jsonl", compression)

    @property
    def suffix(self) -> str:
        """Of a file's name."""
        return f".{self.kind}{self.compression}"

    @contextmanager
    def writer(self, stream: "IO[bytes] | Sink", *, header: bool = True) -> Iterator["Writer"]:
        """What writes answers into a binary stream. header: whether a CSV or TSV file begins with its columns."""
        with ExitStack() as stack:
            if self.compression == ".gz":
                # Without a name and a time the same answers give the same bytes.
                packed: Any = gzip.GzipFile("", "wb", fileobj=stream, mtime=0)  # type: ignore[arg-type]
                stream = stack.enter_context(packed)
            elif self.compression == ".zst":
                import pyarrow as pa

                sink = pa.PythonFile(_NeverClosed(stream), "w")
                stream = stack.enter_context(pa.CompressedOutputStream(sink, "zstd"))
            if self.kind == "parquet":
                yield stack.enter_context(_ParquetWriter(stream))
            elif self.kind == "jsonl":
                yield _JsonWriter(stream)
            else:
                yield _TableWriter(stream, "," if self.kind == "csv" else "\t", header=header)

    def join(self, parts: Sequence[Path], stream: IO[bytes]) -> None:
        """Write what parts hold, in order, into one stream. Text files are the parts' bytes, one after the other."""
        if self.kind != "parquet":
            for part in parts:
                with part.open("rb") as file:
                    while chunk := file.read(1 << 20):
                        stream.write(chunk)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.unify_schemas([pq.read_schema(part) for part in parts])
        with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
            for part in parts:
                with pq.ParquetFile(part) as file:
                    for batch in file.iter_batches(_ROWS):
                        writer.write_table(pa.Table.from_batches([batch]).cast(schema))


class Sink(Protocol):
    """What bytes are written to."""

    def write(self, data: Any, /) -> int:
        """All of the data."""
        ...


class Writer(Protocol):
    """Writes answers."""

    def write(self, row: Mapping[str, Any]) -> None:
        """One answer."""
        ...


class _JsonWriter:
    def __init__(self, stream: "IO[bytes] | Sink") -> None:
        self._stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        self._stream.write(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")


class _TableWriter:
    """CSV and TSV: texts and numbers as they are, lists and objects as JSON."""

    def __init__(self, stream: "IO[bytes] | Sink", separator: str, *, header: bool) -> None:
        self._stream, self._header = stream, header
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, delimiter=separator, lineterminator="\n")

    def write(self, row: Mapping[str, Any]) -> None:
        if self._header:
            self._writer.writerow(row)
            self._header = False
        self._writer.writerow([_cell(value) for value in row.values()])
        self._stream.write(self._text.getvalue().encode())
        self._text.seek(0)
        self._text.truncate()


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


class _ParquetWriter:
    """Parquet, _ROWS rows a group. The types of the first group hold for the whole file."""

    def __init__(self, stream: "IO[bytes] | Sink") -> None:
        self._stream, self._rows = stream, list[Mapping[str, Any]]()
        self._writer: Any = None
        self._schema: pa.Schema | None = None

    def __enter__(self) -> "_ParquetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self._flush()
            if self._writer is not None:
                self._writer.close()

    def write(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows and self._writer is not None:
            return
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InputError(
                f"--output: a column has values of several types, which Parquet cannot hold ({error}); "
                "write .jsonl instead"
            ) from None
        if self._writer is None:
            self._schema = pa.schema([pa.field(one.name, _settled(one.name, one.type)) for one in table.schema])
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._writer = pq.ParquetWriter(self._stream, self._schema, compression="zstd")
        self._writer.write_table(table)
        self._rows = []


def _settled(name: str, found: "pa.DataType") -> "pa.DataType":
    """A column's type; where no value has been seen yet, the one that such a column has in answers, else text."""
    import pyarrow as pa

    if name == "embedding":
        return pa.list_(pa.float32())
    entity = [(one, pa.string()) for one in ("label", "text")] + [(one, pa.int64()) for one in ("start", "end")]
    known = {
        "entities": pa.list_(pa.struct([*entity, ("score", pa.float64())])),
        "labels": pa.list_(pa.string()),
        "start": pa.int64(),
        "end": pa.int64(),
    }
    if pa.types.is_null(found):
        return known.get(name, pa.string())
    if pa.types.is_list(found) and pa.types.is_null(found.value_type):
        return known.get(name, pa.list_(pa.string()))
    return found


class _NeverClosed(io.RawIOBase):
    """A stream that stays open when what writes into it is closed."""

    def __init__(self, stream: "IO[bytes] | Sink") -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._stream.write(data)
