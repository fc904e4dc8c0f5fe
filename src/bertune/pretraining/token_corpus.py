"""A tokenized corpus on disk: written once, mapped into memory, addressed by what it was made from.

Documents are tokenized some megabytes at a time and kept in shards. A shard is written beside and renamed, so a build
that was stopped goes on with the shard it had begun. The folder's name is a hash of the texts, the tokenizer and the
options: the same corpus is found again, anything else is built anew.

In a shard: `tokens.npy`, ids end to end, a separator after each document, an id that continues a word stored as `~id`;
`sentences.npy`, where each sentence and each separator starts, and the end; `documents.npy`, the entry of `sentences`
that each document starts with, and their number. Two of each: `train` and `held`, whose documents were drawn by a hash
of their text, so that equal documents are on the same side.
"""

import hashlib
import itertools
import json
import logging
import mmap
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bertune.data.documents import Document, Lines
from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.features import IntArray, Offsets, Ragged
from bertune.files.cache import cache_folder
from bertune.pretraining.cuts import SHORT_SHOWN, Cuts, size_of, up_to
from bertune.pretraining.shard_writers import shard_writers
from bertune.progress import progress_bar
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Words = Literal["pieces", "spaces"]
Side = Literal["train", "held"]

SHARD_CHARACTERS = 8 << 20
"""Characters of text a shard."""
_BATCH_CHARACTERS = 1 << 20
"""Characters tokenized at a time."""
_RELEASE_EVERY = 8
"""Calls of `gather` after which mapped pages are let go of."""
_VERSION = 2


@dataclass(frozen=True)
class CorpusForm:
    """How texts become tokens.

    lines: what a line of plain text is.  text_column: of tables.  held_out: share of documents kept from training.
    words: what a word is to whole-word masking: `pieces`, a piece with the `##` pieces after it; `spaces`, all between
    two spaces, for texts that were segmented (Chinese).
    """

    lines: Lines = "sentences"
    text_column: str = "text"
    held_out: float = 0.0
    words: Words = "pieces"


@dataclass(frozen=True)
class TokenStream:
    """One side of a corpus: its shards, end to end, mapped from disk.

    tokens, sentences, documents: as the shards hold them.  starts: of every shard, in tokens of the whole.
    """

    tokens: list[IntArray]
    sentences: list[Offsets]
    documents: list[Offsets]
    starts: Offsets = field(init=False)
    _calls: "itertools.count[int]" = field(init=False, default_factory=lambda: itertools.count(1), compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", np.cumsum([0, *(len(part) for part in self.tokens)]).astype(np.int64))

    @property
    def total(self) -> int:
        """Tokens, separators included."""
        return int(self.starts[-1])

    def gather(self, first: npt.NDArray[np.int64], end: npt.NDArray[np.int64]) -> Ragged:
        """Copies of some runs of tokens, each within a shard."""
        shards = np.searchsorted(self.starts, first, side="right") - 1
        local = self.starts[shards]
        parts = [
            self.tokens[shard][a:b] for shard, a, b in zip(shards, first - local, end - local, strict=True) if b > a
        ]
        gathered = Ragged.from_lengths(np.concatenate(parts) if parts else np.zeros(0, np.int32), end - first)
        if next(self._calls) % _RELEASE_EVERY == 0:
            self.release()
        return gathered

    def release(self) -> None:
        """Let go of all mapped pages, which would otherwise add up in the process until the system needs them."""
        for part in zip(self.tokens, self.sentences, self.documents, strict=True):
            release(*part)


def release(*arrays: npt.NDArray[Any]) -> None:
    """Let go of the pages of mapped arrays; they are read again where they are needed."""
    for array in arrays:
        mapping = getattr(array.base, "_mmap", None)
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class TokenCorpus:
    """A tokenized corpus.

    folder: where it lies.  documents: how many there are.  short: how many of one sentence alone.  places: of the
    first of those.
    """

    folder: Path
    train: TokenStream
    held: TokenStream
    documents: int
    short: int
    places: list[str]


def corpora_folder() -> Path:
    """Where tokenized corpora lie."""
    return cache_folder("corpora")


def tokenized(
    files: Sequence[Path],
    tokenizer: Tokenizer,
    form: CorpusForm,
    cache: Path | None = None,
    *,
    workers: int = 1,
) -> TokenCorpus:
    """The tokenized form of some files: found again, or built, or built on from where a stopped build was.

    Args:
        files: plain text or tables.
        tokenizer: makes the pieces.
        form: how texts become tokens.
        cache: folder of tokenized corpora; None: `corpora_folder()`.
        workers: processes that tokenize; any number of them gives the same files.

    Raises:
        InputError: unreadable files, or no text in them; a cache that cannot be written.
    """
    made_from = {
        "version": _VERSION,
        "files": [file_sha256(path) for path in files],
        "tables": [path.suffix for path in files],
        "tokenizer": tokenizer.fingerprint,
        "form": asdict(form),
    }
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    folder = (cache or corpora_folder()) / key
    try:
        if (folder / "corpus.json").is_file():
            logger.info("corpus: found tokenized in %s", folder)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            _build(folder, files, _Encoding(tokenizer, form), workers)
        return _opened(folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written or read: {error.strerror or error}") from None
    except _DamagedError as error:
        raise InputError(f"{folder}: damaged ({error}); remove this folder, and it is built again") from None


class _DamagedError(Exception):
    """A shard, or the list of them, that is not as it was written."""


def _build(folder: Path, files: Sequence[Path], encoding: "_Encoding", workers: int) -> None:
    """Write all shards that are not there."""
    form, whole = encoding.form, _whole_shards(folder)
    if whole:
        logger.info("corpus: %d shards of a stopped build are whole; going on after them", len(whole))
    cuts = Cuts(files, form.lines, form.text_column, SHARD_CHARACTERS, whole)
    made: dict[int, Mapping[str, Any]] = dict(enumerate(whole))
    with (
        progress_bar("tokenizing (bytes)", sum(path.stat().st_size for path in files)) as bar,
        shard_writers(encoding.write, workers) as write,
    ):
        for number, (documents, described) in cuts:
            write(folder / f"shard-{number:06d}", documents, described)
            made[number] = described
            bar.advance(size_of(documents))
    count = sum(shard["documents"] for shard in made.values())
    if not count:
        raise InputError(f"{', '.join(map(str, files[:5]))}: holds no text at all")
    _write_json(folder / "corpus.json", {"shards": len(made), "documents": count})
    logger.info("corpus: %d documents tokenized into %s", count, folder)


class _Encoding:
    """Turns documents into the two sides' arrays."""

    def __init__(self, tokenizer: Tokenizer, form: CorpusForm) -> None:
        tokens = tokenizer.tokens(range(tokenizer.vocab_size))
        self.tokenizer, self.form = tokenizer, form
        self.continues = np.array([token.startswith("##") for token in tokens])
        self.alone = np.array([len(token) == 1 and not token.isalnum() for token in tokens])

    def write(self, target: Path, documents: Sequence[Document], described: Mapping[str, Any]) -> None:
        """Tokenize a shard's documents and write it, whole or not at all."""
        _write_shard(target, self.sides(documents), described)

    def sides(self, documents: Sequence[Document]) -> Mapping[str, npt.NDArray[np.integer]]:
        """The arrays of a shard by file name."""
        parts: dict[str, _Side] = {"train": _Side(), "held": _Side()}
        rest = iter(documents)
        while batch := list(up_to(rest, _BATCH_CHARACTERS)):
            pieces = self._pieces([sentence for document in batch for sentence in document.sentences])
            at = 0
            for document in batch:
                bounds = pieces.offsets[at : at + len(document.sentences) + 1]
                at += len(document.sentences)
                held = self.form.held_out > 0 and _draw(document) < self.form.held_out
                parts["held" if held else "train"].add(pieces.values, bounds, self.tokenizer.special.sep)
        return {f"{side}-{name}": array for side, part in parts.items() for name, array in part.arrays().items()}

    def _pieces(self, sentences: list[str]) -> Ragged:
        if self.form.words == "pieces":
            pieces = self.tokenizer.encode(sentences)
            inside = self.continues[pieces.values]
        else:
            pieces, starts, ends = self.tokenizer.encode_with_offsets(sentences)
            inside = np.zeros(len(pieces.values), bool)
            alone = self.alone[pieces.values]
            inside[1:] = (starts.values[1:] == ends.values[:-1]) & ~alone[1:] & ~alone[:-1]
        inside[pieces.offsets[:-1][pieces.lengths > 0]] = False
        return Ragged(np.where(inside, ~pieces.values, pieces.values), pieces.offsets)


class _Side:
    """One side of a shard under way."""

    def __init__(self) -> None:
        self.tokens: list[IntArray] = []
        self.sentences: list[Offsets] = []
        self.documents = [0]
        self.size = 0

    def add(self, values: IntArray, bounds: Offsets, separator: int) -> None:
        """A document: its pieces lie at `values[bounds[0]:bounds[-1]]`; sentences without pieces are left out."""
        starts = bounds[:-1][np.diff(bounds) > 0]
        if not len(starts):
            return
        tokens = values[bounds[0] : bounds[-1]]
        self.tokens += [tokens, np.array([separator], np.int32)]
        self.sentences += [starts - bounds[0] + self.size, np.array([self.size + len(tokens)])]
        self.documents.append(self.documents[-1] + len(starts) + 1)
        self.size += len(tokens) + 1

    def arrays(self) -> dict[str, npt.NDArray[np.integer]]:
        """What a shard's files hold."""
        return {
            "tokens": np.concatenate([np.zeros(0, np.int32), *self.tokens]),
            "sentences": np.concatenate([np.zeros(0, np.int64), *self.sentences, np.array([self.size])]),
            "documents": np.array(self.documents, np.int64),
        }


def _draw(document: Document) -> float:
    """A number in [0, 1) that the document's text alone decides."""
    digest = hashlib.blake2b("\n".join(document.sentences).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _write_shard(target: Path, arrays: Mapping[str, npt.NDArray[np.integer]], described: Mapping[str, Any]) -> None:
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=target.parent))
    try:
        for name, array in arrays.items():
            np.save(beside / f"{name}.npy", array)
        _write_json(beside / "shard.json", described)
        if not target.exists():  # another process may have built the same shard
            beside.rename(target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _whole_shards(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while (path := folder / f"shard-{len(found):06d}" / "shard.json").is_file():
        found.append(_read_json(path))
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _DamagedError(f"{path.relative_to(path.parents[1])}: {error}") from None
    return found


def _opened(folder: Path) -> TokenCorpus:
    shards = _whole_shards(folder)
    described = _read_json(folder / "corpus.json")
    if len(shards) != described["shards"]:
        raise _DamagedError(f"{len(shards)} of {described['shards']} shards are there")

    def stream(side: Side) -> TokenStream:
        return TokenStream(
            *(
                [_mapped(folder / f"shard-{i:06d}" / f"{side}-{name}.npy") for i in range(len(shards))]
                for name in ("tokens", "sentences", "documents")
            )
        )

    return TokenCorpus(
        folder,
        stream("train"),
        stream("held"),
        described["documents"],
        sum(shard["short"] for shard in shards),
        [place for shard in shards for place in shard["places"]][:SHORT_SHOWN],
    )


def _mapped(path: Path) -> npt.NDArray[Any]:
    """An array mapped from disk, as a plain array: slicing one is several times faster than slicing a memmap."""
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, EOFError) as error:
        raise _DamagedError(f"{path.relative_to(path.parents[1])}: {error}") from None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)
