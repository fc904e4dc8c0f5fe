"""How far a student's logits are from the teacher's, by what a task's logits stand for (`BaseTask.logit_kind`).

Classes, tags, spans and choices: the Kullback-Leibler divergence from teacher to student at a temperature T, times T²,
so that gradients keep their size (Hinton et al., 2015). Independent labels: the same of each label's two outcomes.
Numbers: the squared error. Vectors: one minus the cosine.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.network import Batch
from bertune.tasks.shared.divergence import binary_divergence, divergence, padded_groups
from bertune.tasks.shared.heads import mean_of_runs

TEACHER, COUNTED, QUESTION, CHOICE, KNOWN = "teacher logits", "counted", "question of", "choice of", "known"
"""Targets of a batch that distillation adds: logits as the student's; tokens that are answered; owners of sequences."""


def classes(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Shape: (sequences, classes) both → (sequences,), and each term's sequence."""
    return divergence(student, teacher, temperature), torch.arange(len(student), device=student.device)


def labels(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Shape: (sequences, labels) both → (sequences,), the mean over labels, and each term's sequence."""
    return binary_divergence(student, teacher, temperature), torch.arange(len(student), device=student.device)


def number(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Shape: (sequences, 1) both → (sequences,), and each term's sequence."""
    return (student - teacher).square()[:, 0], torch.arange(len(student), device=student.device)


def vector(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    """Shape: (sequences, width) both → (sequences,), and each term's sequence."""
    return 1 - F.cosine_similarity(student, teacher, dim=1), torch.arange(len(student), device=student.device)


def tags(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Shape: (tokens, tags) both → (answered tokens,), and each one's sequence."""
    at = torch.nonzero(batch.targets[COUNTED] > 0)[:, 0]
    return divergence(student[at], teacher[at], temperature), _sequence_of_tokens(batch)[at]


def span(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Shape: (tokens, 2) both → (sequences,), the mean of start and end, and each term's sequence."""
    ours, theirs = (batch.layout.to_padded(logits, fill=-1e4) for logits in (student, teacher))
    terms = divergence(ours.transpose(1, 2), theirs.transpose(1, 2), temperature).mean(1)
    return terms, torch.arange(len(terms), device=student.device)


def choices(student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> tuple[Tensor, Tensor]:
    """Shape: (sequences, 1) both → (questions,), and the first sequence of each."""
    first, ours = mean_of_runs(student[:, 0], batch.targets[CHOICE])
    _, theirs = mean_of_runs(teacher[:, 0], batch.targets[CHOICE])
    _, group, sizes = torch.unique_consecutive(batch.targets[QUESTION][first], return_inverse=True, return_counts=True)
    ours, theirs = (padded_groups(scores, group, sizes) for scores in (ours, theirs))
    return divergence(ours, theirs, temperature), first[sizes.cumsum(0) - sizes]


def _sequence_of_tokens(batch: Batch) -> Tensor:
    """Which sequence every token belongs to; tokens of none to the last. Shape: (tokens,)."""
    starts = (batch.positions == 0).long()
    return (starts.cumsum(0) - 1).clamp(max=len(batch.rows) - 1)


SoftLoss = Callable[[Tensor, Tensor, Batch, float], tuple[Tensor, Tensor]]
SOFT_LOSSES: Mapping[str, SoftLoss] = {
    "classes": classes, "labels": labels, "number": number, "vector": vector, "tags": tags, "span": span,
    "choices": choices,
}  # fmt: skip
"""By `logit_kind`."""
ON_TOKENS = frozenset({"tags", "span"})
"""Kinds whose logits belong to tokens: teacher and student must read the same pieces."""
