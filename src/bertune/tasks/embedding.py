"""Sentence embeddings: one vector for a text, trained on pairs that belong together, for search and clustering.

Source of the loss: Henderson et al., 2017 ("Efficient natural language response suggestion"), the multiple negatives
ranking loss of sentence-transformers, whose folder layout is written too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.data.features import Features, join_pair
from bertune.data.rows import open_rows
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.options import option
from bertune.tasks.defaults import complete
from bertune.tasks.task import Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.text_classification import TextColumns, TextExample, examples_of, find_columns
from bertune.tasks.texts import shown, text_item
from bertune.tokenization import Tokenizer

DEFAULTS = Defaults(batch_size=32, learning_rate=2e-5, epochs=1.0)
POOLINGS = ("mean", "cls")


class PoolingHead(nn.Module):
    """The mean of a sequence's token vectors, or its first, of length 1 if asked for. It has no weights."""

    def __init__(self, pooling: str, *, normalize: bool = True) -> None:
        super().__init__()
        self.pooling, self.normalize = pooling, normalize

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (sequences, hidden), float32."""
        tokens = output.sequence_output.float()
        if self.pooling == "cls":
            pooled = tokens[layout.starts]
        else:
            pooled = layout.to_padded(tokens).sum(1) / layout.lengths[:, None].to(tokens.dtype)
        return F.normalize(pooled, dim=1) if self.normalize else pooled


@dataclass(frozen=True)
class EmbeddingOptions:
    """Columns of a table of pairs, pooling, and the loss's temperature."""

    text_column: str | None = option(None, help="column of the first text (a query)")
    pair_column: str | None = option(None, help="column of the text that belongs to it (a passage that answers)")
    pooling: str = option("mean", help="how tokens become one vector", choices=POOLINGS)
    scale: float = option(20.0, help="factor on cosines before the softmax over the batch")


@complete
@dataclass(frozen=True)
class Embedding:
    """Vectors of length 1; of a batch's second texts each first text must find its own."""

    Options: ClassVar[type[Any]] = EmbeddingOptions

    name: str = "embedding"
    options: EmbeddingOptions = EmbeddingOptions()
    metric: str = "accuracy"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[TextExample]:
        """Pairs of texts; to predict single texts too. A column of labels, if there is one, is left aside."""
        file = open_rows(path)
        columns = find_columns(file, TextColumns(self.options.text_column, self.options.pair_column), labelled=False)
        if labelled and columns[1] is None:
            raise InputError(f"{path}: only one column of text; name the second with --pair-column")
        for example in examples_of(file, (columns[0], columns[1], None), labelled=False):
            if labelled and not (example.text.strip() and (example.pair or "").strip()):
                raise InputError(f"{file.where(example.place)}: an empty text; a pair needs both")
            yield example

    def example(self, item: Any) -> TextExample:
        """From a string, or a pair of strings to compare."""
        return TextExample(*text_item(item))

    def learn(self, examples: Sequence[TextExample], *, path: Path, settings: Mapping[str, Any]) -> "Embedding":  # noqa: ARG002
        """Nothing, but that one pair has nothing to be told from."""
        if len(examples) < 2:
            raise InputError(f"{path}: holds {len(examples)} pair; each is told from the others, so two are needed")
        return self

    def featurize(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] text [SEP]` for every text; both texts of a pair go into one batch, the first before the second."""
        texts = [text for one in examples for text in ((one.text,) if one.pair is None else (one.text, one.pair))]
        counts = [1 if one.pair is None else 2 for one in examples]
        index = np.repeat(np.arange(len(examples)), counts).astype(np.int32)
        ids, segments, cut = join_pair(tokenizer.encode(texts), None, tokenizer.special, max_seq_length)
        targets = {}
        if purpose != "predict":
            numbers: dict[str, int] = {}
            targets["text"] = np.array([numbers.setdefault(text, len(numbers)) for text in texts], np.int32)
        return Features(ids, segments, index, targets, cut, together=True)

    def new_head(self, config: EncoderConfig) -> nn.Module:  # noqa: ARG002
        """Pooling, without weights."""
        return PoolingHead(self.options.pooling)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Cross-entropy of finding one's own second text among the batch's; equal texts are no negatives."""
        first, second = logits[0::2], logits[1::2]
        text = targets["text"][1::2]
        own = torch.arange(len(first), device=logits.device)
        same = (text[:, None] == text) & (own[:, None] != own)
        cosines = (first @ second.t()).masked_fill(same, -torch.inf) * self.options.scale
        return F.cross_entropy(cosines, own, reduction="sum"), torch.tensor(len(first))

    def decode(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> list[Prediction]:
        """`{"embedding": [numbers]}` for a text; for a pair `{"score": cosine, "embeddings": [[…], […]]}`."""
        predictions: list[Prediction] = []
        ends = np.searchsorted(features.example_index, np.arange(1, len(examples)))
        for rows in np.split(np.stack(list(logits)), ends) if examples else []:
            vectors = [[round(float(x), 6) for x in row] for row in rows]
            if len(rows) == 1:
                predictions.append({"embedding": vectors[0]})
            else:
                predictions.append({"score": round(float(rows[0] @ rows[1]), 6), "embeddings": vectors})
        return predictions

    def summary(self, example: TextExample, prediction: Prediction) -> tuple[str, str, str]:
        """Text, the vector's beginning or the pair's cosine."""
        if "score" in prediction:
            return shown(example), "", f"{prediction['score']:.3f}"
        return example.text, " ".join(f"{x:.3f}" for x in prediction["embedding"][:6]) + " …", ""

    def metrics(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> dict[str, float]:  # noqa: ARG002
        """Search for every first text's own among all second texts: found first (accuracy), in ten, mean 1/rank."""
        vectors = np.stack(list(logits))
        second = [hash(example.pair) for example in examples]
        ranks = _ranks(vectors[0::2], vectors[1::2], np.array(second))
        return {
            "accuracy": float((ranks == 1).mean()),
            "recall_at_10": float((ranks <= 10).mean()),
            "mrr": float((1 / ranks).mean()),
        }

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModel`, and the files that sentence-transformers looks for."""
        kind = "sentence_transformers.models"
        modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        pooling = {f"pooling_mode_{name}": False for name in ("max_tokens", "mean_sqrt_len_tokens")}
        pooling |= {
            "pooling_mode_cls_token": self.options.pooling == "cls",
            "pooling_mode_mean_tokens": self.options.pooling == "mean",
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


def _ranks(
    first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], text: npt.NDArray[np.integer]
) -> npt.NDArray[np.int64]:
    """The rank of each first vector's own second vector, from 1; other places of the same text do not count."""
    found = []
    for begin in range(0, len(first), 1024):
        own = np.arange(begin, min(begin + 1024, len(first)))
        cosines = first[own] @ second.T
        better = cosines > cosines[np.arange(len(own)), own][:, None]
        better &= text[own][:, None] != text[None, :]
        found.append(1 + better.sum(1))
    return np.concatenate(found)
