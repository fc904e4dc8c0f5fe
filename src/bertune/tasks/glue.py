"""GLUE's classification tasks, read from its files as they ship.

Columns: google-research/bert's processors and the headers of GLUE's own TSV files; XNLI's from its release.
"""

import contextlib
import io
import logging
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bertune.data.row_tap import observed
from bertune.data.rows import RowFile, check_file, open_rows
from bertune.data.tables import chosen_encoding
from bertune.errors import InputError
from bertune.files.text_files import is_compressed, open_bytes
from bertune.tasks.options import GlueOptions, TextOptions
from bertune.tasks.text_classification import TextClassification, TextExample, examples_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Columns:
    """Names in the header. label is absent from test files."""

    text: str
    pair: str | None
    label: str
    metric: str = "accuracy"


COLUMNS = {
    "mrpc": _Columns("#1 String", "#2 String", "Quality"),
    "cola": _Columns("sentence", None, "label", "matthews_correlation"),
    "sst2": _Columns("sentence", None, "label"),
    "rte": _Columns("sentence1", "sentence2", "label"),
    "wnli": _Columns("sentence1", "sentence2", "label"),
    "qnli": _Columns("question", "sentence", "label"),
    "qqp": _Columns("question1", "question2", "is_duplicate"),
    "mnli": _Columns("sentence1", "sentence2", "gold_label"),
    "xnli": _Columns("sentence1", "sentence2", "gold_label"),
}
_COLA_WITHOUT_HEADER = _Columns("3", None, "1")
"""CoLA's training and development files have no header: source, label, original mark, sentence."""
_XNLI_TRAIN = ("premise", "hypo", "label")


class _Glue:
    """Makes text-classification tasks by GLUE name."""

    Options: ClassVar[type[Any]] = GlueOptions

    def __call__(self, name: str, options: GlueOptions) -> TextClassification:
        """The task of that name."""

        def read(path: Path, options: TextOptions, labelled: bool) -> Iterator[TextExample]:
            return _read(name, path, options, labelled)

        return TextClassification(name, options, read, metric=COLUMNS[name].metric)


GLUE = _Glue()


def _read(name: str, path: Path, options: TextOptions, labelled: bool) -> Iterator[TextExample]:
    _refuse_table_options(name, options)
    if name == "qqp" and path.suffix != ".parquet":
        with _torn_records_joined(path, options) as whole:
            yield from _from_columns(name, whole, options, labelled, shown=path)
    else:
        yield from _from_columns(name, path, options, labelled, shown=path)


_OF_TABLES = ("delimiter", "header", "sheet", "text_column", "pair_column", "label_column")
"""Options that say of a table what is fixed in GLUE's files."""


def _refuse_table_options(name: str, options: TextOptions) -> None:
    named = [f"--{option.replace('_', '-')}" for option in _OF_TABLES if getattr(options, option) is not None]
    if named:
        raise InputError(
            f"{', '.join(named)}: GLUE's {name} has columns of its own, read as GLUE ships them; for a table of your "
            "own use --task text-classification"
        )


def _encoding(path: Path, options: TextOptions) -> str:
    return "utf-8" if path.suffix == ".parquet" else chosen_encoding(path, options)


_LONGEST = 1 << 14
"""Characters of a torn record; what goes on for longer is another kind of file."""


@contextlib.contextmanager
def _torn_records_joined(path: Path, options: TextOptions) -> Iterator[Path]:
    """QQP ships with a few questions that hold a line break: their pieces are joined again, and counted.

    Yields: the file itself, or a mended copy for as long as the context lasts.
    """
    check_file(path)
    encoding = _encoding(path, options)
    try:
        with (
            open_bytes(path, is_compressed(path)) as raw,
            io.TextIOWrapper(raw, "utf-8-sig" if encoding == "utf-8" else encoding, newline="\n") as file,
        ):
            header = file.readline(_LONGEST).rstrip("\r\n")
            tabs, joined, records, part = header.count("\t"), 0, [header], ""
            while line := file.readline(_LONGEST):
                text = line.rstrip("\r\n")
                part = f"{part} {text}" if part else text
                if part.count("\t") >= tabs or not part:
                    records.append(part)
                    part = ""
                else:
                    joined += 1
                    if len(part) >= _LONGEST:
                        break
    except (OSError, UnicodeDecodeError, EOFError, zlib.error):
        yield path  # reading it as a table tells what is wrong
        return
    if not joined or part:
        yield path
        return
    logger.warning("%s: %d line breaks inside records were taken for spaces", path, joined)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "qqp.tsv"
        whole.write_text("\n".join(records) + "\n", encoding=encoding)
        yield whole


def _from_columns(name: str, path: Path, options: TextOptions, labelled: bool, *, shown: Path) -> Iterator[TextExample]:
    file = _open(name, path, _encoding(path, options) if path.is_file() else "utf-8")
    bare = name == "cola" and file.columns == ["0", "1", "2", "3"]
    columns = _COLA_WITHOUT_HEADER if bare else COLUMNS[name]
    text, pair, label = columns.text, columns.pair, columns.label
    if name == "xnli" and tuple(file.columns) == _XNLI_TRAIN:
        text, pair, label = _XNLI_TRAIN
    wanted = [text, *([pair] if pair else []), *([label] if labelled else [])]
    missing = [column for column in wanted if column not in file.columns]
    if missing:
        raise InputError(
            f"{shown}: not a file of GLUE's {name}{' with labels' if labelled else ''}: no column "
            f"{', '.join(map(repr, missing))}; it has: {', '.join(file.columns)}. For a table of your own use "
            "--task text-classification"
        )
    found = text, pair, label if label in file.columns else None
    drop = labelled and options.drop_unlabelled
    examples = examples_of(observed(file), found, labelled=labelled, drop_unlabelled=drop)
    if name != "xnli":
        return examples
    return _xnli(file, examples, options)


def _open(name: str, path: Path, encoding: str) -> RowFile:
    """CoLA's training and development files have no header; everything else has one."""
    if name == "cola" and path.suffix in (".tsv", ".gz", ".zst"):
        bare = open_rows(path, header=False, encoding=encoding)
        if len(bare.columns) == 4:
            return bare
    return open_rows(path, encoding=encoding)


def _xnli(file: RowFile, examples: Iterator[TextExample], options: TextOptions) -> Iterator[TextExample]:
    """XNLI's spelling of labels in the translated training files, and the rows of one language."""
    language = options.language if isinstance(options, GlueOptions) else None
    languages = {row.line: row.values["language"] for row in file} if "language" in file.columns else {}
    if language is not None and languages and language not in languages.values():
        raise InputError(
            f"{file.path}: no rows of language {language!r} (--language); it has: "
            f"{', '.join(sorted({str(value) for value in languages.values()}))}"
        )
    for example in examples:
        if language is not None and languages and languages[example.place] != language:
            continue
        label = "contradiction" if example.label == "contradictory" else example.label
        yield TextExample(example.text, example.pair, label, example.place)
