"""Multiple choice: the shapes of files, groups in batches, the loss, the folder in transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch.nn import functional as F

import bertune
from bertune.conformance import tiny_encoder
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.network import pack
from bertune.tasks.choices import ChoiceExample
from bertune.tasks.registry import new_task
from bertune.training.train import train
from tests.tiny import write_encoder, write_rows

LAYOUT = Layout.packed([1])
SWAG = {"sent1": "He sits.", "sent2": "He", "ending0": "runs.", "ending1": "reads.", "ending2": "", "label": 1}


def read(path: Path, *, labelled: bool = True, **options: int) -> list[ChoiceExample]:
    return list(new_task("multiple-choice", options).read(path, labelled=labelled))


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_swag(tmp_path: Path, name: str) -> None:
    path = write_rows(tmp_path / name, [SWAG | {"ending2": "sleeps."}])
    (example,) = read(path)
    assert (example.first, example.seconds) == ("He sits.", ("He runs.", "He reads.", "He sleeps."))
    assert (example.choices, example.answer) == (("runs.", "reads.", "sleeps."), 1)
    assert read(path, labelled=False)[0].answer is None


RACE: dict[str, Any] = {"article": "Ann is ill.", "question": "Ann is _ .", "options": ["ill", "well"], "answer": "B"}


@pytest.mark.parametrize(
    ("row", "seconds", "answer"),
    [
        (RACE, ("Ann is ill .", "Ann is well ."), 1),
        (RACE | {"question": "How is Ann?"}, ("How is Ann? ill", "How is Ann? well"), 1),
        ({"context": "c", "choices": ["x", "y"], "answer": 0}, ("x", "y"), 0),
        ({"context": "c", "question": "q", "choices": ["x", "y"], "answer": "y"}, ("q x", "q y"), 1),
        ({"context": "c", "choices": ["1", "0"], "answer": "1"}, ("1", "0"), 0),
        ({"question": "q", "choices": {"label": ["A", "B"], "text": ["x", "y"]}, "answerKey": "B"}, ("x", "y"), 1),
        ({"question": "q", "choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answerKey": "1"}, ("x", "y"), 0),
    ],
)
def test_shapes(tmp_path: Path, row: dict[str, Any], seconds: tuple[str, ...], answer: int) -> None:
    (example,) = read(write_rows(tmp_path / "a.jsonl", [row]))
    assert (example.seconds, example.answer) == (seconds, answer)


def test_race_as_released(tmp_path: Path) -> None:
    row = {
        "article": "A.",
        "questions": ["Q?", "R?"],
        "options": [["x", "y"], ["z", "w"]],
        "answers": ["B", "A"],
        "id": "i",
    }
    one, two = read(write_rows(tmp_path / "a.jsonl", [row]))
    assert (one.seconds, one.answer, two.seconds, two.answer) == (("Q? x", "Q? y"), 1, ("R? z", "R? w"), 0)


@pytest.mark.parametrize(
    ("change", "told", "options"),
    [
        ({"options": ["ill"]}, "1 choices found, expected at least 2", {}),
        ({"options": ["a", "b", "c"]}, "3 choices found, expected 2 (--choices)", {"choices": 2}),
        ({"options": ["a", ""]}, "none of them empty", {}),
        ({"options": "ab"}, "expected a list of texts", {}),
        ({"answer": "C"}, "the answer is 'C'; expected 0 to 1, A to B, or a choice's text", {}),
        ({"answer": -1}, "the answer is -1", {}),
        ({"answer": None}, "the answer is missing", {}),
        ({"article": None, "question": None}, "neither a context", {}),
    ],
)
def test_bad_rows(tmp_path: Path, change: dict[str, Any], told: str, options: dict[str, int]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [RACE, RACE | change])
    with pytest.raises(InputError) as error:
        list(new_task("multiple-choice", options).read(path, labelled=True))
    assert f"{path}, line 2: " in str(error.value)
    assert told in str(error.value)


def test_no_choices_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no choices: neither a list .* nor columns ending0, ending1"):
        read(write_rows(tmp_path / "a.csv", [{"text": "a", "label": 1}]))


QUESTIONS = [
    ChoiceExample("ab", ("c", "d e f"), ("c", "d"), 1),
    ChoiceExample("g", ("h", "ii", "j"), ("h", "i", "j"), 0),
]


def test_a_questions_choices_stay_together(tmp_path: Path) -> None:
    _, tokenizer = tiny_encoder(tmp_path)
    features = new_task("multiple-choice").featurize(QUESTIONS * 2, tokenizer, 16, purpose="train")
    assert len(features) == 10
    assert features.unit_lengths.tolist() == [6 + 8, 5 + 6 + 5, 14, 16]
    batch = pack(features, np.array([3, 0]))
    assert batch.rows.tolist() == [7, 8, 9, 0, 1]
    assert batch.targets["right"].tolist() == [1, 0, 0, 0, 1]


def test_loss_is_cross_entropy_by_question() -> None:
    scores = torch.tensor([[0.3], [1.0], [9.0], [-2.0], [0.5]], requires_grad=True)
    question, choice = torch.tensor([4, 4, 0, 0, 0]), torch.tensor([8, 9, 0, 1, 2])
    targets = {"right": torch.tensor([0, 1, 0, 0, 1]), "question": question, "choice": choice}
    total, count = new_task("multiple-choice").loss(scores, targets, LAYOUT)
    flat = scores[:, 0]
    expected = F.cross_entropy(flat[None, :2], torch.tensor([1])) + F.cross_entropy(flat[None, 2:], torch.tensor([2]))
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert int(count) == 2
    (ours,) = torch.autograd.grad(total, scores, retain_graph=True)
    (theirs,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(ours, theirs)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("choice")
    write_encoder(base / "encoder")
    rows = [
        {
            "context": f"the {word}",
            "choices": [word, other] if i % 2 else [other, word, "film"],
            "answer": int(not i % 2),
        }
        for i, (word, other) in enumerate([("good", "bad"), ("bad", "good")] * 16)
    ]
    data = write_rows(base / "train.jsonl", rows)
    train(
        task="multiple-choice", encoder=base / "encoder", train=data, validation=data, output=base / "model",
        max_seq_length=16, batch_size=8, learning_rate=3e-3, epochs=30, device="cpu", precision="fp32",
    )  # fmt: skip
    return base / "model"


def test_choices_are_learnt(folder: Path) -> None:
    assert json.loads((folder / "metrics.json").read_text())["accuracy"] > 0.9
    (answer,) = bertune.load(folder).predict([{"context": "the good", "choices": ["bad", "good", "film"]}])
    assert (answer["answer"], answer["text"]) == (1, "good")
    assert sum(answer["scores"]) == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="predict: 1 choices found"):
        bertune.load(folder).predict([{"context": "the good", "choices": ["bad"]}])


def test_transformers_gives_the_same_logits(folder: Path) -> None:
    model = bertune.load(folder, precision="fp32")
    theirs = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    item = {"context": "the film", "question": "is", "choices": ["good", "bad, awful!", "a"]}
    example = model.task.example(item)
    features = model.task.featurize([example], model.tokenizer, 16, purpose="predict")
    ours = np.concatenate(infer(model.network, features).logits)
    inputs = tokenizer([example.first] * 3, list(example.seconds), padding=True, return_tensors="pt")
    with torch.inference_mode():
        expected = theirs(**{name: value[None] for name, value in inputs.items()}).logits[0]
    assert np.abs(ours - expected.numpy()).max() <= 1e-4
