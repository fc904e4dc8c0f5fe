"""The heads of pre-training: masked words over the encoder's own word vectors, and next sentence."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.checkpoints import google
from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.initialisation import initialise
from bertune.encoder.layout import Layout
from bertune.encoder.modules import LayerNorm, Linear, activate
from bertune.features import IGNORED
from bertune.network import Batch
from bertune.tasks.masking.forms import masked_form
from bertune.tasks.masking.names import MASKED_LM, NEXT_SENTENCE
from bertune.tasks.masking.scores import LOG_PROBABILITY, NEXT
from bertune.tasks.options import CANDIDATES

_WIDTH = 4


def head_names(dialect: str) -> tuple[list[Rename], list[Rename]]:
    """Names of the masked-word head's tensors and of next sentence's in a checkpoint's dialect."""
    if dialect == "Hugging Face":
        return MASKED_LM, NEXT_SENTENCE
    return google.HEADS["masked-lm"], google.HEADS["next-sentence"]


class MaskedWords(nn.Module):
    """Dense, activation, LayerNorm, then the product with every word's vector and a bias a word. In float32.

    Some families leave parts out; see `MaskedForm`.
    """

    transform: Linear
    """Absent (None) where the family has none; annotated for those that have one."""
    norm: LayerNorm
    """Likewise."""
    output_bias: nn.Parameter
    """A number for every word. Shape: (vocabulary,). Likewise."""
    table: nn.Parameter
    """The words' vectors, where they are not the encoder's. Shape: (vocabulary, width). Likewise."""

    def __init__(self, config: EncoderConfig, *, own_vectors: bool = False) -> None:
        super().__init__()
        form, width = masked_form(config), config.embedding_size or config.hidden_size
        self.register_module("transform", Linear(config.hidden_size, width) if form.transform else None)
        self.register_module("norm", LayerNorm(width, config.layer_norm_eps) if form.transform else None)
        self.register_parameter("output_bias", nn.Parameter(torch.zeros(config.vocab_size)) if form.bias else None)
        self.register_parameter("table", nn.Parameter(torch.empty(config.vocab_size, width)) if own_vectors else None)
        self.has_transform, self.has_bias, self.own_vectors = form.transform, form.bias, own_vectors
        self.activation = form.activation or config.hidden_act

    def forward(self, x: Tensor, table: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Logits of every word. Shape: (masks, hidden), table (vocabulary, hidden) → (masks, vocabulary), float32.

        dtype: of the product with the table; its sums are in float32 whatever it is.
        """
        x = x.float()
        if self.has_transform:
            x = self.norm(activate(self.transform(x), self.activation))
        words = self.table if self.own_vectors else table
        logits = F.linear(x.to(dtype), words.to(dtype)).float()
        return logits + self.output_bias if self.has_bias else logits


class PretrainingHead(nn.Module):
    """Both heads. Only masked positions meet the vocabulary.

    The batch's targets say what is asked: `labels`, the true word of masked tokens and IGNORED elsewhere; or `asked`,
    likewise, for the most probable words in prediction. Shape: (tokens,).
    """

    def __init__(self, config: EncoderConfig, *, next_sentence: bool, own_vectors: bool = False) -> None:
        super().__init__()
        self.masked_lm = MaskedWords(config, own_vectors=own_vectors)
        self.next_sentence = Linear(config.hidden_size, 2) if next_sentence else None
        initialise(self, config.initializer_range)
        if own_vectors:
            nn.init.trunc_normal_(self.masked_lm.table, std=config.initializer_range)

    def with_embeddings(self, output: EncoderOutput, batch: Batch, table: Tensor) -> Tensor:
        """What the columns above say, zero elsewhere. Shape: (tokens, 4); for `asked`: (tokens, 2 * CANDIDATES)."""
        asking = "asked" in batch.targets
        marks = batch.targets["asked" if asking else "labels"]
        rows = (marks != IGNORED).nonzero().squeeze(1)
        # Training may round the products as the encoder's own; losses that are reported may not.
        tokens = output.token_output
        logits = self.masked_lm(tokens[rows], table, tokens.dtype if self.training else torch.float32)
        if asking:
            return _scattered(most_probable(logits), rows, len(marks))
        label = marks[rows]
        log_prob = -F.cross_entropy(logits, label, reduction="none")
        correct = torch.zeros_like(log_prob) if self.training else (logits.argmax(1) == label).float()
        result = _scattered(F.pad(torch.stack([log_prob, correct], 1), (0, 2)), rows, len(marks))
        if self.next_sentence is not None:
            scores = self.next_sentence(output.pooled_output.float())
            result = result + _scattered(F.pad(scores, (2, 0)), batch.layout.starts, len(marks))
        return result


def _scattered(values: Tensor, rows: Tensor, total: int) -> Tensor:
    """`values` at `rows` of the token axis, zeros elsewhere. Shape: (rows, width) → (total, width)."""
    return values.new_zeros(total, values.shape[1]).index_put((rows,), values)


def most_probable(logits: Tensor) -> Tensor:
    """Ids of the best words, best first, and their probabilities. Shape: (masks, vocabulary) → (masks, 2 * k)."""
    best, ids = logits.softmax(1).topk(min(CANDIDATES, logits.shape[1]), dim=1)
    padding = (0, CANDIDATES - best.shape[1])
    return torch.cat([F.pad(ids.float(), padding), F.pad(best, padding)], 1)


def pretraining_loss(logits: Tensor, targets: Mapping[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
    """Mean over masked words plus mean over sequences, times the number of masked words, and that number.

    As run_pretraining.py adds them, but for its 1e-5 in the first denominator.

    Shape: logits (tokens, 4); targets labels (tokens,), next_sentence (sequences,).
    """
    count = (targets["labels"] != IGNORED).sum().clamp(min=1)
    loss = -logits[:, LOG_PROBABILITY].sum()
    if "next_sentence" in targets:
        scores = logits[layout.starts, NEXT]
        loss = loss + count * F.cross_entropy(scores, targets["next_sentence"])
    return loss, count
