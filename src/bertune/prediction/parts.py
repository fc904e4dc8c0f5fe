"""Answers in numbered parts: each is there whole or not at all, with a record of its rows and hash.

    FOLDER/part-00000.jsonl, …       the answers; in the order of their names they are all of them
    FOLDER/_parts/run.json           what the answers are of: model, options, inputs
    FOLDER/_parts/part-00000.json    rows, bytes and SHA-256 of a finished part
    FOLDER/_parts/bad-00000.jsonl    rows that were left out (--skip-bad) while the part was made

A part is written under another name, synced and renamed; its record follows. A process that is killed leaves a part
without a record at most, which is made anew. Any number of processes may write different parts of the same folder.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from bertune.data.rows import file_sha256
from bertune.errors import FaultError, InputError
from bertune.files.atomic_write import sync, unwritable, write_text
from bertune.files.json_files import read_json
from bertune.prediction.examples import BadRow
from bertune.prediction.formats import Format, Writer

logger = logging.getLogger(__name__)

RECORDS = "_parts"


@dataclass(frozen=True)
class Parts:
    """A folder of parts.

    folder: where they lie.
    format: of their files.
    header: which CSV or TSV parts begin with the names of their columns: "all", the "first", or "none".
    of: the file that they become, if they become one.
    """

    folder: Path
    format: Format
    header: str = "all"
    of: Path | None = None

    def log(self, number: int, what: str) -> None:
        """Tell about a part, by its file; not where parts become one file, whose user never sees them."""
        if self.of is None:
            logger.info("%s: %s", self.path(number), what)

    @property
    def _records(self) -> Path:
        return self.folder / RECORDS

    def path(self, number: int) -> Path:
        """A part's file."""
        return self.folder / f"part-{number:05d}{self.format.suffix}"

    def start(self, run: Mapping[str, Any], *, resume: bool, is_ours: Callable[[int], bool]) -> None:
        """Make the folder, or take up the parts that lie there.

        Args:
            run: what the answers are of, of values that JSON can hold.
            resume: whether finished parts are to be kept.
            is_ours: whether this command makes the part of a number; other shards may be at work on theirs.

        Raises:
            InputError: parts of another run lie there; it cannot be written.
            FaultError: the disk is full or broken.
        """
        run = json.loads(json.dumps(run))
        file = self._records / "run.json"
        try:
            if file.is_file():
                before = read_json(file)
                if before != run:
                    raise InputError(
                        f"{self.folder}: holds parts of another run ({_difference(before, run)}); name another output, "
                        "or remove the folder"
                    )
            elif self.folder.is_dir() and any(self.folder.glob("part-*")):
                raise InputError(f"{self.folder}: holds part files that are not of this command; name another folder")
            self._records.mkdir(parents=True, exist_ok=True)
            if not resume:
                for record in self._records.glob("part-*.json"):
                    if is_ours(int(record.stem.removeprefix("part-"))):
                        record.unlink()
            if not file.is_file():
                write_text(file, json.dumps(run, indent=2) + "\n")
        except OSError as error:
            raise unwritable(error, f"{self.folder}: cannot be written: {error.strerror or error}") from None

    def rows_per_part(self) -> int | None:
        """Rows of a part of the run that lies here; None without one."""
        file = self._records / "run.json"
        return int(read_json(file)["rows_per_part"]) if file.is_file() else None

    def finished(self, number: int) -> bool:
        """Whether a part is there as its record says."""
        try:
            record = json.loads(self._record(number).read_text(encoding="utf-8"))
            found = record["bytes"] == self.path(number).stat().st_size
            return bool(found and record["sha256"] == file_sha256(self.path(number)))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def rows(self, number: int) -> int:
        """Rows of a finished part."""
        return int(read_json(self._record(number))["rows"])

    def numbers(self) -> list[int]:
        """Parts that have a record, in order."""
        return sorted(int(path.stem.removeprefix("part-")) for path in self._records.glob("part-*.json"))

    @contextmanager
    def writing(self, number: int) -> Iterator["OpenPart"]:
        """Write a part: it is there, with its record, once the block ends without an error."""
        for left in self.folder.glob(f".writing-{number:05d}-*"):
            left.unlink(missing_ok=True)
        beside = self.folder / f".writing-{number:05d}-{os.getpid()}"
        try:
            with beside.open("wb") as file:
                counted = _Counted(file)
                with self.format.writer(
                    counted, header=self.header == "all" or (self.header == "first" and number == 0)
                ) as writer:
                    part = OpenPart(writer)
                    yield part
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path(number))
            sync(self.folder)
            bad = self._records / f"bad-{number:05d}.jsonl"
            bad.unlink(missing_ok=True)
            if part.bad:
                lines = (json.dumps(row.described(), ensure_ascii=False) + "\n" for row in part.bad)
                write_text(bad, "".join(lines))
            record = {"rows": part.rows, "bad": len(part.bad), "bytes": counted.size, "sha256": counted.hexdigest()}
            write_text(self._record(number), json.dumps(record) + "\n")
        except OSError as error:
            raise unwritable(error, f"{self.path(number)}: cannot be written: {error.strerror or error}") from None
        finally:
            beside.unlink(missing_ok=True)

    def bad_rows(self, numbers: Sequence[int]) -> list[bytes]:
        """Lines about the rows that were left out while these parts were made."""
        files = (self._records / f"bad-{number:05d}.jsonl" for number in numbers)
        return [line for file in files if file.is_file() for line in file.read_bytes().splitlines(keepends=True)]

    def join(self, numbers: Sequence[int], stream: IO[bytes]) -> None:
        """Write parts, in order, into one stream.

        Raises:
            FaultError: one of them is gone.
        """
        absent = [number for number in numbers if not self.path(number).is_file()]
        if absent:
            raise FaultError(f"{self.path(absent[0])}: is gone; run the command again with --resume")
        self.format.join([self.path(number) for number in numbers], stream)

    def remove(self) -> None:
        """Remove the folder and everything in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _record(self, number: int) -> Path:
        return self._records / f"part-{number:05d}.json"


@dataclass
class OpenPart:
    """A part that is being written."""

    writer: Writer
    rows: int = 0
    bad: list[BadRow] = field(default_factory=list)

    def write(self, row: Mapping[str, Any]) -> None:
        """One answer."""
        self.writer.write(row)
        self.rows += 1


class _Counted:
    """A binary stream that counts and hashes what is written to it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._digest, self.size = stream, hashlib.sha256(), 0
        self.closed, self.mode = False, "wb"

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self.size += len(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()

    def tell(self) -> int:
        return self.size

    def close(self) -> None:
        """Left to the file's owner."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in now if before.get(name) != now[name]]
    return "other " + ", ".join(names) if names else "another version's"
