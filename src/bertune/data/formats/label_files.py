"""Labels that are published in a file of their own: `train.jsonl` with `train-labels.lst`, one label a line."""

from collections.abc import Iterator
from pathlib import Path

from bertune.data.formats.format import Sample
from bertune.errors import InputError
from bertune.files.text_files import small_file


def labels_file(path: Path) -> Path | None:
    """The file of labels beside a file of rows; None where there is none."""
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    names = (f"{stem}-labels.lst", f"{stem}_labels.lst", f"{stem}.labels")
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def labels_of(sample: Sample) -> Iterator[str | None]:
    """A label for every row, without end where there is no file of them (None then).

    Raises:
        InputError: The file cannot be read, or it ends too early.
    """
    file = labels_file(sample.path)
    if file is None:
        while True:
            yield None
    try:
        labels = small_file(file).decode("utf-8-sig").split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {file}: {error}") from None
    yield from labels
    raise InputError(f"{file}: {len(labels)} labels, but {sample.path} has more rows")
