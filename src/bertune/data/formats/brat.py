"""brat's standoff annotation: `a.txt` beside `a.ann`, whose lines are `T1⇥PER 0 4⇥Anna`.

A folder of them is read, or one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from bertune.data.encodings import encoding_of
from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError, Problems

_ENTITY = re.compile(r"T\S*\t(\S+) (\d+) (\d+)((?:;\d+ \d+)*)\t?(.*)")


def _is_file(sample: Sample) -> bool:
    if sample.path.is_dir():
        return any(sample.path.glob("*.ann"))
    return sample.suffix == ".ann" or (sample.suffix == ".txt" and sample.path.with_suffix(".ann").is_file())


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    one = [sample.path.with_suffix(".ann")]
    problems = Problems()
    files = sorted(sample.path.glob("*.ann")) if sample.path.is_dir() else one
    for number, annotations in enumerate(files, 1):
        text_file = annotations.with_suffix(".txt")
        if not text_file.is_file():
            problems.add(f"{annotations}: there is no {text_file.name} beside it")
            continue
        try:
            text = _read(text_file, sample.options.encoding)
            entities = _entities(annotations, text, sample.options.encoding)
        except InputError as error:
            problems.add(str(error))
            continue
        if not problems:
            yield Row(number, {"text": text, "entities": entities})
    problems.raise_if_any()


def _entities(file: Path, text: str, encoding: str | None) -> list[list[object]]:
    """Start, end and type of every entity. Notes, relations and attributes are passed over."""
    found: list[list[object]] = []
    for number, line in enumerate(_read(file, encoding).split("\n"), 1):
        if not line.startswith("T"):
            continue
        where = f"{file}, line {number}"
        entity = _ENTITY.match(line.rstrip("\r"))
        if entity is None:
            raise InputError(f"{where}: expected T1⇥TYPE START END⇥TEXT, found {line[:60]!r}")
        label, start, end, more, surface = entity[1], int(entity[2]), int(entity[3]), entity[4], entity[5]
        if more:
            raise InputError(f"{where}: an entity in several parts ({line[:60]!r}); a word has one tag only")
        if surface and text[start:end].split() != surface.split():
            raise InputError(f"{where}: {surface!r} is not at {start} to {end}, where {text[start:end]!r} is")
        found.append([start, end, label])
    return found


def _read(file: Path, encoding: str | None) -> str:
    try:
        return file.read_bytes().decode(encoding or encoding_of(file, gzipped=False).codec).removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from None


FORMAT = Format(
    "brat's standoff annotation", "tags", "brat; BioNLP shared tasks, DaNE and others in .ann",
    is_file=_is_file, open=_open, columns=("text", "entities"),
)  # fmt: skip
