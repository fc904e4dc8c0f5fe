"""Vocabularies: trained anew from text, or extended by a domain's words."""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tokenizers
import torch
from tokenizers import models, normalizers, pre_tokenizers, trainers
from torch import Tensor

from bertune.errors import InputError, Problems
from bertune.features import Ragged
from bertune.files.outputs import open_output
from bertune.files.text_files import lines as text_lines
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.vocabulary_files import read_vocabulary

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""What a BERT vocabulary begins with; padding is id 0."""
_LONGEST_WORD = 200


def train_vocabulary(
    texts: Iterable[str], size: int, *, do_lower_case: bool = True, min_frequency: int = 2
) -> list[str]:
    """The word pieces of a text, by the `tokenizers` library's trainer for WordPiece, in BERT's reading of words.

    Args:
        texts: read once, as a stream.
        size: most entries, special tokens included.
        do_lower_case: also strips accents.
        min_frequency: rarer pairs of pieces are not joined.
    """
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=do_lower_case)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, min_frequency=min_frequency, special_tokens=list(SPECIAL), show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    ids: dict[str, int] = backend.get_vocab()
    return sorted(ids, key=lambda token: ids[token])


@dataclass(frozen=True)
class Extension:
    """A vocabulary with new words at its end. pieces: the ids that each new word had before, in order of the new."""

    tokenizer: Tokenizer
    words: list[str]
    pieces: Ragged

    def rows(self, table: Tensor) -> Tensor:
        """A table or vector with an entry a word piece, and the mean of its pieces for each new word.

        Shape: (old vocabulary, …) → (new vocabulary, …).
        """
        first = self.tokenizer.vocab_size - len(self.words)
        means = [table[torch.from_numpy(self.pieces[i]).long()].mean(0) for i in range(len(self.words))]
        rest = table[first + len(self.words) :]  # entries beyond the vocabulary, which some checkpoints have
        return torch.cat([table[:first], torch.stack(means), rest])


def extended(tokenizer: Tokenizer, file: Path) -> Extension | None:
    """The vocabulary with the words of a file, one a line, that it lacks; None when it lacks none.

    Raises:
        InputError: an unreadable or empty file; lines that the tokenizer would split in several words, which could then
            never be met in a text; a tokenizer that is not BERT's.
    """
    problems = Problems()
    words: dict[str, None] = {}
    count = 0
    for line, text in text_lines(file, False, problems):
        if not text.strip():
            continue
        count += 1
        found = tokenizer.basic(text)
        if len(found) != 1 or len(found[0]) > _LONGEST_WORD:
            parts = f"{len(found)} words ({' | '.join(found[:5])})" if len(found) != 1 else "too long"
            problems.add(f"{file}, line {line}: {text.strip()[:40]!r} is {parts} to the tokenizer; add single words")
        elif tokenizer.id_of(found[0]) is None:
            words[found[0]] = None
    problems.raise_if_any()
    if not count:
        raise InputError(f"{file}: holds no words; write one a line")
    if not words:
        return None
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder), max_length=512)
        vocabulary = Path(folder) / "vocab.txt"
        if not vocabulary.is_file() or tokenizer.do_lower_case is None:
            raise InputError("--add-tokens: works on WordPiece vocabularies alone; this encoder has another tokenizer")
        write_vocabulary(vocabulary, [*read_vocabulary(vocabulary), *words])
        new = Tokenizer.from_vocab(vocabulary, do_lower_case=tokenizer.do_lower_case)
    return Extension(new, list(words), tokenizer.encode(list(words)))


def write_vocabulary(path: Path, tokens: Sequence[str]) -> None:
    """Write a vocab.txt, one entry a line; see `open_output`.

    Raises:
        InputError: it cannot be written.
        FaultError: the disk is full or broken.
    """
    with open_output(path) as stream:
        stream.write("".join(f"{token}\n" for token in tokens).encode())
