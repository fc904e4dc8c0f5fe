"""Labelled data of one role (training, validation): examples from one source or several, with hashes and places."""

import bisect
import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.contents import content_sha256, joined_sha256
from bertune.data.sources import data_paths, shown
from bertune.data.table_options import TableOptions
from bertune.errors import InputError, Problems
from bertune.files.inputs import refuse_pipe
from bertune.tasks.feature_cache import Source
from bertune.tasks.held_out import HoldOut, column_values, held_out_rows
from bertune.tasks.protocol import Task


@dataclass(frozen=True)
class Part:
    """A file or folder, and how many of the examples come from it."""

    source: Source
    rows: int


@dataclass(frozen=True)
class Labelled:
    """Examples in the order of their files.

    parts: their sources, in the same order.
    held_out: how these examples were chosen from the parts; None: they are all of them.
    """

    parts: tuple[Part, ...]
    examples: list[Any]
    held_out: HoldOut | None = None

    @classmethod
    def read(
        cls, task: Task[Any], named: Path | str | Sequence[str], flag: str = "--train", *, labelled: bool = True
    ) -> "Labelled":
        """All examples behind what an option names (`data.sources.data_paths`); without `labelled` labels are not read.

        Raises:
            InputError: unreadable rows, or none at all; a file that changed while it was read.
        """
        problems = Problems()
        parts, examples = [], []
        for path in data_paths(str(named) if isinstance(named, Path) else named, flag):
            try:
                source, found = read_hashed(task, path, labelled=labelled)
            except InputError as error:
                problems.add(str(error))
                continue
            parts.append(Part(source, len(found)))
            examples += found
        problems.raise_if_any()
        return cls(tuple(parts), examples)

    @property
    def path(self) -> Path:
        """One path for messages about all parts."""
        return shown([part.source.path for part in self.parts])

    @property
    def source(self) -> Source:
        """All parts as one: the key under which their features are cached."""
        if len(self.parts) == 1 and self.held_out is None:
            return self.parts[0].source
        return Source(self.path, joined_sha256([f"{part.source.sha256} {part.rows}" for part in self.parts]
                                               + ([] if self.held_out is None else [repr(self.held_out)])))  # fmt: skip

    def problems(self, task: Task[Any]) -> list[str]:
        """What a task cannot take, each with its file."""
        found: list[str] = []
        for part, start in zip(self.parts, self._starts(), strict=True):
            if part.rows:
                found += task.problems(self.examples[start : start + part.rows], part.source.path)
        return found

    def chosen(self, mask: npt.NDArray[np.bool_], held_out: HoldOut | None) -> "Labelled":
        """Some of the examples. Shape: (examples,)."""
        parts = tuple(
            replace(part, rows=int(mask[start : start + part.rows].sum()))
            for part, start in zip(self.parts, self._starts(), strict=True)
        )
        return Labelled(parts, list(itertools.compress(self.examples, mask)), held_out)

    def describe(self) -> dict[str, Any]:
        """For the record: files, rows, hashes, and how the rows were chosen."""
        found: dict[str, Any] = {
            "file": str(self.path),
            "rows": len(self.examples),
            "sha256": self.parts[0].source.sha256 if len(self.parts) == 1 else self.source.sha256,
        }
        if len(self.parts) > 1:
            found["files"] = [
                {"file": str(part.source.path), "rows": part.rows, "sha256": part.source.sha256} for part in self.parts
            ]
        if self.held_out is not None:
            found["held_out"] = self.held_out.describe()
        return found

    def inputs(self, flag: str) -> dict[str, str]:
        """Hashes by option and path, to compare when a run is resumed."""
        return {f"{flag} {part.source.path}": part.source.sha256 for part in self.parts}

    def by_part(self, chosen: npt.NDArray[np.integer]) -> list[tuple[Path, npt.NDArray[np.int64]]]:
        """Paths, and which of the chosen examples are theirs; ascending. Shape: (chosen,) → (some,) each."""
        starts = self._starts()
        index = np.unique(np.asarray(chosen, np.int64))
        found = []
        for part, start in zip(self.parts, starts, strict=True):
            own = index[(index >= start) & (index < start + part.rows)]
            if len(own):
                found.append((part.source.path, own))
        return found

    def path_of(self, example: int) -> Path:
        """The file or folder that an example comes from."""
        return self.parts[bisect.bisect_right(self._starts(), example) - 1].source.path

    def _starts(self) -> list[int]:
        """The first example of every part."""
        return [0, *itertools.accumulate(part.rows for part in self.parts)][:-1]


def hold_out(
    task: Task[Any], rows: Labelled, share: float, group_column: str | None = None
) -> tuple[Labelled, Labelled] | None:
    """Training and validation rows from the same data (`tasks.held_out`); None where nothing can be held out.

    Args:
        task: whose options say how tables are read.
        rows: all of them.
        share: to hold out.
        group_column: column of the tables whose equal values stay together.

    Raises:
        InputError: no such column.
    """
    groups = None if group_column is None else groups_of(task, rows, group_column)
    mask = held_out_rows(rows.examples, share, groups)
    if not mask.any():
        return None
    made = {part: HoldOut(share, group_column, part) for part in ("train", "validation")}
    return rows.chosen(~mask, made["train"]), rows.chosen(mask, made["validation"])


def groups_of(task: Task[Any], rows: Labelled, column: str) -> list[str]:
    """The group of every example: its value in a column, as text.

    Raises:
        InputError: as `column_of`.
    """
    return [str(value) for value in column_of(task, rows, column, "--group-column")]


def column_of(task: Task[Any], rows: Labelled, column: str, flag: str) -> list[Any]:
    """The value of a column for every example. flag: the option that names it, for messages.

    Raises:
        InputError: no such column, or data that is no table of one example a row.
    """
    starts = [*itertools.accumulate((part.rows for part in rows.parts), initial=0)]
    examples = [rows.examples[start:end] for start, end in itertools.pairwise(starts)]
    return column_values([part.source.path for part in rows.parts], examples, column, task.options, flag)


def read_recorded(task: Task[Any], recorded: Mapping[str, Any], options: object = None) -> Labelled:
    """The rows that a run recorded (`Labelled.describe`), read again; of held-out rows the same ones.

    Args:
        task: of the run's model.
        recorded: what it recorded of the rows.
        options: of the run, as bertune.json has them: how its files are written is not a part of the model's task.

    Raises:
        InputError: files that are not there, or changed since.
    """
    if isinstance(options, Mapping):
        task = _as_written(task, options)
    files = recorded.get("files") or [recorded]
    problems = Problems()
    for one in files:
        path = Path(str(one.get("file")))
        if not path.exists():
            problems.add(f"its validation data {path} is not there")
        elif content_sha256(path) != one.get("sha256"):
            problems.add(f"its validation data {path} has changed since the training")
    problems.raise_if_any()
    rows = Labelled.read(task, [str(one["file"]) for one in files])
    held = recorded.get("held_out")
    if not held:
        return rows
    split = hold_out(task, rows, float(held["share"]), held.get("group_column"))
    if split is None:
        raise InputError("its validation rows cannot be held out again")
    return split[1 if held.get("part") == "validation" else 0]


def _as_written(task: Task[Any], options: Mapping[str, Any]) -> Task[Any]:
    """The task with those options of a run that say how its files are written."""
    known = {field.name for field in dataclasses.fields(task.options)} & {
        one.name for one in dataclasses.fields(TableOptions)
    }
    stated = {name: options[name] for name in sorted(known) if options.get(name) is not None}
    return task.with_options(dataclasses.replace(task.options, **stated)) if stated else task


def read_labelled(task: Task[Any], path: Path, *, labelled: bool = True) -> list[Any]:
    """All examples of a labelled file; or without `labelled` of any, whose labels are not read.

    Raises:
        InputError: unreadable rows, or none at all.
    """
    refuse_pipe(path)
    examples = list(task.read(path, labelled=labelled))
    if not examples:
        raise InputError(f"{path}: holds no examples")
    return examples


def read_hashed(task: Task[Any], path: Path, *, labelled: bool = True) -> tuple[Source, list[Any]]:
    """All examples of a file, as `read_labelled` reads it, and its hash, which is taken first.

    Raises:
        InputError: unreadable rows, or none at all; a file that changed while it was read.
    """
    try:
        source = Source.of(path)
    except InputError:
        read_labelled(task, path, labelled=labelled)  # refuses the file too, in words of its kind
        raise
    examples = read_labelled(task, path, labelled=labelled)
    if source.changed():
        raise InputError(f"{path}: changed while it was read; start again once it is written as a whole")
    return source, examples
