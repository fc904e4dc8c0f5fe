"""Sentence embeddings: one vector for a text, trained on pairs that belong together, for search and clustering.

Source of the loss: Henderson et al., 2017 ("Efficient natural language response suggestion"), the multiple negatives
ranking loss of sentence-transformers, whose folder layout is written too.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.checkpoints.names import KIND, Rename
from bertune.data.columns import guess_label_column, listed
from bertune.data.formats.prodigy_labels import accepted
from bertune.data.tables import Rows, open_table
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems, counted
from bertune.features import Features
from bertune.tasks.base import BaseTask
from bertune.tasks.column_contents import is_blank
from bertune.tasks.hyperparameters import EMBEDDING
from bertune.tasks.options import EmbeddingOptions, TextColumns
from bertune.tasks.parts import ExampleParts
from bertune.tasks.protocol import Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.reading import LeftOut, log_columns
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.folder_pooling import SENTENCE_MODULES, pooling_of
from bertune.tasks.shared.histograms import histogram
from bertune.tasks.shared.huggingface import is_for, mix_names
from bertune.tasks.shared.pair_labels import PairLoss, labelled_rows, loss_for, pair_label
from bertune.tasks.shared.texts import mean_of, shown, text_features, text_item
from bertune.tasks.text_classification import find_columns
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

logger = logging.getLogger(__name__)

DEFAULTS = EMBEDDING
MARGIN = 0.5
"""Of contrastive loss, as in sentence-transformers."""
NEGATIVE = ("negative", "hard_negative")

Columns = Mapping[str, npt.NDArray[np.integer]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts that belong together, and perhaps a third that looks as if it did; to predict one text is enough."""

    text: str
    pair: str | None = None
    negative: str | None = None
    place: int = 0
    label: float | None = None
    """0 and 1, or a score of similarity; None where the row has none."""

    def parts(self) -> ExampleParts:
        """Its texts, and its label as a number."""
        texts = zip(("text", "pair", "negative"), self.texts, strict=False)
        return ExampleParts(dict(texts), number=self.label, place=self.place)

    @property
    def texts(self) -> tuple[str, ...]:
        """Those that there are, in this order."""
        return tuple(text for text in (self.text, self.pair, self.negative) if text is not None)


@dataclass(frozen=True)
class Embedding(BaseTask[Pair]):
    """Vectors of length 1; of a batch's second texts each first text must find its own.

    Where pairs have labels, cosines follow these instead: 0 and 1 by contrastive loss, scores by regression.
    A long text's windows are averaged, each of length 1, and the mean brought to length 1 again.
    """

    Options: ClassVar[type[Any]] = EmbeddingOptions
    compares_rows: ClassVar[bool] = True
    logit_kind: ClassVar[str] = "vector"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy", "recall_at_10", "mrr", "pearson", "spearman", "rmse", "mae")

    name: str = "embedding"
    options: EmbeddingOptions = EmbeddingOptions()  # noqa: RUF009 (frozen)
    pair_loss: PairLoss = "ranking"
    """The loss that the labels of the training data ask for."""
    highest: float = 1.0
    """What scores are divided by."""
    metric: str = "accuracy"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[Pair]:
        """Pairs of texts and their labels, if there are any; to predict single texts too."""
        options, file = self.options, open_table(path, self.options)
        file = accepted(file) if labelled else file
        customary = next((name for name in NEGATIVE if name in file.columns), None)
        negatives = options.negative_column or customary
        if labelled and negatives is not None and negatives not in file.columns:
            raise InputError(f"{path}: no column {negatives!r} (--negative-column); it has: {listed(file.columns)}")
        texts = TextColumns(options.text_column, options.pair_column, negatives)  # which is no text to guess then
        one, two, _ = find_columns(file, texts, labelled=False)
        if labelled and two is None:
            raise InputError(f"{path}: only one column of text; name the second with --pair-column")
        labels = self._label_column(file, (one, two), negatives) if labelled else None
        if labelled:
            log_columns(file, {"text": one, "pair": two, "negative": negatives, "label": labels})
        problems, left_out = Problems(), LeftOut("without a text or a label")
        advice = "; leave such rows out with --drop-unlabelled" if labelled else ""
        needed = [name for name in (one, two, labels) if name is not None]
        for row in file:
            if labelled and options.drop_unlabelled and any(is_blank(row.values.get(name)) for name in needed):
                left_out.add(row.line)
                continue
            text, pair = (None if name is None else row.values.get(name) for name in (one, two))
            negative = row.values.get(negatives) if labelled and negatives is not None else None
            for column, value in ((one, text), (two, pair)):
                if column is not None and not isinstance(value, str):
                    problems.add(f"{file.where(row, column)}: expected text, found {value!r}{advice}")
                elif column is not None and labelled and not str(value).strip():
                    problems.add(f"{file.where(row, column)}: an empty text; a pair needs both{advice}")
            if not isinstance(negative, str | None):
                problems.add(f"{file.where(row, negatives)}: expected text, found {negative!r}")
            label = None
            try:
                label = None if labels is None else pair_label(row.values.get(labels))
            except InputError as error:
                problems.add(f"{file.where(row, labels)}: {error}")
            if labels is not None and label is None:
                problems.add(
                    f"{file.where(row, labels)}: the label is missing (--drop-unlabelled leaves such rows out)"
                )
            if not problems:
                hard = str(negative) if negative and str(negative).strip() else None
                yield Pair(str(text), None if two is None else str(pair), hard, row.line, label)
        problems.raise_if_any()
        left_out.log(path)

    def _label_column(self, file: Rows, texts: tuple[str | None, str | None], negatives: str | None) -> str | None:
        """The column of labels that the loss needs; None where it needs none."""
        options = self.options
        if options.pair_loss == "ranking":
            return None
        columns = TextColumns(texts[0], texts[1], options.label_column)
        found = find_columns(file, columns, labelled=options.label_column is not None)[2]
        if found is None:
            others = [column for column in file.columns if column not in texts]
            found = guess_label_column(others)
        if found is not None and negatives is not None:
            self._check_ranked(file, found)
            logger.info("%s: column %r is left aside: pairs with a negative are ranked", file.path, found)
            return None
        return found

    def _check_ranked(self, file: Rows, column: str) -> None:
        """Refuse pairs that do not belong together where every pair is learnt as one that does.

        Raises:
            InputError: naming them.
        """
        problems = Problems()
        for row in file:
            try:
                label = pair_label(row.values.get(column))
            except InputError:
                continue  # no label of this kind: a class, which ranking does not ask for
            if label == 0:
                problems.add(
                    f"{file.where(row, column)}: the label 0 says that the texts do not belong together, but pairs "
                    "with a negative are ranked; leave such rows out, or take every row with --pair-loss ranking"
                )
        problems.raise_if_any()

    def least_batch_size(self) -> int:
        """Two where a pair finds its negatives among the other pairs of its batch."""
        return 2 if self.pair_loss == "ranking" else 1

    def example(self, item: Any) -> Pair:
        """From a string, or a pair of strings to compare."""
        return Pair(*text_item(item))

    def fit(self, examples: Sequence[Pair], *, path: Path, settings: Mapping[str, Any]) -> Self:
        """The loss that the labels ask for, and the pooling that the encoder's folder names, unless an option does.

        Raises:
            InputError: labels that do not fit the loss; modules that training would drop.
        """
        pooling = pooling_of(settings.get(SENTENCE_MODULES) or [], self.options.pooling)
        try:
            loss, highest = loss_for([example.label for example in examples], self.options.pair_loss)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if loss == "ranking" and len(examples) < 2:
            raise InputError(
                f"{path}: holds {counted(len(examples), 'pair')}; each is told from the others, so two are needed"
            )
        if loss == "contrastive":
            logger.info("%s: labels 0 and 1: pairs labelled 0 are pushed apart (--pair-loss contrastive)", path)
        elif loss == "cosine":
            logger.info("%s: scores up to %g: cosines learn them, divided by that (--pair-loss cosine)", path, highest)
        options = dataclasses.replace(self.options, pooling=pooling)
        return dataclasses.replace(self, pair_loss=loss, highest=highest, options=options)

    def problems(self, examples: Sequence[Pair], path: Path) -> list[str]:
        """Labels of another kind than the training data's."""
        if self.pair_loss == "ranking":
            apart = sum(example.label not in (None, 1) for example in examples)
            if apart:
                logger.warning("%s: %s labelled otherwise than 1; this model's figures take every row for a "
                               "pair that belongs together", path, counted(apart, "pair is", "pairs are"))  # fmt: skip
            return []
        least = 0.0 if self.pair_loss == "contrastive" else -self.highest
        found = []
        for example in examples:
            if example.label is None or not least <= example.label <= self.highest:
                shown = "no label" if example.label is None else f"label {example.label:g}"
                found.append(f"{path}, line {example.place}: {shown}; the training data's go up to {self.highest:g}")
        return found

    def featurize(
        self, examples: Sequence[Pair], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] text [SEP]` for every text; the texts of a pair go into one batch, in order.

        targets: for every sequence `place`, which text it is of, counted through all pairs; `role`, 0 for a first text,
        1 for a second, 2 for a negative; `text`, equal for equal texts; `label` where labels are learnt, from 0 to 1.
        extras: the same.
        """
        texts = [text for one in examples for text in one.texts]
        counts = [len(one.texts) for one in examples]
        numbers: dict[str, int] = {}
        columns = {
            "place": np.arange(len(texts), dtype=np.int32),
            "role": np.array([role for count in counts for role in range(count)], np.int32),
            "text": np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32),
        }
        if self.pair_loss != "ranking" and purpose != "predict":
            columns["label"] = np.repeat(self._labels(examples), counts).astype(np.float32)
        plain = text_features(
            [Pair(text) for text in texts], tokenizer, max_seq_length, columns, self.options.long_text
        )
        index = np.repeat(np.arange(len(examples)), counts).astype(np.int32)[plain.example_index]
        targets = {} if purpose == "predict" else plain.targets
        return dataclasses.replace(plain, example_index=index, targets=targets, extras=plain.targets, together=True)

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """Pooling, whose only weights are those of a mix of layers."""
        from bertune.tasks.shared.heads import PoolingHead
        from bertune.tasks.shared.layers import LayerMix

        layers = self.options.layers
        pooling = "mean" if self.options.pooling == "auto" else self.options.pooling
        return PoolingHead(pooling, mix=None if layers == "last" else LayerMix(config, layers))

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """What `pair_loss` names: cross-entropy of finding one's own second text among the batch's, or by labels.

        Texts equal to one's own second are not negatives. Shape: logits (sequences, width); targets (sequences,) each.
        """
        from bertune.tasks.shared.heads import contrastive, in_batch_cross_entropy, pair_cosines, squared_error

        if self.pair_loss != "ranking":
            cosines, labels = pair_cosines(logits, targets)
            if self.pair_loss == "cosine":
                return squared_error(cosines, labels)
            return contrastive(cosines, labels, MARGIN if self.options.margin is None else self.options.margin)
        return in_batch_cross_entropy(logits, targets, self.options.scale)

    def _labels(self, examples: Sequence[Pair]) -> npt.NDArray[np.float64]:
        """Labels divided by the highest. Shape: (pairs,)."""
        return np.array([example.label for example in examples], np.float64) / self.highest

    def _vectors(self, logits: Logits, features: Features) -> tuple[npt.NDArray[np.float32], Columns]:
        """A vector of length 1 for every text, and the columns of `extras` for it. Shape: (texts, hidden)."""
        place = np.asarray(features.extras["place"])
        _, starts, owner = np.unique(place, return_index=True, return_inverse=True)
        vectors = mean_of(np.stack(list(logits)), owner, len(starts))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        columns = {name: np.asarray(column)[starts] for name, column in features.extras.items()}
        return vectors / np.maximum(lengths, 1e-12), columns | {"example": features.example_index[starts]}

    def decode(self, logits: Logits, features: Features, examples: Sequence[Pair]) -> list[Prediction]:
        """`{"embedding": [numbers]}` for a text; for a pair `{"score": cosine, "embeddings": [[…], […]]}`."""
        if not examples:
            return []
        predictions: list[Prediction] = []
        every, columns = self._vectors(logits, features)
        for rows in np.split(every, np.searchsorted(columns["example"], np.arange(1, len(examples)))):
            vectors = [[round(float(x), 6) for x in row] for row in rows]
            if len(rows) == 1:
                predictions.append({"embedding": vectors[0]})
            else:
                predictions.append({"score": round(float(rows[0] @ rows[1]), 6), "embeddings": vectors})
        return predictions

    def summary(self, example: Pair, prediction: Prediction) -> tuple[str, str, str]:
        """Text, the vector's beginning or the pair's cosine."""
        if "score" in prediction:
            return shown(example), "", f"{prediction['score']:.3f}"
        return example.text, " ".join(f"{x:.3f}" for x in prediction["embedding"][:6]) + " …", ""

    def row_metrics(self, examples: Sequence[Pair], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metrics, row by row; what is searched stays the same however the rows are weighted."""
        vectors = [np.array(prediction["embeddings"], np.float32) for prediction in predictions]
        numbers: dict[str, int] = {}
        texts = [[numbers.setdefault(text, len(numbers)) for text in example.texts[1:]] for example in examples]
        order = [0, *range(1, max(map(len, texts)))]  # seconds of all rows, then their negatives
        pool = np.stack([rows[1 + i] for i in order for rows in vectors if len(rows) > 1 + i])
        text = np.array([some[i] for i in order for some in texts if len(some) > i])
        ranks = ranks_of(np.stack([rows[0] for rows in vectors]), pool, text)
        if self.pair_loss == "ranking":
            return _rank_rows(ranks)
        cosines = np.array([rows[0] @ rows[1] for rows in vectors], np.float64)
        return labelled_rows(self._labels(examples), cosines, ranks)

    def feature_key(self) -> Mapping[str, Any]:
        """All but pooling and the loss."""
        return self._described_without("scale", "layers", "pooling", "margin")

    def metrics(self, logits: Logits, features: Features, examples: Sequence[Pair]) -> dict[str, float]:
        """Search for every first text's own among all second texts and negatives.

        Found first (accuracy), among the first ten, mean 1/rank; with labels of those that belong together alone, and
        how well cosines follow the labels (pearson, spearman, rmse, mae).
        """
        vectors, columns = self._vectors(logits, features)
        first, second, negative = (columns["role"] == role for role in range(3))
        candidates = np.concatenate([vectors[second], vectors[negative]])
        text = np.concatenate([columns["text"][second], columns["text"][negative]])
        ranks = ranks_of(vectors[first], candidates, text)
        if self.pair_loss == "ranking":
            return _rank_rows(ranks).metrics()
        cosines = (vectors[first].astype(np.float64) * vectors[second]).sum(1)
        return labelled_rows(self._labels(examples), cosines, ranks).metrics()

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[Pair]) -> Mapping[str, Any]:
        """Histograms of the cosines of pairs that belong together, and of those that do not.

        Without labels every row is a pair that belongs together, and a row's first text and another row's second one
        that does not.
        """
        vectors, columns = self._vectors(logits, features)
        first, second, negative = (vectors[columns["role"] == role].astype(np.float64) for role in range(3))
        own = (first * second).sum(1)
        if self.pair_loss != "ranking":
            together = self._labels(examples) >= 0.5
            return {"similarities": histogram({"together": own[together], "apart": own[~together]})}
        text = columns["text"][columns["role"] == 1]
        shift = np.roll(np.arange(len(first)), 1)
        others = (first * second[shift]).sum(1)[text != text[shift]]
        groups = {"together": own, "apart": others}
        if len(negative):
            rows = columns["example"][columns["role"] == 2]
            groups["hard negatives"] = (first[rows] * negative).sum(1)
        return {"similarities": histogram(groups)}

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint is of embeddings over several layers; over the last one a head has no weights."""
        return is_for(settings, "Embedding")

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModel`; of the last layer also the files that sentence-transformers looks for."""
        if self.options.layers != "last":
            names = [Rename(name, (f"head.{name}",)) for name in mix_names(self.options.layers)]
            return HuggingFaceHead("Model", names, {KIND: "Embedding"})
        kind = "sentence_transformers.models"
        modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        pooling = {f"pooling_mode_{name}": False for name in ("max_tokens", "mean_sqrt_len_tokens")}
        pooling |= {
            "pooling_mode_cls_token": self.options.pooling == "cls",
            "pooling_mode_mean_tokens": self.options.pooling != "cls",
        }
        listed = [
            {"idx": i, "name": str(i), "path": path, "type": f"{kind}.{name}"} for i, (path, name) in enumerate(modules)
        ]

        def files(config: EncoderConfig, max_seq_length: int) -> Mapping[str, Any]:
            return {
                "modules.json": listed,
                "1_Pooling/config.json": {"word_embedding_dimension": config.hidden_size, **pooling},
                "sentence_bert_config.json": {"max_seq_length": max_seq_length, "do_lower_case": False},
                "config_sentence_transformers.json": {"__version__": {}, "similarity_fn_name": "cosine"},
            }

        return HuggingFaceHead("Model", [], files=files)


def _rank_rows(ranks: npt.NDArray[np.int64]) -> RowMetrics:
    """Metrics of a search, from the place of each row's own text in it. Shape: (rows,)."""
    found = RowMetrics.means(correct=ranks == 1, accuracy=ranks == 1, recall_at_10=ranks <= 10, mrr=1 / ranks)
    return dataclasses.replace(found, independent=False)


def ranks_of(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], text: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """The rank of each first vector's own second vector, from 1; other places of the same text do not count.

    Shape: (pairs, hidden); (candidates, hidden) and (candidates,), the pairs' own first, in their order.
    """
    found = []
    for begin in range(0, len(first), 1024):
        own = np.arange(begin, min(begin + 1024, len(first)))
        cosines = first[own] @ second.T
        better = cosines > cosines[np.arange(len(own)), own][:, None]
        better &= text[own][:, None] != text[None, :]
        found.append(1 + better.sum(1))
    return np.concatenate(found)
