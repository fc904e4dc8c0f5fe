"""Features on disk: found again by a key, mapped into memory, checked, and kept within a size."""

import contextlib
import dataclasses
import json
import logging
import mmap
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.features import Features, Ragged

logger = logging.getLogger(__name__)

LIMIT = 8 << 30
"""Bytes of all entries together; the ones that were used longest ago go first."""
_LEFT_BEHIND = 24 * 60 * 60
"""Seconds after which what is half written will not be finished any more."""
_COLUMNS = ("targets", "extras")


class FeatureStore:
    """A folder of features, an entry a key. Whatever goes wrong with it costs time alone: features are made anew."""

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        self.folder, self._limit = folder, limit

    def find(self, key: str) -> Features | None:
        """The features of a key, mapped; None where there are none, or damaged ones, which are removed."""
        entry = self.folder / key
        try:
            record = json.loads((entry / "features.json").read_text(encoding="utf-8"))
            arrays = {name: _mapped(entry / f"{name}.npy", check) for name, check in record["arrays"].items()}
            found = _from_arrays(arrays, record)
        except PermissionError as error:  # another user's, not ours to judge or to remove
            logger.info("%s: cannot be read (%s)", entry, error)
            return None
        except FileNotFoundError as error:
            if entry.exists():
                self._discard(entry, error)
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._discard(entry, error)
            return None
        with contextlib.suppress(OSError):  # a read-only folder serves as well
            os.utime(entry)
        return found

    def put(self, key: str, features: Features) -> None:
        """Keep features; written beside and renamed. What cannot be written is told, and not kept."""
        try:
            arrays = dict(_arrays(features))
            size = sum(array.nbytes for array in arrays.values())
            self.folder.mkdir(parents=True, exist_ok=True)
            if size > self._limit or 2 * size > shutil.disk_usage(self.folder).free:
                return
            beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
            try:
                checks = {}
                for name, array in arrays.items():
                    np.save(beside / f"{name}.npy", array, allow_pickle=False)
                    checks[name] = zlib.crc32((beside / f"{name}.npy").read_bytes())
                record = {"arrays": checks, "together": features.together}
                (beside / "features.json").write_text(json.dumps(record), encoding="utf-8")
                with contextlib.suppress(OSError):  # another process has put the same entry
                    beside.rename(self.folder / key)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            self._prune()
        except OSError as error:
            logger.warning("features are not kept for the next run: %s", error)

    def _discard(self, entry: Path, error: Exception) -> None:
        logger.warning("%s: damaged (%s); created again", entry, error)
        shutil.rmtree(entry, ignore_errors=True)

    def _prune(self) -> None:
        for left in self.folder.glob(".writing-*"):  # of a process that was killed, once no other can be at work on it
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND:
                shutil.rmtree(left, ignore_errors=True)
        entries = [(path.stat().st_mtime, path) for path in self.folder.iterdir() if not path.name.startswith(".")]
        sizes = {path: sum(file.stat().st_size for file in path.iterdir()) for _, path in entries}
        total = sum(sizes.values())
        for _, path in sorted(entries):
            if total <= self._limit:
                return
            total -= sizes[path]
            shutil.rmtree(path, ignore_errors=True)


def _arrays(features: Features) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Every array by a name that tells its place: `targets.label`, `input_ids~values`."""
    for field in dataclasses.fields(features):
        value = getattr(features, field.name)
        columns: Mapping[str, Any] = value if field.name in _COLUMNS else {"": value}
        for name, column in columns.items():
            place = f"{field.name}.{name}" if name else field.name
            if isinstance(column, Ragged):
                yield f"{place}~values", column.values
                yield f"{place}~offsets", column.offsets
            elif isinstance(column, np.ndarray):
                yield place, column


def _from_arrays(arrays: Mapping[str, npt.NDArray[Any]], record: Mapping[str, Any]) -> Features:
    columns: dict[str, Any] = {}
    for name, array in arrays.items():
        place, _, part = name.partition("~")
        if part == "values":
            columns[place] = Ragged(array, arrays[f"{place}~offsets"])
        elif not part:
            columns[place] = array
    targets, extras = (
        {name.partition(".")[2]: column for name, column in columns.items() if name.startswith(f"{kind}.")}
        for kind in _COLUMNS
    )
    plain = {name: column for name, column in columns.items() if "." not in name}
    return Features(**plain, targets=targets, extras=extras, together=bool(record["together"]))


def _mapped(path: Path, check: int) -> npt.NDArray[Any]:
    """An array mapped from disk, as a plain one (slicing that is faster); what is written to it stays in memory.

    Raises:
        ValueError: the file is not as it was written.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise ValueError(f"{path.name} is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if zlib.crc32(content) != check:
                raise ValueError(f"the checksum of {path.name} does not match")
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    return np.asarray(array)
