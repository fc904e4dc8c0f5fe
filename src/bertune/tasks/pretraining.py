"""Pre-training as a task: what its model folders answer and how they are scored. `bertune pretrain` trains them."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertune.data.documents import meaning_of_lines, read_documents, read_texts
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.features import IGNORED, Features, Ragged
from bertune.tasks.base import BaseTask
from bertune.tasks.hyperparameters import USUAL
from bertune.tasks.masking.dynamic import Masking, mask
from bertune.tasks.masking.names import MASKED_LM, NEXT_SENTENCE, OWN_VECTORS
from bertune.tasks.masking.scores import PretrainingScores
from bertune.tasks.options import CANDIDATES, PretrainingOptions
from bertune.tasks.protocol import Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

MASK = "[MASK]"
"""Stands for the word to find, in texts for `predict`, whatever the vocabulary calls it."""
EVALUATION_SEED = 0
"""Held-out masks are the same in every evaluation and for every seed, so that losses compare."""


DEFAULTS = USUAL


@dataclass(frozen=True, slots=True)
class MaskedText:
    """A text; for prediction with [MASK] in it. place: where it was read."""

    text: str
    place: int = 0


@dataclass(frozen=True)
class Pretraining(BaseTask[MaskedText]):
    """Masked words, and next sentence where the model has learnt it."""

    Options: ClassVar[type[Any]] = PretrainingOptions

    name: str = "pretraining"
    options: PretrainingOptions = PretrainingOptions()  # noqa: RUF009 (frozen)
    next_sentence: bool = False
    """Whether there is a head for next sentence."""
    own_vectors: bool = False
    """Whether words have vectors for prediction that are not the encoder's."""
    metric: str = "masked_lm_loss"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[MaskedText]:
        """Documents to score, or lines (rows of a table) with [MASK] in them."""
        if labelled:
            for document in read_documents(path, meaning_of_lines([path]), self.options.text_column):
                yield MaskedText(" ".join(document.sentences), document.line)
            return
        for line, text in read_texts(path, self.options.text_column):
            if MASK not in text:
                raise InputError(f"{path}, line {line}: holds no {MASK}, so there is nothing to fill in")
            yield MaskedText(text, line)

    def example(self, item: Any) -> MaskedText:
        """From a string with [MASK] in it."""
        if not isinstance(item, str) or MASK not in item:
            raise InputError(f"predict: {item!r} is not text with {MASK} in it")
        return MaskedText(item)

    def fit(self, examples: Sequence[MaskedText], *, path: Path, settings: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """Pre-training has a command of its own."""
        raise InputError("--task pretraining: train it with `bertune pretrain`")

    def problems(self, examples: Sequence[MaskedText], path: Path) -> list[str]:  # noqa: ARG002
        """Any text will do."""
        return []

    def featurize(
        self, examples: Sequence[MaskedText], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] text [SEP]`, long texts in several windows; masked words drawn, or asked for where [MASK] stands."""
        masks = [MaskedPieces(example.text, tokenizer) for example in examples]
        windows = [(i, *window) for i, pieces in enumerate(masks) for window in pieces.windows(max_seq_length - 2)]
        special = tokenizer.special
        ids = Ragged.from_lists([special.cls, *masks[i].ids[a:b], special.sep] for i, a, b, _ in windows)
        segments = Ragged(np.zeros(len(ids.values), np.int32), ids.offsets)
        owner = np.array([window[0] for window in windows], np.int32)
        if purpose == "predict":
            asked = (masks[i].asked(a, b, new) for i, a, b, new in windows)
            marks = Ragged.from_lists([IGNORED, *part, IGNORED] for part in asked)
            return Features(ids, segments, owner, {"asked": marks}, extras={"vocabulary": _spelled(tokenizer)})
        rules = masking_rules(tokenizer, self.options.mask_probability)
        rows = np.arange(len(ids))
        masked, labels = mask(ids, rules, seed=EVALUATION_SEED, epoch=0, rows=rows)
        targets = {"labels": Ragged(labels, ids.offsets)}
        return Features(Ragged(masked, ids.offsets), segments, owner, targets, np.zeros(len(ids), bool))

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """Heads for masked words and next sentence; they share the encoder's word vectors."""
        from bertune.tasks.masking.head import PretrainingHead

        return PretrainingHead(config, next_sentence=self.next_sentence, own_vectors=self.own_vectors)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",
    ) -> tuple["Tensor", "Tensor"]:
        """Cross-entropy of masked words, plus that of next sentence where there are pairs.

        Shape: logits (tokens, 4); targets labels (tokens,), next_sentence (sequences,).
        """
        from bertune.tasks.masking.head import pretraining_loss

        return pretraining_loss(logits, targets, layout)

    def decode(self, logits: Logits, features: Features, examples: Sequence[MaskedText]) -> list[Prediction]:
        """`{"masks": [{"start", "end", "candidates": [{"token", "score"}]}], "text": best words filled in}`."""
        words, asked = features.extras["vocabulary"], features.targets["asked"]
        if not isinstance(words, Ragged) or not isinstance(asked, Ragged):
            raise TypeError("features were made for another task")
        found: list[list[Prediction]] = [[] for _ in examples]
        for sequence, owner in enumerate(features.example_index):
            for row in np.flatnonzero(asked[sequence] != IGNORED):
                ids, scores = np.split(logits[sequence][row], 2)
                best = list(zip(ids.astype(int), scores, strict=True))[: self.options.top_k]
                candidates = [{"token": _word(words, i), "score": round(float(p), 6)} for i, p in best]
                found[owner].append({"candidates": candidates})
        return [_answer(example.text, masks) for example, masks in zip(examples, found, strict=True)]

    def candidates(self, text: str, prediction: Prediction) -> list[Prediction]:
        """A prediction as one flat list: `{"mask", "token", "score", "text"}` for every word of every mask."""
        return [
            {"mask": i, **one, "text": filled_in(text[: found["start"]], one["token"], text[found["end"] :])}
            for i, found in enumerate(prediction["masks"])
            for one in found["candidates"]
        ]

    def summary(self, example: MaskedText, prediction: Prediction) -> tuple[str, str, str]:
        """Text, words, probabilities."""
        best = [one["candidates"][0] for one in prediction["masks"]]
        return example.text, ", ".join(c["token"] for c in best), ", ".join(f"{c['score']:.3f}" for c in best)

    def metrics(self, logits: Logits, features: Features, examples: Sequence[MaskedText]) -> dict[str, float]:  # noqa: ARG002
        """masked_lm_loss, perplexity, masked_lm_accuracy."""
        labels = features.targets["labels"]
        if not isinstance(labels, Ragged):
            raise TypeError("features were made for another task")
        scores = PretrainingScores()
        for sequence, values in enumerate(logits):
            scores.add(values, labels[sequence], np.zeros(1, np.int64), None)
        return scores.metrics()

    def feature_key(self) -> Mapping[str, Any]:
        """All but the number of answers."""
        return self._described_without("top_k")

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:  # noqa: ARG002
        """Always: the heads mean the same in every checkpoint."""
        return True

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForPreTraining` or `AutoModelForMaskedLM`."""
        settings = {"tie_word_embeddings": not self.own_vectors}
        masked = [*MASKED_LM, *(OWN_VECTORS if self.own_vectors else [])]
        if self.next_sentence:
            return HuggingFaceHead("ForPreTraining", [*masked, *NEXT_SENTENCE], settings)
        return HuggingFaceHead("ForMaskedLM", masked, settings)

    def with_options(self, options: PretrainingOptions) -> Self:
        """With other options.

        Raises:
            InputError: an impossible number of answers.
        """
        if not 1 <= options.top_k <= CANDIDATES:
            raise InputError(f"--top-k {options.top_k}: must lie between 1 and {CANDIDATES}")
        return dataclasses.replace(self, options=options)

    def to_json(self) -> dict[str, Any]:
        """Name, options, whether there is next sentence."""
        return {
            "name": self.name,
            "options": dataclasses.asdict(self.options),
            "next_sentence": self.next_sentence,
            **({"own_vectors": True} if self.own_vectors else {}),
        }

    def restored(self, state: Mapping[str, Any]) -> Self:
        """As `to_json` kept it."""
        own = bool(state.get("own_vectors", False))
        return dataclasses.replace(self, next_sentence=bool(state["next_sentence"]), own_vectors=own)


def masking_rules(tokenizer: Tokenizer, probability: float, *, whole_words: bool = False) -> Masking:
    """How a vocabulary's tokens are masked.

    Raises:
        InputError: a vocabulary without [MASK].
    """
    special = tokenizer.special
    if special.mask is None:
        raise InputError(f"the vocabulary lacks {MASK}, which masked words need; add a line {MASK} to vocab.txt")
    reserved = (special.pad, special.cls, special.sep, special.mask)
    return Masking(special.mask, tokenizer.vocab_size, reserved, probability, whole_words)


class MaskedPieces:
    """The ids of a text in which [MASK] stands for words. ids: Shape: (pieces,).  places: of the masks among them."""

    def __init__(self, text: str, tokenizer: Tokenizer) -> None:
        if tokenizer.special.mask is None:
            raise InputError(f"this model's vocabulary has no {MASK}")
        parts = tokenizer.encode(text.split(MASK))
        self.ids: list[int] = []
        self.places: list[int] = []
        for i in range(len(parts)):
            if i:
                self.places.append(len(self.ids))
                self.ids.append(tokenizer.special.mask)
            self.ids.extend(parts[i].tolist())

    def windows(self, room: int) -> list[tuple[int, int, int]]:
        """Windows over the text: start, end, and the first place that no window before has; the last one is full."""
        count = len(self.ids)
        starts = range(0, max(count, 1), room)
        return [(max(0, min(start, count - room)), min(start + room, count), start) for start in starts]

    def asked(self, start: int, end: int, new: int) -> list[int]:
        """For every place of a window: the number of the mask that this window answers, else IGNORED."""
        number = {place: i for i, place in enumerate(self.places) if place >= new}
        return [number.get(place, IGNORED) for place in range(start, end)]


@lru_cache(maxsize=2)
def _spelled(tokenizer: Tokenizer) -> Ragged:
    """Every token of a vocabulary as code points, so that decoding can spell its answers."""
    tokens = tokenizer.tokens(range(tokenizer.vocab_size))
    return Ragged.from_lists([ord(char) for char in token] for token in tokens)


def _word(words: Ragged, index: int) -> str:
    return "".join(map(chr, words[index])) if index < len(words) else f"[no token {index}]"


def _answer(text: str, masks: list[Prediction]) -> Prediction:
    """A prediction: where each mask stands in the text, and the text with every mask's best word."""
    parts = text.split(MASK)
    filled, at, placed = parts[0], len(parts[0]), []
    for found, rest in zip(masks, parts[1:], strict=True):
        placed.append({"start": at, "end": at + len(MASK), **found})
        filled = filled_in(filled, found["candidates"][0]["token"], rest)
        at += len(MASK) + len(rest)
    return {"masks": placed, "text": filled}


def filled_in(before: str, token: str, after: str) -> str:
    """A token between two texts; one that continues a word follows it closely."""
    if token.startswith("##"):
        return before.rstrip() + token.removeprefix("##") + after
    return before + token + after
