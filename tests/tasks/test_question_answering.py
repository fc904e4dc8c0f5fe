"""Question answering from file to answer: tiny model, the sample handbook, transformers as the oracle."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bertune
from bertune.conformance import CHECKS, Case
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.tasks.options import QuestionOptions
from bertune.tasks.question_answering import QuestionAnswering
from bertune.tasks.registry import new_task
from bertune.tasks.squad.head import span_loss
from tests import tiny

HANDBOOK = Path(bertune.__file__).parent / "samples/handbook"
CONTEXT = "The hub is white. It costs ninety euros and it weighs two hundred grams in all."


@pytest.mark.parametrize("check", CHECKS)
def test_conforms(check: Any, tmp_path: Path) -> None:
    broken = '{"version": "v2.0", "data": [{"paragraphs": [{"context": "a", "qas": [{"id": "1"}]}]}]}'
    case = Case("question-answering", HANDBOOK / "dev.json", bad=((broken, "data[0].paragraphs[0].qas[0]"),))
    check(case, tmp_path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a moment on the handbook."""
    base = tmp_path_factory.mktemp("qa")
    encoder = tiny.write_encoder(base / "encoder")
    bertune.train(
        task="question-answering",
        encoder=encoder,
        train=HANDBOOK / "train.json",
        validation=HANDBOOK / "dev.json",
        output=base / "model",
        max_seq_length=64,
        max_query_length=24,
        doc_stride=16,
        batch_size=32,
        max_steps=4,
        device="cpu",
        precision="fp32",
    )
    return base / "model"


def test_metrics_have_the_parts_of_version_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = tiny.bertune(capsys, "evaluate", "--model", folder, "--data", HANDBOOK / "dev.json", "--json")
    assert answer.status == 0
    metrics = json.loads(answer.out)
    assert {"exact_match", "f1", "HasAns_f1", "HasAns_exact_match", "NoAns_f1", "NoAns_total", "loss"} <= metrics.keys()
    assert metrics["HasAns_total"] + metrics["NoAns_total"] == metrics["total"] == 40
    assert 0 <= metrics["exact_match"] <= metrics["f1"] <= metrics["best_f1"] + 1e-9


def test_answers_are_spans_of_the_context_in_the_order_of_the_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "answers.jsonl"
    command = ["predict", "--model", folder, "--input", HANDBOOK / "dev.json", "--output", output, "--top-k", "3"]
    assert tiny.bertune(capsys, *command).status == 0
    answers = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    questions = [
        (question["id"], paragraph["context"])
        for article in json.loads((HANDBOOK / "dev.json").read_text(encoding="utf-8"))["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]
    assert [answer["id"] for answer in answers] == [name for name, _ in questions]
    for answer, (_, context) in zip(answers, questions, strict=True):
        assert set(answer) == {"id", "answer", "score", "start", "end", "answers"}
        assert context[answer["start"] : answer["end"]] == answer["answer"]
        assert 1 <= len(answer["answers"]) <= 3
        scores = [one["score"] for one in answer["answers"]]
        assert scores == sorted(scores, reverse=True)


def test_the_tuned_threshold_is_saved_and_obeyed(folder: Path) -> None:
    model = bertune.load(folder, device="cpu", precision="fp32")
    task = model.task
    assert isinstance(task, QuestionAnswering)
    saved = json.loads((folder / "bertune.json").read_text())["task"]
    assert saved["has_unanswerable"] is True
    assert task.null_threshold == saved["tuned_threshold"]
    item = {"question": "What does it cost?", "context": CONTEXT}
    model.task = task.with_options(QuestionOptions(null_threshold=1e9))
    (always,) = model.predict([item])
    assert always["answer"]
    model.task = task.with_options(QuestionOptions(null_threshold=-1e9))
    (never,) = model.predict([item])
    assert (never["answer"], never["start"], never["end"]) == ("", 0, 0)


def test_a_context_of_any_length_is_searched(folder: Path) -> None:
    model = bertune.load(folder, device="cpu", precision="fp32")
    model.task = model.task.with_options(QuestionOptions(null_threshold=1e9, doc_stride=16, max_query_length=24))
    context = "词" * 500 + CONTEXT * 8
    (answer,) = model.predict([{"question": "How heavy?", "context": context}])
    assert answer["answer"] == context[answer["start"] : answer["end"]] != ""


def test_transformers_computes_the_same_logits(folder: Path) -> None:
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    model = bertune.load(folder, device="cpu", precision="fp32")
    example = model.task.example({"question": "How heavy is the hub?", "context": "It weighs two hundred grams."})
    features = model.task.featurize([example], model.tokenizer, model.max_seq_length, purpose="predict")
    (ours,) = infer(model.network, features).logits
    theirs = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    inputs = AutoTokenizer.from_pretrained(folder)(example.question, example.context, return_tensors="pt")
    assert inputs["input_ids"][0].tolist() == features.input_ids[0].tolist()
    with torch.no_grad():
        output = theirs(**inputs)
    both = torch.stack([output.start_logits[0], output.end_logits[0]], dim=1).numpy()
    assert np.abs(ours - both).max() <= 1e-4


def test_padding_never_enters_the_softmax() -> None:
    torch.manual_seed(1)
    lengths = [4, 9, 6]
    logits = torch.randn(sum(lengths) + 13, 2)
    start, end = torch.tensor([1, 0, 5]), torch.tensor([3, 8, 5])
    alone = [
        span_loss(part, start[i : i + 1], end[i : i + 1], Layout.packed([len(part)]))
        for i, part in enumerate(torch.split(logits[: sum(lengths)], lengths))
    ]
    together = span_loss(logits, start, end, Layout.packed(lengths, total=len(logits)))
    torch.testing.assert_close(together, torch.stack(alone).sum())


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("only a text", "question"),
        ({"question": "Why?"}, "context"),
        ({"question": "Why?", "context": "  "}, "context is empty"),
        ({"question": "", "context": "a"}, "question is empty"),
    ],
)
def test_items_that_are_no_questions(item: object, told: str) -> None:
    with pytest.raises(InputError, match=told):
        new_task("question-answering").example(item)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"data": [', ["squad.json", "line 1"]),
        (b'{"data": [{"paragraphs": [{"qas": []}]}]}', ["data[0].paragraphs[0]", "context"]),
        (
            json.dumps(
                {"data": [{"paragraphs": [{"context": "ab cd", "qas": [
                    {"id": "x", "question": "q?", "answers": [{"text": "cd", "answer_start": 0}]},
                    {"id": "x", "question": "q?", "answers": [{"text": "cd", "answer_start": 3}]},
                ]}]}]}
            ).encode(),
            ["answer_start", "'x'", "fix-offsets"],
        ),
    ],
)  # fmt: skip
def test_bad_files_end_with_status_2_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, told: list[str]
) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    data = tmp_path / "squad.json"
    data.write_bytes(content)
    command = ["train", "--task", "question-answering", "--encoder", encoder, "--train", data, "--output"]
    answer = tiny.bertune(capsys, *command, tmp_path / "out", "--max-seq-length", "64")
    assert (answer.status, answer.out) == (2, "")
    assert [part for part in told if part not in answer.err] == []
    assert "Traceback" not in answer.err
    assert not (tmp_path / "out").exists()


def test_every_figure_names_the_rules_that_compare_answers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In metrics.json, and in the JSON of train, evaluate, report and compare."""
    assert json.loads((folder / "metrics.json").read_text())["qa_metric"] == "squad"
    data = HANDBOOK / "dev.json"
    for metric, name in (("squad", "squad"), ("cmrc", "cmrc"), ("mlqa", "mlqa (en)"), ("auto", "squad")):
        arguments = ("evaluate", "--model", folder, "--data", data, "--qa-metric", metric, "--json")
        assert json.loads(tiny.done(capsys, *arguments).out)["qa_metric"] == name
    assert "qa_metric" in tiny.done(capsys, "evaluate", "--model", folder, "--data", data).out
    report = tiny.done(capsys, "report", folder, "--data", data, "--output", tmp_path / "report.html", "--json")
    assert json.loads(report.out)["qa_metric"] == "squad"
    other = shutil.copytree(folder, tmp_path / "other")
    assert json.loads(tiny.done(capsys, "compare", folder, other, "--data", data, "--json").out)["qa_metric"] == "squad"
