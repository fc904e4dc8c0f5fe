"""`python -m bertune.google.create_pretraining_data`: google-research/bert's program for masked pairs of sentences."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.data.documents import find_files
from bertune.errors import InputError, Problems, counted
from bertune.google.flags import parse_flags
from bertune.google.masking_instances import (
    Instance,
    InstanceOptions,
    google_instances,
    google_record,
)
from bertune.google.running import run_program
from bertune.options import option
from bertune.tensorflow_formats.tfrecord import write_records
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.vocabulary_files import read_vocabulary

logger = logging.getLogger("bertune.google.create_pretraining_data")  # also when run by `python -m`

_SHOWN = 20
"""Instances that are logged in full."""
_CHUNK = 4096
"""Lines tokenized at a time."""


@dataclass(frozen=True)
class DataFlags:
    """Where text comes from and instances go."""

    input_file: str = option(help="text files or patterns, by comma: a sentence a line, blank lines between documents")
    output_file: str = option(help="TFRecord files to write, by comma; instances are dealt over them in turn")
    vocab_file: str = option(help="vocab.txt of the model")
    do_lower_case: bool = option(True, help="lower-case the text; true for uncased vocabularies")
    strict_original: bool = option(
        False, help="not in the original: let a file's first document continue the last one of the file before"
    )


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    flags = parse_flags("create_pretraining_data", [DataFlags, InstanceOptions], argv)
    own, options = flags.of(DataFlags), flags.of(InstanceOptions)
    problems = Problems()
    problems.extend(option_problems(options))
    outputs = [Path(part) for part in own.output_file.split(",") if part]
    for path in outputs:
        if not path.absolute().parent.is_dir():
            problems.add(f"--output_file {path}: its folder does not exist; make it first")
    inputs: list[Path] = []
    try:
        inputs = find_files([part for part in own.input_file.split(",") if part], "--input_file")
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()
    vocabulary = list(dict.fromkeys(line.strip() for line in read_vocabulary(Path(own.vocab_file))))
    words = Tokenizer.from_vocab(Path(own.vocab_file), do_lower_case=own.do_lower_case)
    if words.special.mask is None:
        raise InputError(f"--vocab_file {own.vocab_file}: lacks [MASK], which masked words need")
    ids = {token: index for token in vocabulary if (index := words.id_of(token)) is not None}
    documents = read_documents(inputs, words, strict=own.strict_original)
    logger.info("*** %s, %s ***", counted(len(inputs), "input file"), counted(len(documents), "document"))
    if len(documents) == 1:
        logger.warning("there is only one document, so `random` next sentences come from it too")
    instances = google_instances(documents, vocabulary, options)
    for instance in instances[:_SHOWN]:
        _show(instance)
    for number, path in enumerate(outputs):
        dealt = instances[number :: len(outputs)]
        count = write_records(path, (google_record(instance, ids, options) for instance in dealt))
        logger.info("%s: %d instances written", path, count)


def option_problems(options: InstanceOptions) -> list[str]:
    """Numbers that no instances can be made with."""
    least = {"max_seq_length": 5, "max_predictions_per_seq": 1, "dupe_factor": 1}
    found = [
        f"--{name}={getattr(options, name)}: must be at least {low}"
        for name, low in least.items()
        if getattr(options, name) < low
    ]
    found += [
        f"--{name}={getattr(options, name)}: must be between 0 and 1"
        for name in ("masked_lm_prob", "short_seq_prob")
        if not 0 <= getattr(options, name) <= 1
    ]
    return found


def read_documents(files: Sequence[Path], words: Tokenizer, *, strict: bool) -> list[list[list[str]]]:
    """Documents as sentences of word pieces; none is empty.

    strict: a file's end does not end its last document, as in the original.

    Raises:
        InputError: a file that cannot be read, is not UTF-8, or no text at all.
    """
    documents: list[list[list[str]]] = [[]]
    for number, path in enumerate(files):
        if number and documents[-1]:
            if strict:
                logger.info("%s: its first document may continue the last one of %s", path, files[number - 1])
            else:
                documents.append([])
        for line in _tokenized(path, words):
            if line is None:
                documents.append([])
            elif line:
                documents[-1].append(line)
    found = [document for document in documents if document]
    if not found:
        raise InputError(f"--input_file: {', '.join(map(str, files))}: no text in it")
    return found


def _tokenized(path: Path, words: Tokenizer) -> Iterator[list[str] | None]:
    """Every line's word pieces; None for a blank line."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except OSError as error:
        raise InputError(f"--input_file {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"--input_file {path}, line {line}: not UTF-8 ({error.reason})") from error
    texts = [text.strip() for text in (lines if lines[-1] else lines[:-1])]
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        encoded = words.encode(chunk)
        for index, text in enumerate(chunk):
            yield words.tokens(encoded[index]) if text else None


def _show(instance: Instance) -> None:
    logger.info("*** Example ***  tokens: %s", " ".join(instance.tokens))
    logger.info(
        "is_random_next: %s  masked_lm_positions: %s  masked_lm_labels: %s",
        instance.is_random_next,
        " ".join(map(str, instance.masked_lm_positions)),
        " ".join(instance.masked_lm_labels),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv, shared=False)


if __name__ == "__main__":
    sys.exit(main())
