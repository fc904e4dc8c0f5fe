"""All forms of data that are recognised, and the one way to open a file in any of them.

To add a form, write a file beside this one with a `FORMAT`, and name it here.
"""

import functools
import importlib
import itertools
import logging
from collections.abc import Mapping
from pathlib import Path

from bertune.data.formats.format import Format, Kind, Sample, converted
from bertune.data.formats.prodigy_labels import accepted
from bertune.data.rows import check_file
from bertune.data.table_options import TableOptions
from bertune.data.tables import Rows, open_table
from bertune.errors import InputError

logger = logging.getLogger(__name__)

_LOOKED_AT = 200
MODULES: dict[Kind, tuple[str, ...]] = {
    "labels": ("folder_per_class", "fasttext", "label_studio_choices", "prodigy_labels", "doccano_labels"),
    "tags": (
        "brat",
        "webanno",
        "word_rows",
        "conllu",
        "germeval",
        "wikiann",
        "tagged_lines",
        "cluener",
        "prodigy_spans",
        "tag_strings",
    ),
    "choices": (
        "c3",
        "commonsenseqa",
        "copa",
        "hellaswag",
        "piqa",
        "winogrande",
        "swag",
        "socialiqa",
        "sciq",
        "lettered_choices",
    ),
}
"""The files of forms, by what their rows are for; the first that recognises a file reads it."""


@functools.cache
def formats(kind: Kind) -> tuple[Format, ...]:
    """The forms for rows of a kind, in the order in which they are tried."""
    return tuple(importlib.import_module(f"bertune.data.formats.{name}").FORMAT for name in MODULES[kind])


def recognised(sample: Sample, kind: Kind) -> Format | None:
    """The form of a file or folder of its own kind; None for a table."""
    return next((one for one in formats(kind) if one.is_file is not None and one.is_file(sample)), None)


def open_any(path: Path, options: TableOptions, kind: Kind, *, labelled: bool) -> Rows:
    """Rows of a file or folder in any form, with bertune's own columns or, for a plain table, the file's.

    Raises:
        InputError: There is no such file, it is of no known form, or it is damaged.
    """
    if not path.is_dir():
        check_file(path)
    sample = Sample(path, options)
    found = recognised(sample, kind)
    if found is not None and found.open is not None:
        logger.info("%s: read as %s", path, found.name)
        return found.open(sample)
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; give a file in it, or several with a pattern such as '{path}/*.csv' (a folder of "
            "texts for every class, and brat's folders, are read as they are)"
        )
    return in_rows(open_table(path, sample.table), kind, labelled=labelled)


def in_rows(rows: Rows, kind: Kind, *, labelled: bool) -> Rows:
    """A table's rows, converted where they are written in a known form."""
    form = form_of_row(_complete_row(rows), kind)
    if form is None:
        return accepted(rows) if labelled and kind != "choices" else rows
    logger.info("%s: read as %s", rows.path, form.name)
    return converted(rows, form, functools.partial(_note, rows.path, form), labelled=labelled)


def _complete_row(rows: Rows) -> dict[str, object]:
    """The first row, with what it lacks from the next ones: JSON lines may leave keys out."""
    found: dict[str, object] = {}
    for row in itertools.islice(iter(rows), _LOOKED_AT):
        found |= {name: value for name, value in row.values.items() if found.get(name) is None}
    return found


def form_of_row(first: object, kind: Kind) -> Format | None:
    """The form of a table whose first row is this; None where it is bertune's own, or no row."""
    if not isinstance(first, Mapping):
        return None
    return next((form for form in formats(kind) if form.is_row is not None and form.is_row(first)), None)


def _note(path: Path, form: Format, count: int) -> None:
    logger.info("%s: %d row%s left out: %s", path, count, "" if count == 1 else "s", form.left_out or "nothing in it")
