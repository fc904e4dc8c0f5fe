"""Token classification: entities in texts, by one tag for every word."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.data.windows import Windows, place_windows
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, counted
from bertune.features import IGNORED, Features, Ragged
from bertune.tasks.base import BaseTask
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.characters import readable_span
from bertune.tasks.hyperparameters import USUAL
from bertune.tasks.options import TokenOptions
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.class_weights import balanced_weights, class_weights
from bertune.tasks.shared.huggingface import is_for, label_settings, labels_of, linear_in_folder
from bertune.tasks.shared.texts import without_middles
from bertune.tasks.shared.words import words_of
from bertune.tasks.tagging.decoding import best_tags
from bertune.tasks.tagging.examples import TaggedExample, chars_of, from_tokens, word_chunks
from bertune.tasks.tagging.known_words import known_words
from bertune.tasks.tagging.metrics import entity_metrics, entity_rows
from bertune.tasks.tagging.reading import read_tagged
from bertune.tasks.tagging.schemes import OUTSIDE, Chunk, chunks, model_labels, tags_of
from bertune.tasks.text_classification import softmax
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

logger = logging.getLogger(__name__)

DEFAULTS = USUAL


@dataclass(frozen=True)
class TokenClassification(BaseTask[TaggedExample]):
    """Entities of a fixed list of types; a word is tagged at its first piece."""

    Options: ClassVar[type[Any]] = TokenOptions
    logit_kind: ClassVar[str] = "tags"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "precision", "recall", "f1/", "precision/", "recall/")

    name: str = "token-classification"
    options: TokenOptions = TokenOptions()  # noqa: RUF009 (frozen)
    labels: tuple[str, ...] = ()
    """The tags, in the order of the logits."""
    weights: tuple[float, ...] = ()
    """How much every tag counts in training; none: alike."""
    metric: str = "f1"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[TaggedExample]:
        """Texts, words and entities from CoNLL files, rows of tokens and tags, or annotations by characters."""
        return read_tagged(path, self.options, labelled=labelled)

    def example(self, item: Any) -> TaggedExample:
        """From a string, a list of tokens, or a mapping with `text` or `tokens`."""
        if isinstance(item, Mapping):
            item = item.get("tokens", item.get("text"))
        if isinstance(item, str):
            return TaggedExample(item, words_of(item))
        if isinstance(item, list | tuple) and all(isinstance(token, str) for token in item):
            return from_tokens(item, None, 0)
        raise InputError(f"predict: {item!r} is neither a text nor a list of tokens")

    def fit(self, examples: Sequence[TaggedExample], *, path: Path, settings: Mapping[str, Any]) -> Self:
        """With the types of the training data; a fine-tuned start that knows the same tags keeps its order."""
        types = sorted({entity.label for example in examples for entity in example.entities})
        if not types:
            raise InputError(f"{path}: no entity in the whole file; every tag is {OUTSIDE}")
        labels, known = model_labels(types, self.options.model_scheme), labels_of(settings)
        made = dataclasses.replace(self, labels=known if sorted(known) == sorted(labels) else labels)

        def balanced() -> tuple[float, ...]:
            return balanced_weights((tag for tags in made.gold_tags(examples)[0] for tag in tags), made.labels)

        return dataclasses.replace(made, weights=class_weights(self.options.class_weights, made.labels, balanced))

    @property
    def types(self) -> tuple[str, ...]:
        """The types of entities."""
        return tuple(dict.fromkeys(label.partition("-")[2] for label in self.labels if label != OUTSIDE))

    def problems(self, examples: Sequence[TaggedExample], path: Path) -> list[str]:
        """Types that training never saw."""
        known = set(self.types)
        strange: dict[str, TaggedExample] = {}
        for example in examples:
            for entity in example.entities:
                if entity.label not in known:
                    strange.setdefault(entity.label, example)
        return [
            f"{path}, line {example.place}: the type {label!r} never occurs in the training data; "
            f"known: {', '.join(self.types)}"
            for label, example in strange.items()
        ]

    def featurize(
        self, examples: Sequence[TaggedExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] pieces [SEP]`, in overlapping windows where a text is long; every word is tagged in one of them.

        extras: `word`, for every token the word whose first piece it is where this window speaks for it, else -1.
        """
        ids, starts, ends = tokenizer.encode_with_offsets([example.text for example in examples])
        word = Ragged(first_pieces(starts, ends, examples), ids.offsets)
        room = max_seq_length - 2
        stride = self.options.doc_stride
        if stride is not None and stride < 1:
            raise InputError(f"--doc-stride {stride}: must be at least 1")
        cut = ids.lengths > room
        if self.options.long_text != "window":
            ids, word = (without_middles(column, room, self.options.long_text) for column in (ids, word))
        windows = place_windows(ids.lengths, room, room // 2 if stride is None else stride)
        special = (tokenizer.special.cls, tokenizer.special.sep)
        input_ids, shown = _windowed(ids, word, windows, special)
        targets = {}
        if purpose != "predict":
            targets["tag"] = self._targets(examples, shown, windows.example)
        segments = Ragged(np.zeros_like(input_ids.values), input_ids.offsets)
        index = windows.example.astype(np.int32)
        lost = cut[index] & (self.options.long_text != "window")
        return Features(input_ids, segments, index, targets, lost, {"word": shown})

    def _targets(self, examples: Sequence[TaggedExample], word: Ragged, example_index: npt.NDArray[np.int64]) -> Ragged:
        gold, inexact = self.gold_tags(examples)
        if inexact:
            logger.warning(
                "%s not at the edges of words; the model learns the whole words",
                counted(inexact, "entity is", "entities are"),
            )
        index = {label: i for i, label in enumerate(self.labels)}
        tags = np.array([index[tag] for tags in gold for tag in tags], np.int32)
        bases = np.cumsum([0, *(len(tags) for tags in gold)])[:-1]
        at = np.repeat(bases[example_index], word.lengths) + word.values
        values = np.full(len(word.values), IGNORED, np.int32)
        values[word.values >= 0] = tags[at[word.values >= 0]]
        return Ragged(values, word.offsets)

    def gold_tags(self, examples: Sequence[TaggedExample]) -> tuple[list[list[str]], int]:
        """Every word's tag in the model's scheme, and how many entities begin or end inside a word."""
        inexact = 0
        tags: list[list[str]] = []
        for example in examples:
            found, off = word_chunks(example)
            inexact += off
            tags.append(tags_of(found, len(example.words), self.options.model_scheme))
        return tags, inexact

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer on every token, of the last layer or of several."""
        from bertune.tasks.shared.heads import token_head

        return token_head(config, len(self.labels), self.options.layers)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """Softmax cross-entropy, one term a word. Shape: logits (tokens, labels), targets tag (tokens,)."""
        from bertune.tasks.shared.heads import cross_entropy

        return cross_entropy(logits, targets["tag"], self.options, self.weights)

    def tagged(
        self, logits: Logits, features: Features, examples: Sequence[TaggedExample]
    ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """For every example its words' labels and these labels' probabilities; a word without pieces is outside."""
        lengths = np.array([len(example.words) for example in examples], np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        outside = self.labels.index(OUTSIDE)
        everything = np.zeros((int(offsets[-1]), len(self.labels)))
        everything[:, outside] = 1.0
        word = features.extras["word"]
        if len(logits) and isinstance(word, Ragged):
            at = np.repeat(offsets[features.example_index], word.lengths) + word.values
            spoken = word.values >= 0
            everything[at[spoken]] = softmax(np.concatenate(list(logits))[spoken])
        parts = np.split(everything, offsets[1:-1]) if len(examples) else []
        tags = best_tags(parts, self.labels, self.options.model_scheme)
        return [(path, part[np.arange(len(path)), path]) for path, part in zip(tags, parts, strict=True)]

    def decode(self, logits: Logits, features: Features, examples: Sequence[TaggedExample]) -> list[Prediction]:
        """`{"entities": [{"label", "text", "start", "end", "score"}]}`; score: mean probability of the words' tags."""
        predictions: list[Prediction] = []
        for example, (path, scores) in zip(examples, self.tagged(logits, features, examples), strict=True):
            found = chunks([self.labels[i] for i in path])
            predictions.append({"entities": [_described(example, chunk, scores) for chunk in found]})
        return predictions

    def summary(self, example: TaggedExample, prediction: Prediction) -> tuple[str, str, str]:
        """Text, entities, the least sure one's score."""
        entities = prediction["entities"]
        listed = ", ".join(f"{entity['text']} ({entity['label']})" for entity in entities)
        least = min((entity["score"] for entity in entities), default=None)
        return example.text, listed or "(none)", "" if least is None else f"{least:.3f}"

    def metrics(self, logits: Logits, features: Features, examples: Sequence[TaggedExample]) -> dict[str, float]:
        """Entities' f1, precision and recall, together and by type, and the share of words tagged right."""
        tagged = [[self.labels[i] for i in path] for path, _ in self.tagged(logits, features, examples)]
        gold, _ = self.gold_tags(examples)
        words = sum(len(tags) for tags in gold)
        right = sum(a == b for one, two in zip(gold, tagged, strict=True) for a, b in zip(one, two, strict=True))
        predicted = [
            [(one.label, (one.start, one.end)) for one in (chars_of(chunk, example.words) for chunk in chunks(tags))]
            for example, tags in zip(examples, tagged, strict=True)
        ]
        true = [[(one.label, (one.start, one.end)) for one in example.entities] for example in examples]
        return {"accuracy": right / max(1, words)} | entity_metrics(true, predicted)

    def row_metrics(self, examples: Sequence[TaggedExample], predictions: Sequence[Prediction]) -> RowMetrics:
        """Entities' f1, precision and recall, together and by type; a row is right when all its entities are."""
        true = [[(one.label, (one.start, one.end)) for one in example.entities] for example in examples]
        found = [[(one["label"], (one["start"], one["end"])) for one in given["entities"]] for given in predictions]
        return entity_rows(true, found)

    def averaging(self) -> str:
        """f1 counts the entities of all types together."""
        return "of entities, micro average"

    def baselines(self) -> Mapping[str, Baseline]:
        """Entities of the training data wherever their words stand again."""
        return {"known_words": known_words}

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head and the loss."""
        return self._described_without("weights", "class_weights", "label_smoothing", "focal_gamma", "layers")

    def calibration_rows(
        self,
        logits: Logits,
        features: Features,
        examples: Sequence[TaggedExample],  # noqa: ARG002
    ) -> CalibrationRows | None:
        """Every word's logits and tag. The best legal sequence of tags is the same at every temperature."""
        tags = features.targets.get("tag")
        if not isinstance(tags, Ragged) or not len(logits):
            return None
        spoken = tags.values != IGNORED
        return CalibrationRows(np.concatenate(list(logits))[spoken].astype(np.float64), tags.values[spoken])

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint's labels are these, in this order, and of tokens."""
        return labels_of(settings) == self.labels and is_for(settings, "ForTokenClassification", default=True)

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForTokenClassification`; with several layers `AutoModel` and a head beside it."""
        return linear_in_folder("ForTokenClassification", self.options.layers, label_settings(self.labels))

    def to_json(self) -> dict[str, Any]:
        """Name, options, labels, weights."""
        learnt = {"labels": list(self.labels), "weights": list(self.weights)}
        return {"name": self.name, "options": dataclasses.asdict(self.options), **learnt}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """With what `to_json` kept."""
        return dataclasses.replace(self, labels=tuple(state["labels"]), weights=tuple(state.get("weights", ())))


def first_pieces(starts: Ragged, ends: Ragged, examples: Sequence[TaggedExample]) -> npt.NDArray[np.int32]:
    """For every piece the word whose first piece it is, else -1.

    A word's first piece is the first that reaches beyond the word's start; a piece that touches several words is the
    first of them's. Shape: (pieces,).
    """
    found = np.full(len(starts.values), -1, np.int32)
    for index, example in enumerate(examples):
        low, high = int(starts.offsets[index]), int(starts.offsets[index + 1])
        if low == high or not example.words:
            continue
        words = np.array(example.words, np.int64)
        piece = np.searchsorted(ends.values[low:high], words[:, 0], side="right")
        fits = piece < high - low
        fits[fits] = starts.values[low:high][piece[fits]] < words[fits, 1]
        chosen = np.flatnonzero(fits)[::-1]  # of words with the same piece the first is written last
        found[low + piece[chosen]] = chosen
    return found


def _windowed(ids: Ragged, word: Ragged, windows: Windows, special: tuple[int, int]) -> tuple[Ragged, Ragged]:
    """The windows' token ids with [CLS] and [SEP] around, and the words that each speaks for, aligned with them."""
    lengths = windows.end - windows.first
    offsets = np.concatenate([[0], np.cumsum(lengths + 2)]).astype(np.int64)
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    place = np.repeat(offsets[:-1] + 1, lengths) + within
    shown = np.repeat(windows.first, lengths) + within
    source = np.repeat(ids.offsets[windows.example], lengths) + shown
    values = np.full(int(offsets[-1]), special[1], np.int32)
    values[offsets[:-1]] = special[0]
    values[place] = ids.values[source]
    owned = (shown >= np.repeat(windows.owned_first, lengths)) & (shown < np.repeat(windows.owned_end, lengths))
    words = np.full(int(offsets[-1]), -1, np.int32)
    words[place] = np.where(owned, word.values[source], -1)
    return Ragged(values, offsets), Ragged(words, offsets)


def _described(example: TaggedExample, chunk: Chunk, scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    entity = chars_of(chunk, example.words)
    start, end = readable_span(example.text, entity.start, entity.end)
    if start == end:  # a token of nothing visible
        start, end = entity.start, entity.end
    return {
        "label": entity.label,
        "text": example.text[start:end],
        "start": start,
        "end": end,
        "score": round(float(scores[chunk.first : chunk.end].mean()), 6),
    }
