"""Every task goes through train, evaluate and predict on its sample data."""

import json
from pathlib import Path

import pytest

from tests.conformance import SAMPLES
from tests.tiny import done, write_encoder

WALKS = [
    ("token-classification", "entities", "conll", "f1", {"entities"}),
    ("regression", "similarity", "csv", "pearson", {"score"}),
    ("multi-label-classification", "topics", "csv", "f1", {"labels", "scores"}),
    ("multiple-choice", "choices", "jsonl", "accuracy", {"answer", "text", "score", "scores"}),
    ("embedding", "similarity", "csv", "mrr", {"score", "embeddings"}),
]


@pytest.mark.parametrize(("task", "folder", "suffix", "metric", "keys"), WALKS, ids=[walk[0] for walk in WALKS])
def test_train_evaluate_predict(
    task: str,
    folder: str,
    suffix: str,
    metric: str,
    keys: set[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_encoder(tmp_path / "encoder")
    train, dev = (SAMPLES / folder / f"{role}.{suffix}" for role in ("train", "dev"))
    fast = ["--max-seq-length", 48, "--max-steps", 2, "--device", "cpu"]
    output = tmp_path / "model"
    data = ["--train", train, "--validation", dev]
    done(capsys, "train", "--task", task, "--encoder", tmp_path / "encoder", *data, "--output", output, *fast)
    answer = done(capsys, "evaluate", "--model", output, "--data", dev, "--json")
    metrics = json.loads(answer.out)
    kept = json.loads((output / "metrics.json").read_text())
    assert metrics[metric] == pytest.approx(kept[metric], abs=1e-6)
    table = done(capsys, "predict", "--model", output, "--input", dev)
    assert "the first 20 answers" in table.out
    done(capsys, "predict", "--model", output, "--input", dev, "--output", tmp_path / "answers.jsonl")
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(answers) in (20, 25, 40)
    assert all(set(one) == keys for one in answers)
