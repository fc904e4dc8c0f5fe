"""Gradients of a batch by more than one pass: R-Drop and adversarial embeddings (FGM, FreeLB).

Each pass costs the time of a plain update. A plain update computes its loss and gradients itself
(`training.loop.loop`); these replace that part where they are asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bertune.encoder.kernels.calls import new_seed
from bertune.encoder.layout import Layout, random_bits
from bertune.features import IGNORED
from bertune.network import Batch, BatchLoss, Network
from bertune.tasks.shared.divergence import binary_divergence, divergence, padded_groups
from bertune.tasks.shared.heads import mean_of_runs


class Gradients(Protocol):
    """Computes a batch's loss and adds its gradients to the weights'."""

    def __call__(self, network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
        """The sum of losses, without gradients, and the number to divide it by. Shape: () each."""
        ...


Passes = Callable[[Network, BatchLoss, Batch], tuple[Tensor, Tensor]]
"""Network, loss and batch → the sum of losses, with gradients, and the number to divide it by."""


def one_pass(network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
    """The plain loss. Returns: sum and number. Shape: () each."""
    return loss(network(batch), batch)


@dataclass(frozen=True)
class RDrop:
    """Two passes with different dropout: the mean of their losses, and alpha times how far their outputs are apart.

    The divergence of classes is (KL(p ‖ q) + KL(q ‖ p)) / 2, of numbers the squared difference; its mean over the
    batch's terms is added to the mean loss.

    alpha: weight of the divergence.
    kind: what the logits stand for (`BaseTask.logit_kind`).

    Source: Liang et al., 2021, "R-Drop: regularized dropout for neural networks", equation 4, with the factor 1/2 of
    their code on the two losses.
    """

    alpha: float
    kind: str

    def __call__(self, network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of losses, with gradients, and the number to divide it by. Shape: () each."""
        logits, others = network(batch), network(batch)
        (first, count), (second, _) = loss(logits, batch), loss(others, batch)
        apart = APART[self.kind](logits.float(), others.float(), batch)
        return (first + second) / 2 + self.alpha * count * apart.sum() / max(1, len(apart)), count


def _symmetric(one: Tensor, other: Tensor) -> Tensor:
    return (divergence(one, other) + divergence(other, one)) / 2


def _classes(one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG001
    return _symmetric(one, other)


def _labels(one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG001
    return (binary_divergence(one, other) + binary_divergence(other, one)) / 2


def _number(one: Tensor, other: Tensor, batch: Batch) -> Tensor:  # noqa: ARG001
    return (one - other).square()[:, 0]


def _tags(one: Tensor, other: Tensor, batch: Batch) -> Tensor:
    at = torch.nonzero(batch.targets["tag"] != IGNORED)[:, 0]
    return _symmetric(one[at], other[at])


def _span(one: Tensor, other: Tensor, batch: Batch) -> Tensor:
    first, second = (batch.layout.to_padded(logits, fill=-1e4).transpose(1, 2) for logits in (one, other))
    return _symmetric(first, second).mean(1)


def _choices(one: Tensor, other: Tensor, batch: Batch) -> Tensor:
    first, scores = mean_of_runs(one[:, 0], batch.targets["choice"])
    _, others = mean_of_runs(other[:, 0], batch.targets["choice"])
    _, group, sizes = torch.unique_consecutive(
        batch.targets["question"][first], return_inverse=True, return_counts=True
    )
    return _symmetric(padded_groups(scores, group, sizes), padded_groups(others, group, sizes))


APART: Mapping[str, Callable[[Tensor, Tensor, Batch], Tensor]] = {
    "classes": _classes, "labels": _labels, "number": _number, "tags": _tags, "span": _span, "choices": _choices,
}  # fmt: skip
"""How far the outputs of two passes are apart, one value a term, by `BaseTask.logit_kind`. Shape: (terms,)."""


@dataclass(frozen=True)
class BackwardOf:
    """The gradients of what some passes come to."""

    passes: Passes

    def __call__(self, network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of losses and the number to divide it by. Shape: () each."""
        value, count = self.passes(network, loss, batch)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach(), count


@dataclass(frozen=True)
class AdversarialEmbeddings:
    """The mean of a batch's loss and of its loss after a step of the word vectors that makes it worse (FGM).

    The step of a sequence is epsilon · g / ‖g‖, g the gradient of its loss by its word vectors, all its tokens jointly.

    epsilon: length of the step.
    passes: what the loss is; R-Drop's, or one pass.

    Source: Miyato, Dai & Goodfellow, 2017, "Adversarial training methods for semi-supervised text classification",
    equation 5, on vectors as they are (there they are normalised first); the mean of both losses: Goodfellow et al.,
    2015.
    """

    epsilon: float
    passes: Passes = one_pass

    def __call__(self, network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of losses and the number to divide it by. Shape: () each."""
        words = network.encoder.embeddings.word
        seen: list[Tensor] = []

        def keep(_: nn.Module, __: object, vectors: Tensor) -> Tensor:
            vectors = vectors if vectors.requires_grad else vectors.requires_grad_()  # a frozen table's have none
            vectors.retain_grad()
            seen.append(vectors)
            return vectors

        with words.register_forward_hook(keep):
            value, count = self.passes(network, loss, batch)
        (value / 2).backward()  # type: ignore[no-untyped-call]
        step = worst_step(sum_of_gradients(seen), batch.positions, self.epsilon)
        with words.register_forward_hook(lambda _, __, vectors: vectors + step):
            worse, _ = self.passes(network, loss, batch)
        (worse / 2).backward()  # type: ignore[no-untyped-call]
        return (value + worse).detach() / 2, count


_OTHER_SEED = 0x2A09E667F3BCC908
"""Changes both words of a seed: masks of seeds that differ in one bit would be correlated."""


@dataclass(frozen=True)
class FreeLB:
    """The mean of a batch's losses at several steps of its word vectors, each of which makes it worse.

    The first step is drawn at random, each further one follows from the gradient of the one before: it grows by
    1.5 · radius / steps in its direction, and is scaled back where it is longer than `radius`; all of a sequence
    jointly. The weights' gradients are those of the mean, so that no pass is lost. Dropout is the same in all passes.

    radius: greatest length of a step.  steps: passes.
    passes: what the loss is; R-Drop's, or one pass.

    Source: Zhu et al., 2020, "FreeLB: enhanced adversarial training for natural language understanding", algorithm 1
    and section 3.3, on vectors before their normalisation. There the length of a step is tuned task by task.
    """

    radius: float
    steps: int
    passes: Passes = one_pass

    def __call__(self, network: Network, loss: BatchLoss, batch: Batch) -> tuple[Tensor, Tensor]:
        """Sum of losses and the number to divide it by. Shape: () each."""
        words, device = network.encoder.embeddings.word, network.device
        seen: list[Tensor] = []
        moved: Tensor | None = None
        before = _generator(device)

        def move(_: nn.Module, __: object, vectors: Tensor) -> Tensor:
            nonlocal moved
            if moved is None:
                moved = start_in_ball(vectors, batch.positions, self.radius, batch.layout)
                _restore_generator(device, before)  # dropout draws what it would have drawn without the step
            vectors = vectors + moved.to(vectors.dtype)
            vectors = vectors if vectors.requires_grad else vectors.requires_grad_()  # a frozen table's have none
            vectors.retain_grad()
            seen.append(vectors)
            return vectors

        total = torch.zeros((), device=device)
        for step in range(self.steps):
            _restore_generator(device, before)
            seen.clear()
            with words.register_forward_hook(move):
                value, count = self.passes(network, loss, batch)
            (value / self.steps).backward()  # type: ignore[no-untyped-call]
            total = total + value.detach() / self.steps
            if step + 1 < self.steps:
                assert moved is not None
                length = 1.5 * self.radius / self.steps
                moved = moved + worst_step(sum_of_gradients(seen).float(), batch.positions, length)
                moved = within_ball(moved, batch.positions, self.radius)
        return total, count


def _generator(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _restore_generator(device: torch.device, state: Tensor) -> None:
    torch.cuda.set_rng_state(state, device) if device.type == "cuda" else torch.set_rng_state(state)


def start_in_ball(vectors: Tensor, positions: Tensor, radius: float, layout: Layout) -> Tensor:
    """A random step, uniform in every number, at most `radius` long in every sequence; by the layout's `keys`.

    Shape: vectors (tokens, width); positions (tokens,), 0 where a sequence begins → (tokens, width).
    """
    owner, width = _owners(positions), vectors.shape[1]
    lengths = torch.bincount(owner)[owner].float()
    if (starts := layout.row_masks(width)) is None:
        drawn = torch.empty(vectors.shape, device=vectors.device).uniform_(-1, 1)
    else:
        # Dropout on these vectors is hashed from the same seed and places, as the generator is put back behind this.
        drawn = random_bits(starts, width, new_seed() ^ _OTHER_SEED).float() / 2**31
    return radius * drawn / (lengths * width).sqrt()[:, None]


def within_ball(step: Tensor, positions: Tensor, radius: float) -> Tensor:
    """A step, scaled to length `radius` in the sequences where it is longer.

    Shape: step (tokens, width); positions (tokens,), 0 where a sequence begins → (tokens, width).
    """
    norms = _norms(step, positions).clamp(min=torch.finfo(step.dtype).tiny)
    return step * (radius / norms).clamp(max=1)[:, None]


def _owners(positions: Tensor) -> Tensor:
    """The number of every token's sequence."""
    return (positions == 0).long().cumsum(0) - 1


def _norms(values: Tensor, positions: Tensor) -> Tensor:
    """Of every token, the norm of all its sequence's values. Shape: (tokens, width) → (tokens,)."""
    owner, squares = _owners(positions), values.square().sum(1)
    return squares.new_zeros(len(positions)).index_add(0, owner, squares).sqrt()[owner]


def sum_of_gradients(tensors: list[Tensor]) -> Tensor:
    """Gradients of tensors of one shape, added up. Shape: (…,) each → (…,)."""
    return torch.stack([tensor.grad for tensor in tensors if tensor.grad is not None]).sum(0)


def worst_step(gradients: Tensor, positions: Tensor, epsilon: float) -> Tensor:
    """The step epsilon · g / ‖g‖ of every sequence; zero where there is no gradient.

    Shape: gradients (tokens, width); positions (tokens,), 0 where a sequence begins → (tokens, width).
    """
    norms = _norms(gradients, positions)  # tokens behind the last sequence have no gradient
    return epsilon * gradients / norms.clamp(min=torch.finfo(norms.dtype).tiny)[:, None]


def gradients_by(
    alpha: float | None, kind: str | None, epsilon: float | None, freelb: tuple[float | None, int] = (None, 1)
) -> Gradients | None:
    """What computes a batch's gradients with R-Drop, FGM and FreeLB as asked for; None: the plain update does.

    Args:
        alpha: of R-Drop; None or 0: without.
        kind: what the task's logits stand for.
        epsilon: of FGM; None or 0: without.
        freelb: radius and steps of FreeLB; no radius or 0: without.
    """
    passes: Passes = RDrop(alpha, str(kind)) if alpha else one_pass
    radius, steps = freelb
    if radius:
        return FreeLB(radius, steps, passes)
    if epsilon:
        return AdversarialEmbeddings(epsilon, passes)
    return BackwardOf(passes) if alpha else None
