"""Heads that tasks share, on the last layer or on several, and the losses of what they give.

Every loss gives the sum of its terms and the number to divide it by; class weights, label smoothing and focal loss are
for uneven classes and for examples of uneven difficulty. Windows of one long text are terms of their own where the task
says nothing else.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout, linear_by_rows
from bertune.errors import InputError
from bertune.features import IGNORED
from bertune.tasks.options import FIRST_TOKEN, PAIR, FocalLossOptions
from bertune.tasks.shared.layers import LayerMix, LayersHead
from bertune.tasks.shared.pair_head import PairHead


class PooledHead(nn.Module):
    """Dropout and a linear layer on the pooled output, in float32. weight: Shape: (outputs, hidden)."""

    reads = "pooled_output"

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(0.1, of_head=True)  # google-research/bert fixes this rate in run_classifier.py
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: pooled_output (sequences, hidden) → (sequences, outputs)."""
        return linear_by_rows(self.dropout(output.pooled_output.float(), layout), self.weight, self.bias)


class TokenHead(nn.Module):
    """Dropout and a linear layer on every token, in float32. weight: Shape: (outputs, hidden)."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(config.hidden_dropout_prob, of_head=True)
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (tokens, outputs)."""
        return linear_by_rows(self.dropout(output.token_output.float(), layout), self.weight, self.bias)


def pooled_head(
    config: EncoderConfig, outputs: int, layers: str, pooling: str = FIRST_TOKEN
) -> PooledHead | LayersHead | PairHead:
    """A linear layer on the pooled output; with several layers on their first token; or a comparison of two texts.

    layers, pooling: `--layers`, `--pooling`.

    Raises:
        InputError: more layers than the encoder has; a pair head on several layers, or without segments.
    """
    if pooling == PAIR:
        if layers != "last":
            raise InputError(f"--pooling {PAIR}: reads the last layer; it does not go with --layers {layers}")
        return PairHead(config, outputs)
    return PooledHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=False)


def token_head(config: EncoderConfig, outputs: int, layers: str) -> TokenHead | LayersHead:
    """A linear layer on every token, of the last layer or of several.

    Raises:
        InputError: more layers than the encoder has.
    """
    return TokenHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=True)


class PoolingHead(nn.Module):
    """The mean of a sequence's token vectors, or its first, of length 1 if asked for; of one layer or of several."""

    def __init__(self, pooling: str, *, normalize: bool = True, mix: LayerMix | None = None) -> None:
        super().__init__()
        self.pooling, self.normalize = pooling, normalize
        self.needs_layers = mix is not None
        if mix is not None:
            self.mix = mix

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (sequences, width), float32."""
        tokens = self.mix(output) if self.needs_layers else output.sequence_output.float()
        pooled = tokens[layout.starts] if self.pooling == "cls" else layout.means(tokens)
        return F.normalize(pooled, dim=1) if self.normalize else pooled


def cross_entropy(
    logits: Tensor, target: Tensor, options: FocalLossOptions, weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy and what to divide it by: the sum of the targets' weights, as PyTorch's mean does.

    With focal loss every term is multiplied by (1 - p)^gamma, p the probability of the target (Lin et al., 2017).

    Args:
        logits: Shape: (n, classes).
        target: classes; IGNORED counts nowhere. Shape: (n,).
        options: smoothing and focus.
        weights: one for every class; none: all 1.
    """
    counted = target != IGNORED
    if not weights and not options.focal_gamma:
        loss = F.cross_entropy(
            logits, target, reduction="sum", ignore_index=IGNORED, label_smoothing=options.label_smoothing
        )
        return loss, counted.sum()
    # What counts nowhere is zeroed, not left out: for that the host would have to wait for the device to count.
    label = target.masked_fill(~counted, 0)
    by_class = _like(weights or [1.0] * logits.shape[1], logits)
    weight = by_class[label].masked_fill(~counted, 0)
    logs = F.log_softmax(logits, 1)
    own = logs.gather(1, label[:, None])[:, 0]
    terms = _smoothed(-weight * own, -(logs * by_class).mean(1), options).masked_fill(~counted, 0)
    return (terms * _focus(own, options)).sum(), weight.sum()


def _like(numbers: Sequence[float], tensor: Tensor) -> Tensor:
    """Numbers as a tensor of another's type and device; filled in there, for a copy from the host would wait.

    Shape: (numbers,).
    """
    if tensor.is_cuda:
        return torch.cat([tensor.new_full((1,), number) for number in numbers])
    return torch.tensor(numbers, dtype=tensor.dtype, device=tensor.device)


def grouped_cross_entropy(
    scores: Tensor, right: Tensor, group: Tensor, options: FocalLossOptions
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy within groups of any size, one term a group; smoothing and focus as in `cross_entropy`.

    Args:
        scores: Shape: (n,).
        right: 1 for the one right member of every group, 0 for the others. Shape: (n,).
        group: from 0, ascending. Shape: (n,).
        options: smoothing and focus.
    """
    groups = int(group[-1]) + 1
    highest = scores.new_full((groups,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    logs = shifted - _sums(shifted.exp(), group, groups).log()[group]
    own = _sums(right.to(scores.dtype) * logs, group, groups)
    spread = -_sums(logs, group, groups) / _sums(torch.ones_like(logs), group, groups)
    terms = _smoothed(-own, spread, options)
    return (terms * _focus(own, options)).sum(), torch.tensor(groups)


def binary_cross_entropy(
    logits: Tensor, target: Tensor, options: FocalLossOptions, positive_weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Sigmoid cross-entropy of every label, and the number of its terms; smoothing and focus as in `cross_entropy`.

    Args:
        logits: Shape: (n, labels).
        target: 0 or 1. Shape: (n, labels).
        options: smoothing (towards one half) and focus.
        positive_weights: how much a label's presence counts beside its absence; none: all 1.
    """
    weights = _like(positive_weights, logits) if positive_weights else None
    smooth = target * (1 - options.label_smoothing) + options.label_smoothing / 2
    terms = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none", pos_weight=weights)
    own = F.logsigmoid(torch.where(target > 0.5, logits, -logits))
    return (terms * _focus(own, options)).sum(), torch.tensor(terms.numel())


def marked(numbers: Tensor, like: Tensor) -> Tensor:
    """0 or 1 for every label, from the numbers of a row's labels and IGNORED behind them.

    Shape: numbers (n, most), like (n, labels) → (n, labels), of the latter's type.
    """
    labels = like.shape[1]
    places = torch.where(numbers < 0, labels, numbers)
    return like.new_zeros((len(like), labels + 1)).scatter_(1, places, 1.0)[:, :labels]


def mean_of_runs(values: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Values of one owner that follow each other (the windows of a text), averaged.

    Args:
        values: Shape: (n, …).
        owner: equal for the values that belong together. Shape: (n,).

    Returns: the first place of every run, and the runs' means. Shape: (runs,) and (runs, …).
    """
    _, run, sizes = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
    first = sizes.cumsum(0) - sizes
    totals = values.new_zeros((len(sizes), *values.shape[1:])).index_add(0, run, values)
    return first, totals / sizes.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)


def squared_error(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors and the number of them. Shape: (n,) each."""
    return F.mse_loss(values, target, reduction="sum"), torch.tensor(target.numel())


def in_batch_cross_entropy(logits: Tensor, targets: Mapping[str, Tensor], scale: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of finding each first text's own second text among the batch's second texts and negatives.

    Texts equal to a first text's own second one are not negatives for it.

    Args:
        logits: a vector of every sequence; windows of one text are averaged. Shape: (sequences, width).
        targets: `place`, `role` and `text`, as `Embedding.featurize` explains them. Shape: (sequences,) each.
        scale: factor on cosines before the softmax.

    Source: Henderson et al., 2017, "Efficient natural language response suggestion for Smart Reply".
    """
    starts, vectors = mean_of_runs(logits, targets["place"])
    vectors = F.normalize(vectors, dim=1)
    role, text = targets["role"][starts], targets["text"][starts]
    seconds = text[role == 1]
    found = torch.cat([seconds, text[role == 2]])
    own = torch.arange(len(seconds), device=logits.device)
    same = seconds[:, None] == found
    same[own, own] = False
    candidates = torch.cat([vectors[role == 1], vectors[role == 2]])
    cosines = (vectors[role == 0] @ candidates.t()).masked_fill(same, -torch.inf) * scale
    return F.cross_entropy(cosines, own, reduction="sum"), torch.tensor(len(own))


def contrastive(cosines: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Half the squared distance of pairs that belong together, and of how much others are nearer than the margin.

    Args:
        cosines: distances are 1 minus these. Shape: (pairs,).
        labels: 1 for pairs that belong together, else 0. Shape: (pairs,).
        margin: distance from which on other pairs are far enough apart.

    Source: Hadsell, Chopra & LeCun, 2006, as `ContrastiveLoss` of sentence-transformers has it.
    """
    distance = 1 - cosines
    terms = labels * distance.square() + (1 - labels) * F.relu(margin - distance).square()
    return 0.5 * terms.sum(), torch.tensor(len(cosines))


def pair_cosines(logits: Tensor, targets: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The cosine of every pair, and its label; windows of one text are averaged. Shape: (pairs,) each.

    Args:
        logits: a vector of every sequence. Shape: (sequences, width).
        targets: `place`, `role` and `label`, as `Embedding.featurize` explains them. Shape: (sequences,) each.
    """
    starts, vectors = mean_of_runs(logits, targets["place"])
    role = targets["role"][starts]
    first, second = (F.normalize(vectors[role == side], dim=1) for side in (0, 1))
    return (first * second).sum(1), targets["label"][starts][role == 0]


def _sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """The sum of every group. Shape: values and group (n,) → (groups,)."""
    return values.new_zeros(groups).index_add(0, group, values)


def _smoothed(terms: Tensor, spread: Tensor, options: FocalLossOptions) -> Tensor:
    """Label smoothing between the target's terms and the mean over all classes. Shape: (n,) each."""
    if not options.label_smoothing:
        return terms
    return (1 - options.label_smoothing) * terms + options.label_smoothing * spread


def _focus(own: Tensor, options: FocalLossOptions) -> Tensor | float:
    """By what focal loss multiplies terms. own: logarithms of the targets' probabilities. Shape: (n, …) → the same."""
    if not options.focal_gamma:
        return 1.0
    # The bound keeps the gradient of a power below 1 finite where the probability is 1.
    wrong = (-torch.expm1(own)).clamp(min=torch.finfo(own.dtype).tiny)
    return wrong**options.focal_gamma
