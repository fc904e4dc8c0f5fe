"""Losses beside PyTorch's and those of papers; weights as said; what balance is good for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional as F

import bertune
from bertune.cli.arguments import parse
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.features import IGNORED
from bertune.tasks.options import FocalLossOptions, LossOptions
from bertune.tasks.registry import new_task
from bertune.tasks.shared.class_weights import balanced_weights, class_weights
from bertune.tasks.shared.heads import binary_cross_entropy, cross_entropy, grouped_cross_entropy, mean_of_runs
from tests.tiny import refused, train, write_encoder, write_rows

LOGITS = torch.tensor([[1.0, -0.5, 0.2], [0.1, 2.0, -1.0], [0.0, 0.3, 0.1], [3.0, -3.0, 0.0]])
TARGET = torch.tensor([0, 2, 1, IGNORED])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0)])
def test_cross_entropy_is_pytorchs(smoothing: float, weights: tuple[float, ...]) -> None:
    total, count = cross_entropy(LOGITS, TARGET, LossOptions(label_smoothing=smoothing), weights)
    by_class = torch.tensor(weights) if weights else None
    expected = F.cross_entropy(LOGITS, TARGET, weight=by_class, label_smoothing=smoothing, ignore_index=IGNORED)
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0)])
def test_focal_loss_is_that_of_its_paper(gamma: float, weights: tuple[float, ...]) -> None:
    total, count = cross_entropy(LOGITS, TARGET, LossOptions(focal_gamma=gamma), weights)
    p = torch.softmax(LOGITS, 1)[torch.arange(3), TARGET[:3]]
    alpha = torch.tensor(weights or (1.0, 1.0, 1.0))[TARGET[:3]]
    assert total.item() == pytest.approx((-alpha * (1 - p) ** gamma * p.log()).sum().item(), rel=1e-5)
    assert float(count) == float(alpha.sum())


def test_binary_losses() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    total, count = binary_cross_entropy(LOGITS[:2], target, LossOptions())
    assert (total / count).item() == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS[:2], target).item())
    weights = (2.0, 1.0, 0.5)
    total, count = binary_cross_entropy(LOGITS[:2], target, LossOptions(label_smoothing=0.2), weights)
    smooth, by_label = target * 0.8 + 0.1, torch.tensor(weights)
    expected = F.binary_cross_entropy_with_logits(LOGITS[:2], smooth, pos_weight=by_label)
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-6)
    total, _ = binary_cross_entropy(LOGITS[:2], target, LossOptions(focal_gamma=2.0))
    assert total.item() == pytest.approx(sigmoid_focal_loss(LOGITS[:2], target, 2.0).sum().item(), rel=1e-6)


def sigmoid_focal_loss(inputs: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """As torchvision.ops.focal_loss writes it, without its alpha."""
    p = torch.sigmoid(inputs)
    ce_loss = F.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    p_t = p * targets + (1 - p) * (1 - targets)
    return ce_loss * ((1 - p_t) ** gamma)


def test_balanced_weights_are_scikit_learns() -> None:
    found = ["a"] * 6 + ["b"] * 3 + ["c"]
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=found)
    assert balanced_weights(found, ["a", "b", "c"]) == pytest.approx(expected)
    assert balanced_weights(["a", "a"], ["a", "b"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"), [("label_smoothing", 1.0), ("label_smoothing", -0.1), ("focal_gamma", -1.0)]
)
def test_impossible_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}: must be"):
        LossOptions(**{name: value})


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"focal_gamma": 2.0}])
def test_groups_are_classes_where_all_are_of_one_size(options: dict[str, float]) -> None:
    logits, target, chosen = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2]), FocalLossOptions(**options)
    right = F.one_hot(target, 4).flatten()
    total, count = grouped_cross_entropy(logits.flatten(), right, torch.arange(5).repeat_interleave(4), chosen)
    expected, number = cross_entropy(logits, target, chosen)
    assert total.item() == pytest.approx(expected.item(), rel=1e-5)
    assert int(count) == int(number) == 5


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1, "focal_gamma": 0.5}, {"focal_gamma": 2.0}])
def test_gradients(options: dict[str, Any]) -> None:
    """As differences give them; finite also where the target's probability is 1."""
    chosen = LossOptions(**options)
    target, group = torch.tensor([0, 2]), torch.tensor([0, 0, 1, 1, 1, 1])
    right, binary = torch.tensor([0, 1, 1, 0, 0, 0]), torch.tensor([[1.0, 0, 1], [0, 1, 0]], dtype=torch.float64)
    losses = (
        lambda x: cross_entropy(x, target, chosen, (1.0, 2.0, 3.0))[0],
        lambda x: grouped_cross_entropy(x.flatten(), right, group, chosen)[0],
        lambda x: binary_cross_entropy(x, binary, chosen, (1.0, 2.0, 3.0))[0],
    )
    for loss in losses:
        x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(loss, (x,))
        sure = torch.tensor([[200.0, -200.0, 0.0], [-200.0, 0.0, 200.0]], requires_grad=True)
        (gradient,) = torch.autograd.grad(loss(sure), sure)  # type: ignore[no-untyped-call]
        assert gradient.isfinite().all()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6))
def test_runs_are_averaged(sizes: list[int]) -> None:
    owner = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)) * 3
    values = torch.arange(2.0 * sum(sizes)).view(-1, 2)
    first, means = mean_of_runs(values, owner)
    expected = torch.stack([part.mean(0) for part in torch.split(values, sizes)])
    torch.testing.assert_close(means, expected)
    assert first.tolist() == np.cumsum([0, *sizes[:-1]]).tolist()


LABELS = ("ham", "not spam", "a=b")


@pytest.mark.parametrize(
    ("said", "weights"),
    [
        (None, ()),
        (["balanced"], (9.0, 9.0, 9.0)),
        (["ham=2", "a=b=0.5"], (2.0, 1.0, 0.5)),
        (["not spam=3"], (1.0, 3.0, 1.0)),
        (["1", "2", "3.5"], (1.0, 2.0, 3.5)),
    ],
)
def test_weights_as_said(said: list[str] | None, weights: tuple[float, ...]) -> None:
    assert class_weights(said, LABELS, lambda: (9.0, 9.0, 9.0)) == weights


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["1", "2"], "2 numbers for 3 labels in their order: ham, not spam, a=b"),
        (["egg=2"], "egg=2: no such label; labels in their order: ham"),
        (["ham=0"], "ham=0: expected balanced, or LABEL=WEIGHT with a number above 0"),
        (["ham=nan"], "a number above 0"),
        (["ham=inf"], "a number above 0"),
        (["ham=1", "ham=2"], "the label has the weight 1 already"),
        (["balance"], "balance=: expected balanced, or LABEL=WEIGHT"),
    ],
)
def test_bad_weights(said: list[str], told: str) -> None:
    with pytest.raises(InputError, match="--class-weights") as error:
        class_weights(said, LABELS, lambda: ())
    assert told in str(error.value)


@pytest.mark.parametrize("said", [{"a": 2, "b": 1.5}, ["a=2", "b=1.5"], (2, 1.5)])
def test_weights_from_python(said: Any) -> None:
    options = LossOptions(class_weights=said)
    assert class_weights(options.class_weights, ("a", "b"), lambda: ()) == (2.0, 1.5)
    assert LossOptions(class_weights=options.class_weights) == options
    assert LossOptions(class_weights="balanced").class_weights == ["balanced"]  # type: ignore[arg-type]


def test_each_task_weighs_what_it_counts(tmp_path: Path) -> None:
    """Labels by examples, tags by words, a label's presence by its absence."""
    balanced = {"class_weights": ["balanced"]}
    rows = [{"text": "x", "label": label} for label in "aaab"]
    task: Any = new_task("text-classification", balanced)
    path = write_rows(tmp_path / "a.csv", rows)
    assert task.fit(list(task.read(path, labelled=True)), path=path, settings={}).weights == pytest.approx((2 / 3, 2))
    tags: Any = new_task("token-classification", balanced)
    (tmp_path / "a.conll").write_text("x B-A\ny O\nz O\n\nu O\n")
    learnt = tags.fit(list(tags.read(tmp_path / "a.conll", labelled=True)), path=path, settings={})
    assert dict(zip(learnt.labels, learnt.weights, strict=True)) == {
        "O": pytest.approx(4 / 6), "B-A": 2.0, "I-A": 1.0,
    }  # fmt: skip
    many: Any = new_task("multi-label-classification", balanced)
    path = write_rows(tmp_path / "b.csv", [{"text": "x", "labels": given} for given in ("a", "a|b", "a", "")])
    assert many.fit(list(many.read(path, labelled=True)), path=path, settings={}).weights == (1 / 3, 3.0)


def test_choices_are_smoothed() -> None:
    scores = torch.tensor([[0.3], [1.0], [0.2], [0.4]])  # the first choice is in two windows
    targets = {name: torch.tensor(row) for name, row in {
        "right": [0, 0, 1, 0], "question": [0, 0, 0, 0], "choice": [7, 7, 8, 9],
    }.items()}  # fmt: skip
    task = new_task("multiple-choice", {"label_smoothing": 0.2})
    total, count = task.loss(scores, targets, Layout.packed([1]))
    expected = F.cross_entropy(torch.tensor([[0.65, 0.2, 0.4]]), torch.tensor([1]), label_smoothing=0.2)
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-6)


def test_balance_raises_macro_f1(tmp_path: Path) -> None:
    """Of 120 texts 8 are rare, and what tells them is vague: without weights the rare label is hardly ever given."""
    chance = np.random.default_rng(0)

    def rows(count: int, rare: int) -> list[dict[str, object]]:
        made: list[dict[str, object]] = []
        for i in range(count):
            is_rare = i % (count // rare) == 0
            words = ["good" if chance.random() < (0.7 if is_rare else 0.3) else "bad" for _ in range(6)]
            made.append({"text": " ".join(words), "label": "rare" if is_rare else "often"})
        return made

    held, f1 = rows(200, 50), {}
    options: dict[str, Any] = {"max_seq_length": 32, "batch_size": 8, "learning_rate": 1e-2, "epochs": 10}
    options |= {"encoder": write_encoder(tmp_path / "encoder"), "precision": "fp32", "device": "cpu"}
    for name, weights in (("equal", None), ("balanced", ["balanced"])):
        data, folder = write_rows(tmp_path / f"{name}.jsonl", rows(120, 8)), tmp_path / name
        bertune.train(  # from Python, because without weights the model collapses and the command would fail
            task="text-classification", train=data, output=folder, class_weights=weights, **options
        )
        answers = bertune.load(folder, device="cpu", precision="fp32").predict([row["text"] for row in held])
        f1[name] = f1_score([row["label"] for row in held], [answer["label"] for answer in answers], average="macro")
    assert f1["balanced"] > f1["equal"] + 0.1, f1


def test_weights_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"text": "x", "label": "ab"[i % 2]} for i in range(8)]
    folder = train(capsys, tmp_path, rows, "--class-weights", "a=2", "b=3")
    assert '"a=2"' in (folder / "bertune.json").read_text()
    assert "- b=3" in (folder / "run.yaml").read_text()
    config = tmp_path / "weights.yaml"
    config.write_text("class_weights: {a: 2, b: 1.5}\n")
    said = parse("bertune train", "", [LossOptions], ["--config", str(config)])
    assert said == {"class_weights": ["a=2", "b=1.5"]}
    told = ["train", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train"]
    told += [
        tmp_path / "train.jsonl",
        "--output",
        tmp_path / "other",
        "--class-weights",
        "c=2",
        "--max-seq-length",
        "32",
    ]
    refused(capsys, tmp_path, told, "--class-weights c=2: no such label; labels in their order: a, b")
