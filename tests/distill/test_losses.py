"""Distances between a student's and a teacher's logits, against their definitions, and how labels are mixed in."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bertune.distill.batches import DistillationBatches, distillation_loss
from bertune.distill.losses import SOFT_LOSSES, TEACHER
from bertune.features import Features, Ragged

T = 3.0


def features(lengths: list[int], **extras: object) -> Features:
    ids = Ragged.from_lists([[2, *range(5, 3 + n), 3] for n in lengths])
    zeros = Ragged.from_lists([[0] * n for n in lengths])
    index = np.asarray(extras.pop("index", np.arange(len(lengths))), np.int32)
    return Features(ids, zeros, index, extras=extras, together=bool(extras.pop("together", False)))  # type: ignore[arg-type]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def kl(teacher: torch.Tensor, student: torch.Tensor) -> float:
    p, q = torch.softmax(teacher / T, 0), torch.softmax(student / T, 0)
    return float((p * (p / q).log()).sum()) * T * T


def test_classes_are_the_divergence_times_the_squared_temperature() -> None:
    made = DistillationBatches("classes", features([4, 5, 6]), list(random(3, 4, seed=1).numpy()), {})
    batch = made.make(np.array([2, 0]), 0)
    student = random(2, 4)
    terms, owner = SOFT_LOSSES["classes"](student, batch.targets[TEACHER], batch, T)
    teacher = random(3, 4, seed=1)[[2, 0]]
    assert terms.tolist() == pytest.approx([kl(t, s) for t, s in zip(teacher, student, strict=True)], rel=1e-4)
    assert owner.tolist() == [0, 1]


@pytest.mark.parametrize("kind", ["classes", "labels", "number", "vector"])
def test_a_student_like_its_teacher_loses_nothing(kind: str) -> None:
    logits = random(3, 1 if kind == "number" else 4)
    made = DistillationBatches(kind, features([4, 5, 6]), list(logits.numpy()), {})
    batch = made.make(np.arange(3), 0)
    terms, _ = SOFT_LOSSES[kind](logits, batch.targets[TEACHER], batch, T)
    assert terms.abs().max() < 1e-5
    other, _ = SOFT_LOSSES[kind](logits.roll(1, 0), batch.targets[TEACHER], batch, T)
    assert other.mean() > 1e-2


def test_tags_count_answered_tokens_alone_and_know_their_sequence() -> None:
    lengths = [4, 6, 3]
    word = Ragged.from_lists([[-1, 0, 1, -1], [-1, 0, -1, 1, 2, -1], [-1, 0, -1]])
    teacher = [random(n, 5, seed=n).numpy() for n in lengths]
    made = DistillationBatches("tags", features(lengths, word=word), teacher, {})
    batch = made.make(np.array([1, 2, 0]), 0)
    student = random(len(batch.input_ids), 5, seed=9)
    terms, owner = SOFT_LOSSES["tags"](student, batch.targets[TEACHER], batch, T)
    assert owner.tolist() == [0, 0, 0, 1, 2, 2]
    flat = torch.from_numpy(np.concatenate([teacher[1], teacher[2], teacher[0]]))
    places = [1, 3, 4, 7, 10, 11]
    assert terms.tolist() == pytest.approx([kl(flat[i], student[i]) for i in places], rel=1e-4)


def test_spans_compare_start_and_end_within_a_window() -> None:
    lengths = [4, 6]
    teacher = [random(n, 2, seed=n).numpy() for n in lengths]
    made = DistillationBatches("span", features(lengths), teacher, {})
    batch = made.make(np.arange(2), 0)
    student = random(len(batch.input_ids), 2, seed=9)
    terms, _ = SOFT_LOSSES["span"](student, batch.targets[TEACHER], batch, T)
    expected = []
    for start, end, own in ((0, 4, teacher[0]), (4, 10, teacher[1])):
        own_t = torch.from_numpy(own)
        expected.append(np.mean([kl(own_t[:, i], student[start:end, i]) for i in range(2)]))
    assert terms.tolist() == pytest.approx(expected, rel=1e-4)


def test_choices_compare_within_a_question_of_any_size() -> None:
    index = [0, 0, 1, 1, 1]
    teacher = list(random(5, 1, seed=3).numpy())
    made = DistillationBatches(
        "choices", features([4] * 5, index=index, choice=np.arange(5), together=True), teacher, {}
    )
    batch = made.make(np.array([0, 1]), 0)
    student = random(5, 1, seed=4)
    terms, owner = SOFT_LOSSES["choices"](student, batch.targets[TEACHER], batch, T)
    whole = random(5, 1, seed=3)[:, 0]
    parts = (slice(0, 2), slice(2, 5))
    assert terms.tolist() == pytest.approx([kl(whole[p], student[p, 0]) for p in parts], rel=1e-4)
    assert owner.tolist() == [0, 2]


def test_labels_are_mixed_in_where_they_are_known() -> None:
    """Two labelled rows and one without: the label's share counts for the two alone."""
    teacher, student = random(3, 4, seed=1), random(3, 4)
    made = DistillationBatches(
        "classes", features([4, 5, 6]), list(teacher.numpy()), {"label": np.array([1, 3], np.int32)}
    )
    batch = made.make(np.arange(3), 0)
    assert batch.targets["label"].tolist() == [1, 3, -100]

    def hard(logits, targets, batch):  # type: ignore[no-untyped-def]
        return F.cross_entropy(logits, targets["label"], reduction="sum"), torch.tensor(len(logits))

    total, count = distillation_loss("classes", hard, ["label"], 0.25, T)(student, batch)
    soft = [kl(t, s) for t, s in zip(teacher, student, strict=True)]
    labels = F.cross_entropy(student[:2], torch.tensor([1, 3]), reduction="none").tolist()
    expected = 0.25 * (soft[0] + soft[1]) + soft[2] + 0.75 * sum(labels)
    assert float(total) == pytest.approx(expected, rel=1e-4)
    assert int(count) == 3
