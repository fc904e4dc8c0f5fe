"""An encoder that is called on texts: word pieces, vectors of tokens, layers and pooled outputs, in NumPy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.batching import sorted_batches
from bertune.data.in_memory import as_items
from bertune.data.pairs import join_pair
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError
from bertune.features import Features
from bertune.network import pack_with_companion
from bertune.option_values import whole_number
from bertune.tokenization.tokenizer import Tokenizer

MAX_TOKENS = 4096
"""Tokens of a batch."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EncodedTexts:
    """The encoder's output for texts, in their order.

    tokens: the word pieces of each text, special tokens included.
    sequence_output: a vector for every token of each text. Shape: (tokens, hidden) each.
    pooled_output: a vector for each text. Shape: (texts, hidden).
    layers: where asked for, the embeddings and every layer's output. Shape: (layers + 1, tokens, hidden) each.
    truncated: whether a text was longer than the encoder reads. Shape: (texts,), bool.
    """

    tokens: list[list[str]]
    sequence_output: list[Floats]
    pooled_output: Floats
    layers: list[Floats]
    truncated: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


class TextEncoder(Encoder):
    """A pretrained encoder with its tokenizer. It is called on tensors, as every `Encoder`, or on texts."""

    def __init__(self, config: EncoderConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config)
        self.tokenizer = tokenizer

    def __call__(self, inputs: Any, *arguments: Any, **options: Any) -> Any:
        """`encode` for texts; for token ids the module itself, as `Encoder.forward` documents it."""
        if isinstance(inputs, torch.Tensor):
            return super().__call__(inputs, *arguments, **options)
        return self.encode(inputs, *arguments, **options)

    def encode(
        self,
        texts: Iterable[str | Sequence[str]],
        *,
        layers: bool = False,
        max_seq_length: int | None = None,
        batch_size: int = 32,
    ) -> EncodedTexts:
        """Run the encoder on texts, without dropout and without gradients.

        Args:
            texts: strings, or pairs of strings `(text, pair)`; a list of strings is several texts, never a pair.
            layers: also return the embeddings and the output of every layer.
            max_seq_length: longest sequence in tokens, special tokens included; None: the longest that the encoder
                takes. Longer texts are truncated as google-research/bert truncates them.
            batch_size: number of texts that are computed together, at most.

        Raises:
            InputError: an item that is neither a text nor a pair, or a `max_seq_length` that the encoder cannot take.
        """
        most = self.config.max_position_embeddings
        limit = most if max_seq_length is None else whole_number("encoder: max_seq_length", max_seq_length, 3)
        if limit > most:
            raise InputError(f"encoder: max_seq_length {limit}; this encoder takes at most {most}")
        batch_size = whole_number("encoder: batch_size", batch_size)
        pairs = [_text_and_pair(item, i) for i, item in enumerate(as_items(texts, "encoder", "text"))]
        first = self.tokenizer.encode([text for text, _ in pairs])
        second = self.tokenizer.encode([pair or "" for _, pair in pairs])
        ids, segments, cut = join_pair(first, second, self.tokenizer.special, limit)
        features = Features(ids, segments, np.arange(len(pairs), dtype=np.int32), cut=cut)
        was_training = self.training
        self.eval()
        try:
            return self._run(features, keep_layers=layers, batch_size=batch_size)
        finally:
            self.train(was_training)

    def _run(self, features: Features, *, keep_layers: bool, batch_size: int) -> EncodedTexts:
        count, device = len(features), self.pooler.weight.device
        nothing = np.zeros(0, np.float32)
        sequences, layers = [nothing] * count, [nothing] * (count if keep_layers else 0)
        pooled = np.zeros((count, self.config.hidden_size), np.float32)
        lengths = features.input_ids.lengths
        for units in sorted_batches(lengths, max_tokens=MAX_TOKENS, max_sequences=batch_size):
            batch = pack_with_companion(features, units)
            on = batch.to(device)
            with torch.inference_mode(), fast_float32(device):
                output = self(on.input_ids, on.segment_ids, on.positions, on.layout, keep_layers=keep_layers)
            pooled[batch.rows] = output.pooled_output[: len(batch.rows)].float().cpu().numpy()
            tokens = output.sequence_output.float().cpu().numpy()
            kept = [layer.float().cpu().numpy() for layer in output.layers]
            for row, start in zip(batch.rows, batch.layout.starts.tolist(), strict=False):  # a companion has no row
                span = slice(start, start + lengths[row])
                sequences[row] = tokens[span].copy()
                if keep_layers:
                    layers[row] = np.stack([layer[span] for layer in kept])
        words = [self.tokenizer.tokens(features.input_ids[i]) for i in range(count)]
        return EncodedTexts(words, sequences, pooled, layers, features.cut)


class OpenedEncoder(NamedTuple):
    """What `bertune.open_encoder` returns: `encoder, tokenizer`, or used as one object that is called on texts."""

    encoder: TextEncoder
    tokenizer: Tokenizer

    def __call__(self, texts: Iterable[str | Sequence[str]], **options: Any) -> EncodedTexts:
        """Run the encoder on texts: the options are those of `TextEncoder.encode`."""
        return self.encoder.encode(texts, **options)

    @property
    def config(self) -> EncoderConfig:
        """The encoder's sizes and family."""
        return self.encoder.config


def _text_and_pair(item: Any, index: int) -> tuple[str, str | None]:
    if isinstance(item, str):
        return item, None
    if isinstance(item, tuple | list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        return item[0], item[1]
    raise InputError(
        f"encoder: item {index} is {str(item)[:60]!r}, a {type(item).__name__}; expected a text or a pair (text, text)"
    )
