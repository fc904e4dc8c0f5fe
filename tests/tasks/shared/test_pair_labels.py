"""Labels of pairs for embeddings: what is learnt from them, and the losses of sentence-transformers."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss, CosineSimilarityLoss

import bertune
from bertune.conformance import tiny_encoder
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.embedding import Pair
from bertune.tasks.registry import new_task
from bertune.tasks.shared.heads import contrastive, squared_error
from bertune.tasks.shared.pair_labels import labelled_rows, loss_for, pair_label
from tests.tiny import Row, write_encoder, write_rows

USUAL: dict[str, Any] = {"max_seq_length": 16, "batch_size": 8, "learning_rate": 5e-3, "epochs": 6, "device": "cpu"}


class Fixed(torch.nn.Module):
    """Stands for a SentenceTransformer whose embeddings are known."""

    def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return features


def vectors(count: int, width: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(3)
    one, two = (torch.randn(count, width, generator=chance) for _ in range(2))
    return one, two


def test_losses_are_those_of_sentence_transformers() -> None:
    one, two = vectors(7)
    model: Any = Fixed()
    features = [{"sentence_embedding": one}, {"sentence_embedding": two}]
    cosines = torch.cosine_similarity(one, two)
    labels = torch.tensor([0.0, 1, 1, 0, 0, 1, 0])
    for margin in (0.5, 1.5):
        expected = ContrastiveLoss(model, margin=margin)(features, labels)
        total, count = contrastive(cosines, labels, margin)
        torch.testing.assert_close(total / count, expected)
    scores = torch.tensor([0.0, 0.2, 1, 0.4, 0.9, 0.5, -0.3])
    total, count = squared_error(cosines, scores)
    torch.testing.assert_close(total / count, CosineSimilarityLoss(model)(features, scores))


@pytest.mark.parametrize(("labels", "loss"), [((0.0, 1.0, 1.0), "contrastive"), ((0.5, 5.0, 2.0), "cosine")])
def test_the_task_s_loss_is_the_loss_of_its_pairs(tmp_path: Path, labels: tuple[float, ...], loss: str) -> None:
    _, tokenizer = tiny_encoder(tmp_path)
    pairs = [Pair(text, text[::-1], None, 1, label) for text, label in zip("ab cd efg".split(), labels, strict=True)]
    task = new_task("embedding").fit(pairs, path=tmp_path, settings={})
    assert task.to_json()["pair_loss"] == loss
    features = task.featurize(pairs, tokenizer, 16, purpose="train")
    one, two = vectors(3)
    rows = torch.stack([one, two], 1).reshape(6, -1)
    targets = {name: torch.from_numpy(np.asarray(column)) for name, column in features.targets.items()}
    total, count = task.loss(rows, targets, Layout.packed([1]))
    cosines = torch.cosine_similarity(one, two)
    known = torch.tensor(labels) / (5 if loss == "cosine" else 1)
    expected = contrastive(cosines, known, 0.5) if loss == "contrastive" else squared_error(cosines, known)
    torch.testing.assert_close(total / count, expected[0] / expected[1])


def rows(label: tuple[object, object]) -> list[Row]:
    """Texts of the same word belong together, those of two words do not."""
    words = ["good", "bad", "film", "awful", "fine", "the", "is", "a"]
    same: list[Row] = [{"sentence1": f"{w} ?", "sentence2": f"is {w} !", "label": label[1]} for w in words]
    other: list[Row] = [
        {"sentence1": f"{w} ?", "sentence2": f"is {words[i - 3]} !", "label": label[0]} for i, w in enumerate(words)
    ]
    return [*same, *other] * 3


@pytest.mark.parametrize("labels", [(0, 1), ("no", "yes"), (0.0, 5.0), (-1, 1)])
def test_pairs_labelled_0_are_pushed_apart(tmp_path: Path, labels: tuple[object, object]) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.jsonl", rows(labels))
    run = bertune.train(
        task="embedding", encoder=encoder, train=data, validation=data, output=tmp_path / "out", metric="spearman",
        **USUAL,
    )  # fmt: skip
    assert run.metrics["spearman"] > 0.8
    model = bertune.load(tmp_path / "out")
    together, apart = model.predict([("good ?", "is good !"), ("good ?", "is bad !")])
    assert together["score"] > apart["score"] + 0.2
    np.testing.assert_allclose(
        SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(["good ?"])[0],
        model.predict(["good ?"])[0]["embedding"],
        atol=1e-2,
    )


@pytest.mark.parametrize(
    ("labels", "wanted", "told"),
    [
        ((0.0, 0.0), "auto", "the label 0, which tells none apart"),
        ((3.0, 3.0), "auto", "the label 3"),
        ((0.0, 2.0), "contrastive", "found 2"),
        ((-3.0, 2.0), "auto", "scores from -3 to 2"),
        ((None, None), "cosine", "needs a label"),
    ],
)
def test_labels_without_a_meaning_are_refused(labels: tuple[float | None, ...], wanted: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        loss_for(labels, wanted)


def test_what_labels_ask_for() -> None:
    assert loss_for([None, None], "auto") == ("ranking", 1.0)
    assert loss_for([1.0, 1.0], "auto") == ("ranking", 1.0)
    assert loss_for([0.0, 1.0], "auto") == ("contrastive", 1.0)
    assert loss_for([0.0, 1.0], "cosine") == ("cosine", 1.0)
    assert loss_for([0.0, 4.0], "auto") == ("cosine", 4.0)
    assert loss_for([-0.5, 0.5], "auto") == ("cosine", 1.0)
    assert loss_for([0.0, 4.0], "ranking") == ("ranking", 1.0)
    assert [pair_label(value) for value in (1, "0.5", True, "no", None, " ")] == [1.0, 0.5, 1.0, 0.0, None, None]
    with pytest.raises(InputError, match="'entailment' is not a label of a pair"):
        pair_label("entailment")
    with pytest.raises(InputError, match="not a finite number"):
        pair_label("inf")


def test_refused_files_name_their_lines(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    texts = {"sentence1": "a", "sentence2": "b"}
    data = write_rows(tmp_path / "train.jsonl", [texts | {"label": label} for label in ("entailment", 1, None, 0)])
    with pytest.raises(InputError, match=r"line 1, column 'label': 'entailment'(?s:.*)line 3, column 'label'"):
        bertune.train(task="embedding", encoder=encoder, train=data, output=tmp_path / "out", **USUAL)
    good = write_rows(tmp_path / "good.jsonl", [texts | {"label": label} for label in (1, 0) * 4])
    dev = write_rows(tmp_path / "dev.jsonl", [texts | {"label": 3}])
    with pytest.raises(InputError, match=r"dev.jsonl, line 1: label 3"):
        bertune.train(task="embedding", encoder=encoder, train=good, validation=dev, output=tmp_path / "out", **USUAL)


def test_a_loss_that_cannot_move_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    plain: list[Row] = [{"sentence1": f"{w} ?", "sentence2": f"is {w} !"} for w in ("good", "bad", "a", "film", "is")]
    data = write_rows(tmp_path / "train.csv", plain)
    usual: dict[str, Any] = {"task": "embedding", "encoder": encoder, "train": data, "output": tmp_path / "out"} | USUAL
    with pytest.raises(InputError, match="batch_size 2 or more"):
        bertune.train(**usual | {"batch_size": 1})
    with pytest.raises(InputError, match="batch_size 4 in gradient_accumulation 4 parts"):
        bertune.train(**usual | {"batch_size": 4, "gradient_accumulation": 4})
    assert not (tmp_path / "out").exists()
    logging.getLogger("bertune").propagate = True
    run = bertune.train(**usual | {"batch_size": 4, "epochs": 1})
    assert run.steps == 2
    assert "the last batch of every epoch holds 1 of 5" in caplog.text
    labelled = write_rows(tmp_path / "labelled.csv", [{**row, "label": i % 2} for i, row in enumerate(plain)])
    bertune.train(**usual | {"train": labelled, "batch_size": 1, "epochs": 1, "output": tmp_path / "one"})


def test_metrics_follow_labels() -> None:
    labels, cosines = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.4, 0.5])
    found = labelled_rows(labels, cosines, np.array([1, 9, 2, 1])).metrics()
    assert found["accuracy"] == 0.5
    assert found["mrr"] == 0.75
    assert found["pearson"] == pytest.approx(np.corrcoef(labels, cosines)[0, 1])
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((labels - cosines) ** 2)))
