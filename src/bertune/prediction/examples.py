"""Examples of any number of files as one stream, each with its number and, where wanted, its row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bertune.data.columns import unknown_column
from bertune.data.row_tap import RowTap
from bertune.errors import InputError
from bertune.prediction.inputs import InputFile

ReadFile = Callable[[Path], Iterator[Any]]
"""Reads a file's examples, in order."""


class Item(NamedTuple):
    """An example. number: among the examples of all files, from 0.  values: of its row, where they are kept."""

    number: int
    example: Any
    values: Mapping[str, object]


class BadRow(NamedTuple):
    """A row that was left out. after: the index of the example that was read before it; 0 at the beginning."""

    file: str
    line: int
    problem: str
    after: int = 0

    def described(self) -> dict[str, object]:
        """For people: file, line, what is wrong."""
        return {"file": self.file, "line": self.line, "problem": self.problem}


@dataclass(frozen=True)
class ExampleStream:
    """Examples of some files, in order, read anew by every iteration in constant memory.

    files: to read.
    read: reads one of them.
    keep_columns: whether every example brings the values of its row, or the columns whose values it brings.
    skip_bad: report rows that cannot be read and go on, instead of refusing the file.
    report: takes the rows that are left out.
    """

    files: Sequence[InputFile]
    read: ReadFile
    keep_columns: bool | Sequence[str] = False
    skip_bad: bool = False
    report: Callable[[BadRow], None] | None = None

    def __iter__(self) -> Iterator[Item]:
        """All examples.

        Raises:
            InputError: a file that cannot be read; --keep-columns or --skip-bad of a file that is no table.
        """
        index = 0
        for file in self.files:
            try:
                for example, values in self._of_file(file, index):
                    yield Item(index, example, values)
                    index += 1
            except InputError as error:
                if str(file.path) == file.name:
                    raise
                raise InputError(str(error).replace(str(file.path), file.name)) from error

    def _of_file(self, file: InputFile, index: int) -> Iterator[tuple[Any, Mapping[str, object]]]:
        if not self.keep_columns and not self.skip_bad:
            yield from ((example, {}) for example in self.read(file.path))
            return

        def report(message: str, line: int) -> None:
            if self.report is not None:
                self.report(BadRow(file.name, line, message.replace(str(file.path), file.name), max(0, index - 1)))

        tap = RowTap(self.skip_bad, report)
        with tap.entered():
            examples = iter(self.read(file.path))
        while True:
            # Entered for every example anew: the stream may go on in another thread.
            with tap.entered():
                example = next(examples, _END)
            if example is _END:
                return
            if tap.row is None:
                kept = "--keep-columns" if self.keep_columns is True else "--columns"
                flag = kept if self.keep_columns else "--skip-bad"
                raise InputError(f"{file.path}: is not a table of rows; {flag} is for CSV, TSV, JSON lines and Parquet")
            if not tap.is_bad(tap.row):
                yield example, self._kept(file, tap.values)
                index += 1

    def _kept(self, file: InputFile, values: Mapping[str, object]) -> Mapping[str, object]:
        """The values of a row that its example brings.

        Raises:
            InputError: a column that the row lacks.
        """
        if isinstance(self.keep_columns, bool):
            return values if self.keep_columns else {}
        for name in self.keep_columns:
            if name not in values:
                raise InputError(f"{file.name}: {unknown_column(name, list(values))} (--columns)")
        return {name: values[name] for name in self.keep_columns}


_END = object()


def merged(values: Mapping[str, object], answer: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own columns, then the answer; columns that an answer has too are called input_…"""
    return {(f"input_{name}" if name in answer else name): value for name, value in values.items()} | dict(answer)


def count(stream: ExampleStream) -> int:
    """How many examples there are; reads everything."""
    return sum(1 for _ in ExampleStream(stream.files, stream.read, skip_bad=stream.skip_bad))
