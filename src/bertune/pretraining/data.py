"""What pre-training trains and evaluates on: masked sequences by number, from text or from ready-made instances."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from bertune.data.documents import Lines, corpus_kind, find_files, meaning_of_lines
from bertune.data.rows import file_sha256
from bertune.errors import InputError, Problems
from bertune.features import Features, Ragged
from bertune.pretraining.instances import Instances, open_instances
from bertune.pretraining.options import PretrainOptions
from bertune.pretraining.sequences import FullSequences, PairRules, Sequences, pair_sequences
from bertune.pretraining.token_corpus import CorpusForm, TokenCorpus, TokenStream, Words, corpora_folder, tokenized
from bertune.tasks.masking.dynamic import Masking, mask
from bertune.tasks.pretraining import masking_rules
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]


class Source(Protocol):
    """Masked sequences by number."""

    def __len__(self) -> int: ...

    def features(self, rows: Rows, epoch: int) -> Features:
        """Some sequences as they are in an epoch."""
        ...


@dataclass(frozen=True)
class MaskedSequences:
    """Sequences of a corpus with new masks every epoch."""

    sequences: Sequences
    masking: Masking
    seed: int

    def __len__(self) -> int:
        return len(self.sequences)

    def features(self, rows: Rows, epoch: int) -> Features:
        """Some sequences with the masks of an epoch."""
        taken = self.sequences.take(rows)
        ids, labels = mask(taken.ids, self.masking, seed=self.seed, epoch=epoch, rows=rows)
        offsets = taken.ids.offsets
        targets: dict[str, Any] = {"labels": Ragged(labels, offsets)}
        if taken.next_sentence is not None:
            targets["next_sentence"] = taken.next_sentence
        return Features(Ragged(ids, offsets), taken.segments, np.arange(len(rows), dtype=np.int32), targets)


@dataclass(frozen=True)
class FixedSequences:
    """Instances whose masks were written with them."""

    instances: Instances
    next_sentence: bool

    def __len__(self) -> int:
        return len(self.instances)

    def features(self, rows: Rows, epoch: int) -> Features:  # noqa: ARG002 (the same in every epoch)
        """Some instances."""
        return self.instances.features(rows, next_sentence=self.next_sentence)


@dataclass(frozen=True)
class PretrainingData:
    """train, validation: the latter None without a held-out part.  described: of the files, for the record."""

    train: Source
    validation: Source | None
    described: dict[str, dict[str, Any]]
    length: int


@dataclass(frozen=True)
class Inputs:
    """The files of a run, found and told apart. kind: of all of them."""

    train: list[Path]
    validation: list[Path]
    kind: str

    def describe(self) -> dict[str, dict[str, Any]]:
        """For the record: files, sizes, hashes."""
        return {
            role: {
                "file": ", ".join(str(path) for path in files[:3]) + (" …" if len(files) > 3 else ""),
                "sha256": " ".join(file_sha256(path) for path in files[:3]),
            }
            for role, files in (("train", self.train), ("validation", self.validation))
            if files
        }


def find_inputs(options: PretrainOptions) -> Inputs:
    """The files that the options name.

    Raises:
        InputError: missing files, kinds that do not go together, the same file for training and validation.
    """
    train = find_files(options.train, "--train")
    validation = find_files(options.validation or [], "--validation")
    kind = corpus_kind(train)
    if validation and (corpus_kind(validation) == "tfrecord") != (kind == "tfrecord"):
        raise InputError(f"--validation {validation[0]}: give instances (TFRecord) for both, or text for both")
    seen = {file_sha256(path): path for path in train}
    problems = Problems()
    for path in validation:
        if (same := seen.get(file_sha256(path))) is not None:
            problems.add(f"--validation {path}: is the same text as --train {same}; a model is not judged by that")
    problems.raise_if_any()
    return Inputs(train, validation, kind)


def open_data(
    inputs: Inputs, tokenizer: Tokenizer, options: PretrainOptions, *, next_sentence: bool
) -> PretrainingData:
    """Tokenize the files, or find them tokenized, and lay out sequences.

    Raises:
        InputError: broken files, no text, documents that next sentence cannot use, nothing to evaluate on.
    """
    if inputs.kind == "tfrecord":
        return _from_instances(inputs, tokenizer, options, next_sentence)
    cache = Path(options.cache) if options.cache else corpora_folder()
    lines = _lines(inputs.train, options)
    held = 0.0 if inputs.validation else options.validation_share
    corpus = tokenized(inputs.train, tokenizer, _form(options, lines, held), cache, workers=options.workers)
    _layout = _Layout(tokenizer, options, next_sentence)
    train = _layout.over(corpus, corpus.train, "train")
    described = inputs.describe()
    if inputs.validation:
        form = _form(options, _lines(inputs.validation, options), 0.0)
        other = tokenized(inputs.validation, tokenizer, form, cache, workers=options.workers)
        validation: Source | None = _layout.over(other, other.train, "validation")
    elif held:
        if not corpus.held.total:
            raise InputError(
                f"none of the {corpus.documents} documents fell into the {held:.0%} held out for evaluation; give "
                "--validation FILE, a larger --validation-share, or --validation-share 0 to train without evaluation"
            )
        validation = _layout.over(corpus, corpus.held, "held-out")
        described["validation"] = dict(described["train"], file=f"held out of it: {held:.0%} of its documents")
    else:
        validation = None
    described["train"]["rows"] = corpus.documents
    if "validation" in described:
        described["validation"].setdefault("rows", "-")
    return PretrainingData(train, validation, described, options.max_seq_length)


def _lines(files: Sequence[Path], options: PretrainOptions) -> Lines:
    if options.lines != "auto":
        return cast(Lines, options.lines)
    found = meaning_of_lines(files)
    logger.info("%s: every line of plain text is a %s (--lines)", files[0], found.removesuffix("s"))
    return found


def _form(options: PretrainOptions, lines: Lines, held: float) -> CorpusForm:
    return CorpusForm(lines, options.text_column, held, cast(Words, options.words))


@dataclass(frozen=True)
class _Layout:
    """Lays sequences over tokenized text."""

    tokenizer: Tokenizer
    options: PretrainOptions
    next_sentence: bool

    def over(self, corpus: TokenCorpus, stream: TokenStream, side: str) -> MaskedSequences:
        """The sequences of one side of a corpus, masked by the options' rules."""
        options, special = self.options, self.tokenizer.special
        if self.next_sentence:
            if corpus.short and not options.skip_short_documents:
                raise InputError(
                    f"{corpus.short} of {corpus.documents} documents have one sentence only, so none can follow it; "
                    f"the first: {'; '.join(corpus.places)}. Add --skip-short-documents, or --no-next-sentence"
                )
            room = options.max_seq_length - (special.separators - 1)  # the rules count one separator between A and B
            rules = PairRules(room, options.short_sequences, options.seed)
            sequences: Sequences = pair_sequences(corpus.folder, stream, side, rules, special)
        else:
            sequences = FullSequences(stream, special, options.max_seq_length)
        if not len(sequences):
            raise InputError(f"--{'train' if side == 'train' else 'validation'}: too little text for a single sequence")
        masking = masking_rules(self.tokenizer, options.mask_probability, whole_words=options.whole_words)
        return MaskedSequences(sequences, masking, options.seed if side == "train" else 0)


def _from_instances(
    inputs: Inputs, tokenizer: Tokenizer, options: PretrainOptions, next_sentence: bool
) -> PretrainingData:
    cache = Path(options.cache) if options.cache else corpora_folder()
    train = open_instances(inputs.train, cache, tokenizer.vocab_size)
    described = inputs.describe()
    described["train"]["rows"] = len(train)
    validation = None
    if inputs.validation:
        held = open_instances(inputs.validation, cache, tokenizer.vocab_size)
        described["validation"]["rows"] = len(held)
        validation = FixedSequences(held, next_sentence)
    else:
        logger.warning("instances repeat their text, so none can be held out; give --validation to evaluate")
    logger.info("instances of %d tokens; their masks and pairs are used as they are", train.length)
    return PretrainingData(FixedSequences(train, next_sentence), validation, described, train.length)
