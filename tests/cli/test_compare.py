"""`bertune compare`: figures that agree with `evaluate`, runs that cannot be compared, and its answers as JSON."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from bertune.training.train import train
from tests.tiny import bertune, done, opinions, refused, weights, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on the same data: one that has learnt it, and one of a single update."""
    folder = tmp_path_factory.mktemp("runs")
    write_encoder(folder / "encoder")
    usual = {
        "task": "text-classification",
        "encoder": folder / "encoder",
        "train": write_rows(folder / "train.csv", opinions(96)),
        "validation": write_rows(folder / "dev.csv", opinions(60, seed=1)),
        "max_seq_length": 32,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "device": "cpu",
    }
    train(**usual, output=folder / "learnt", epochs=10)
    train(**usual, output=folder / "hasty", max_steps=1, seed=3)
    return folder


def test_the_better_model_is_told(runs: Path, capsys: Capture) -> None:
    found = json.loads(done(capsys, "compare", runs / "hasty", runs / "learnt", "--json").out)
    assert found["metric"] == "accuracy"
    assert found["rows"] == 60
    for run in found["runs"]:
        command = ["evaluate", "--model", run["run"], "--data", runs / "dev.csv", "--json"]
        evaluated = json.loads(done(capsys, *command).out)
        assert run["value"] == pytest.approx(evaluated["accuracy"])
        assert run["metrics"] == pytest.approx({name: evaluated[name] for name in run["metrics"]})
        assert run["low"] <= run["value"] <= run["high"]
    (pair,) = found["pairs"]
    assert pair["difference"] == pytest.approx(found["runs"][1]["value"] - found["runs"][0]["value"])
    assert pair["difference"] > 0.3
    assert 0 < pair["low"] < pair["difference"] < pair["high"]
    assert all(pair[name] < 0.01 for name in ("p_bootstrap", "p_permutation", "p_mcnemar"))
    assert pair["only_second_right"] - pair["only_first_right"] == round(60 * pair["difference"])


def test_a_table_for_people(runs: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(runs)
    out = done(capsys, "compare", "hasty", "learnt", "--metric", "f1", "--resamples", "200").out
    assert all(part in out for part in ("f1 on 60 rows", "95 % interval", "hasty", "learnt", "p McNemar"))


def test_the_seed_decides(runs: Path, capsys: Capture) -> None:
    command = ["compare", runs / "hasty", runs / "learnt", "--json", "--resamples", "150"]
    answers = [json.loads(done(capsys, *command, "--seed", seed).out) for seed in (1, 1, 2)]
    assert answers[0] == answers[1]
    assert answers[0]["runs"][0]["low"] != answers[2]["runs"][0]["low"] or answers[0]["pairs"] != answers[2]["pairs"]


def test_other_rows(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "more.jsonl", opinions(30, seed=5))
    found = json.loads(done(capsys, "compare", runs / "learnt", runs / "hasty", "--data", data, "--json").out)
    assert (found["rows"], found["data"]) == (30, str(data))


def copied(runs: Path, target: Path, **changes: object) -> Path:
    """A run whose bertune.json differs in the named parts of its record."""
    shutil.copytree(runs / "learnt", target)
    record = json.loads((target / "bertune.json").read_text())
    record |= changes
    (target / "bertune.json").write_text(json.dumps(record))
    return target


def test_the_order_of_labels_makes_no_difference(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    """The same model with its classes numbered the other way round: the positive one is the first run's."""
    turned = shutil.copytree(runs / "hasty", tmp_path / "turned")
    record = json.loads((turned / "bertune.json").read_text())
    record["task"]["labels"].reverse()
    del record["weights_sha256"]
    (turned / "bertune.json").write_text(json.dumps(record))
    tensors = weights(turned)
    head = {name: tensor.flip(0).contiguous() for name, tensor in tensors.items() if name.startswith("classifier.")}
    assert len(head) == 2
    save_file(tensors | head, turned / "model.safetensors", metadata={"format": "pt"})
    for command in (["compare", runs / "hasty", turned], ["compare", runs / "learnt", runs / "hasty", turned]):
        found = json.loads(done(capsys, *command, "--metric", "f1", "--json", "--resamples", "100").out)
        *_, one, other = found["runs"]
        assert other["metrics"] == pytest.approx(one["metrics"])
        assert found["pairs"][-1]["difference"] == 0
    assert found["pairs"][0]["p_permutation"] == found["pairs"][1]["p_permutation"]


def test_runs_that_cannot_be_compared(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    learnt = runs / "learnt"
    record = json.loads((learnt / "bertune.json").read_text())
    refused(capsys, tmp_path, ["compare", learnt], "at least two")
    refused(capsys, tmp_path, ["compare", learnt, learnt], "named twice")
    refused(capsys, tmp_path, ["compare", learnt, tmp_path], str(tmp_path), "holds no bertune model")
    refused(capsys, tmp_path, ["compare", learnt, runs / "hasty", "--metric", "bleu"], "--metric bleu", "accuracy, f1")
    refused(capsys, tmp_path, ["compare", learnt, runs / "hasty", "--resamples", "9"], "--resamples 9", "at least 100")
    refused(capsys, tmp_path, ["compare", learnt, runs / "hasty", "--data", tmp_path / "no.csv"], "no.csv")
    other = copied(runs, tmp_path / "labels", task=record["task"] | {"labels": ["bad", "fine"]})
    refused(capsys, tmp_path, ["compare", learnt, other], "labels are bad, fine")
    other = copied(runs, tmp_path / "task", task=record["task"] | {"name": "sst2"})
    refused(capsys, tmp_path, ["compare", learnt, other], "sst2", "like with like")
    other = copied(runs, tmp_path / "none", data={"train": record["data"]["train"]})
    refused(capsys, tmp_path, ["compare", learnt, other], "without validation data", "--data FILE")
    moved = record["data"]["validation"] | {"file": str(tmp_path / "gone.csv")}
    other = copied(runs, tmp_path / "moved", data=record["data"] | {"validation": moved})
    refused(capsys, tmp_path, ["compare", learnt, other], "gone.csv is not there", "--data FILE")


def test_data_that_changed(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    record = json.loads((runs / "learnt" / "bertune.json").read_text())
    data = write_rows(tmp_path / "dev.csv", opinions(10, seed=8))
    validation = record["data"]["validation"] | {"file": str(data)}
    other = copied(runs, tmp_path / "changed", data=record["data"] | {"validation": validation})
    refused(capsys, tmp_path, ["compare", runs / "learnt", other], "has changed since the training", "--data FILE")


def test_another_column_of_the_same_file(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    rows = [row | {"second": ("bad", "good")[i % 3 % 2]} for i, row in enumerate(opinions(20))]
    data = write_rows(tmp_path / "both.csv", rows)
    record = json.loads((runs / "learnt" / "bertune.json").read_text())
    task = record["task"] | {"options": record["task"]["options"] | {"label_column": "second"}}
    other = copied(runs, tmp_path / "second", task=task)
    refused(capsys, tmp_path, ["compare", runs / "learnt", other, "--data", data], "line 5", "other columns")


def test_embeddings_are_compared_by_what_they_find(capsys: Capture, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    rows = [{"sentence1": f"a {'abcdefg'[i % 7]}", "sentence2": f"b {'abcdefg'[i % 7]} c"} for i in range(12)]
    usual = {
        "task": "embedding",
        "encoder": tmp_path / "encoder",
        "train": write_rows(tmp_path / "train.csv", rows),
        "validation": tmp_path / "train.csv",
        "max_seq_length": 16,
        "device": "cpu",
    }
    for seed in (1, 2):
        train(**usual, output=tmp_path / f"run-{seed}", max_steps=1, seed=seed)
    command = ["compare", tmp_path / "run-1", tmp_path / "run-2", "--json", "--resamples", "100", "--metric", "mrr"]
    found = json.loads(done(capsys, *command).out)
    kept = json.loads((tmp_path / "run-1" / "metrics.json").read_text())
    assert found["runs"][0]["value"] == pytest.approx(kept["mrr"])
    assert "p_permutation" not in found["pairs"][0]


TASK_FILE = '''
from dataclasses import dataclass

import numpy as np

from bertune.tasks.defaults import complete
from bertune.tasks.heads import PooledHead
from bertune.tasks.regression import RegressionOptions
from bertune.tasks.text_classification import read_table
from bertune.tasks.texts import text_features


@complete
@dataclass(frozen=True)
class Length:
    """Whether a text is long, by the sign of one logit."""

    Options = RegressionOptions
    name: str = "length"
    options: RegressionOptions = RegressionOptions()
    metric: str = "share"

    def read(self, path, *, labelled):
        return read_table(path, self.options, labelled)

    def featurize(self, examples, tokenizer, max_seq_length, *, purpose):
        targets = {"long": np.array([len(one.text) > 14 for one in examples], np.float32)}
        return text_features(examples, tokenizer, max_seq_length, {} if purpose == "predict" else targets)

    def new_head(self, config):
        return PooledHead(config, 1)

    def loss(self, logits, targets, layout):
        return (logits[:, 0] - targets["long"]).square().sum(), len(logits) + 0 * logits.sum().detach()

    def decode(self, logits, features, examples):
        return [{"long": bool(row[0] > 0.5)} for row in logits]

    def metrics(self, logits, features, examples):
        right = [(row[0] > 0.5) == (len(one.text) > 14) for row, one in zip(logits, examples, strict=True)]
        return {"share": float(np.mean(right))}
'''


def test_a_task_that_only_its_own_metrics_judge(capsys: Capture, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    (tmp_path / "length.py").write_text(TASK_FILE)
    data = write_rows(tmp_path / "train.csv", opinions(32))
    task = f"{tmp_path / 'length.py'}:Length"
    usual = {"task": task, "encoder": tmp_path / "encoder", "train": data, "validation": data, "max_seq_length": 32}
    train(**usual, output=tmp_path / "one", max_steps=1, device="cpu")
    train(**usual, output=tmp_path / "two", epochs=6, learning_rate=1e-2, batch_size=8, device="cpu")
    command = ["compare", tmp_path / "one", tmp_path / "two", "--json", "--resamples", "100"]
    refused(capsys, tmp_path, command, "--trust-task-file")
    found = json.loads(done(capsys, *command, "--trust-task-file", tmp_path / "length.py").out)
    kept = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert found["runs"][1]["value"] == pytest.approx(kept["share"])
    assert found["runs"][1]["low"] <= found["runs"][1]["value"] <= found["runs"][1]["high"]
    assert found["pairs"][0].keys() == {"first", "second", "difference", "low", "high", "p_bootstrap"}


ROWS = """
    def row_metrics(self, examples, predictions):
        from bertune.tasks.row_metrics import RowMetrics

        pairs = zip(examples, predictions, strict=True)
        right = np.array([one["long"] == (len(example.text) > 14) for example, one in pairs])
        return RowMetrics.means(correct=right, share=right)
"""


def test_a_task_file_with_row_metrics_gets_every_test(capsys: Capture, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    file = tmp_path / "length.py"
    text = TASK_FILE.replace("import complete", "import BaseTask").replace("tasks.defaults", "tasks.base")
    file.write_text(text.replace("@complete\n", "").replace("class Length:", "class Length(BaseTask):") + ROWS)
    data = write_rows(tmp_path / "train.csv", opinions(32))
    usual = {"task": f"{file}:Length", "encoder": tmp_path / "encoder", "train": data, "validation": data}
    for name, rate in (("one", 1e-9), ("two", 1e-2)):
        output = tmp_path / name
        train(**usual, output=output, max_steps=4, learning_rate=rate, device="cpu", max_seq_length=32)
    command = ["compare", tmp_path / "one", tmp_path / "two", "--json", "--resamples", "100", "--trust-task-file", file]
    found = json.loads(done(capsys, *command).out)
    kept = json.loads((tmp_path / "two" / "metrics.json").read_text())
    assert found["runs"][1]["value"] == pytest.approx(kept["share"])
    assert {"p_permutation", "p_mcnemar", "only_first_right", "only_second_right"} <= found["pairs"][0].keys()


def test_help_and_unknown_options(runs: Path, capsys: Capture, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        bertune(capsys, "compare", "--help")
    assert "--resamples" in capsys.readouterr().out
    refused(capsys, tmp_path, ["compare", runs / "learnt", runs / "hasty", "--metrc", "f1"], "--metrc", "--metric")
