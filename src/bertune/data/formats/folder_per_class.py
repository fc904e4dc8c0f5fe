"""A folder of text files for every class: `train/pos/1.txt`, `train/neg/2.txt`; the class is the folder's name."""

from collections.abc import Iterator
from pathlib import Path

from bertune.data.encodings import encoding_of
from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError, Problems
from bertune.files.text_files import MAX_RECORD

_UNLABELLED = ("unsup", "unlabelled", "unlabeled")
"""Folders of texts without a class, as the IMDb reviews have one."""


def _classes(path: Path) -> list[Path]:
    return [
        one for one in sorted(path.iterdir())
        if one.is_dir() and not one.name.startswith(".") and one.name.lower() not in _UNLABELLED
    ]  # fmt: skip


def _texts(folder: Path) -> list[Path]:
    """Files of text; those of 20 Newsgroups have a number for a name."""
    files = sorted(one for one in folder.iterdir() if one.is_file() and not one.name.startswith("."))
    return [one for one in files if one.suffix in ("", ".txt") or one.suffix[1:].isdecimal()]


def _is_file(sample: Sample) -> bool:
    if not sample.path.is_dir():
        return False
    classes = _classes(sample.path)
    return len(classes) > 1 and all(_texts(one) for one in classes)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    problems = Problems()
    number = 0
    for folder in _classes(sample.path):
        for file in _texts(folder):
            number += 1
            try:
                text = _read(file, sample.options.encoding)
            except InputError as error:
                problems.add(str(error))
                continue
            if not problems:
                yield Row(number, {"text": text, "label": folder.name})
    problems.raise_if_any()


def _read(file: Path, encoding: str | None) -> str:
    try:
        if file.stat().st_size > MAX_RECORD:
            raise InputError(f"{file} is larger than {MAX_RECORD >> 20} MiB; is it one text?")
        return file.read_bytes().decode(encoding or encoding_of(file, gzipped=False).codec).strip("\ufeff\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from None


FORMAT = Format(
    "a folder of texts for every class",
    "labels",
    "IMDb reviews, 20 Newsgroups, BBC News, THUCNews",
    is_file=_is_file,
    open=_open,
    columns=("text", "label"),
)
