"""The files that an option for data names: files, folders and patterns, in the order in which they were named."""

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertune.data.formats.format import Sample
from bertune.data.formats.registry import MODULES, recognised
from bertune.data.table_options import TableOptions
from bertune.errors import InputError, Problems
from bertune.files.inputs import no_such_file

logger = logging.getLogger(__name__)

SUFFIXES = (
    ".csv", ".tsv", ".tab", ".psv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather", ".xlsx",
    ".conll", ".conllu", ".bio", ".iob2",
)  # fmt: skip
"""Files of a folder that hold data; each also with .gz."""
_PURPOSES = ("train", "dev", "valid", "test", "eval")


def data_paths(named: str | Sequence[str], flag: str) -> list[Path]:
    """Files, and folders that are one data set each, behind what an option names.

    A folder in a form of its own (a folder of texts for every class, brat's annotations) is one entry; of any other
    folder the files with a known suffix are taken, in the order of their names.

    Args:
        named: a file, a folder, a pattern such as `parts/*.csv`, or several of them.
        flag: the option, for messages.

    Raises:
        InputError: a file that does not exist, a pattern without files, a folder without data or with files for
            several purposes; all at once.
    """
    problems = Problems()
    found: dict[Path, Path] = {}
    for name in [named] if isinstance(named, str) else named:
        try:
            paths = list(_behind(name, flag))
        except InputError as error:
            problems.add(str(error))
            continue
        for path in paths:
            key = Path(os.path.normpath(path.absolute()))
            if key in found:
                logger.warning("%s %s: named twice; its rows are read once", flag, path)
            found.setdefault(key, path)
    problems.raise_if_any()
    return list(found.values())


def shown(paths: Sequence[Path]) -> Path:
    """One path for messages about all of them."""
    if len(paths) == 1:
        return paths[0]
    return Path(f"{paths[0]} and {len(paths) - 1} more")


def _behind(name: str, flag: str) -> Iterator[Path]:
    path = Path(name)
    try:
        folder, exists = path.is_dir(), path.exists()
    except (OSError, ValueError):  # ValueError: a NUL in the name; reading reports it
        yield path
        return
    if folder:
        yield from _in_folder(path, flag)
    elif not exists and glob.has_magic(name):
        matches = sorted(Path(one) for one in glob.glob(name, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not matches:
            raise InputError(f"{flag} {name}: no file matches this pattern")
        yield from matches
    elif exists or "\0" in name:  # a NUL: reading reports it
        yield path
    else:
        raise InputError(f"{flag} {name}: {no_such_file(path)}")


def _in_folder(folder: Path, flag: str) -> Iterator[Path]:
    sample = Sample(folder, TableOptions())
    if any(recognised(sample, kind) is not None for kind in MODULES):
        yield folder
        return
    files = sorted(
        one
        for one in folder.iterdir()
        if one.is_file()
        and not one.name.startswith((".", "_"))
        and Path(one.name.lower().removesuffix(".gz")).suffix in SUFFIXES
    )
    if not files:
        raise InputError(
            f"{flag} {folder}: a folder without files of rows ({', '.join(SUFFIXES)}); name a file, or a folder of "
            "texts for every class (at least two folders of .txt files)"
        )
    purposes = {purpose for one in files for purpose in _PURPOSES if one.name.lower().startswith(purpose)}
    if len(purposes) > 1:
        raise InputError(
            f"{flag} {folder}: holds files for several purposes ({', '.join(one.name for one in files[:6])}); name "
            f"those to read, such as '{folder}/{files[-1].name}'"
        )
    yield from files
