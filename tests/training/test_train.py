"""Runs: the same seed gives the same bits, a stopped run goes on exactly, a fitting head is kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

import bertune
from bertune.errors import InputError
from bertune.tasks.shared.heads import PooledHead
from bertune.training import fine_tune, train
from bertune.training.loop.state import Evaluation
from bertune.training.result import TrainResult
from bertune.training.run_folder.folder import RunFolder
from tests import tiny
from tests.tiny import VOCABULARY, opinions, refused, same_weights, weights, write_encoder, write_rows

Run = Callable[..., TrainResult]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Trains a tiny encoder into a folder of `tmp_path`; the keywords are options that differ."""
    write_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "train.csv", opinions(24))
    write_rows(tmp_path / "dev.csv", opinions(8, seed=1))
    usual: dict[str, Any] = {
        "task": "text-classification",
        "encoder": tmp_path / "encoder",
        "train": tmp_path / "train.csv",
        "max_seq_length": 32,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "epochs": 3,
        "device": "cpu",
    }

    def start(folder: str, **more: Any) -> TrainResult:
        return train.train(**(usual | {"output": tmp_path / folder} | more))

    return start


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Weights, moments and random generators at the end of a run."""
    checkpoint = max((folder / "checkpoints").iterdir())
    state: dict[str, torch.Tensor] = load_file(checkpoint / "state.safetensors")
    return state


def same_run(one: Path, other: Path) -> bool:
    """Whether two runs ended alike to the last bit: the best model, the last weights, the optimizer, the metrics."""
    a, b = final_state(one), final_state(other)
    measured = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    scores = [{name: value for name, value in found.items() if "_second" not in name} for found in measured]
    for found in scores:
        del found["record"]  # of when and how long it ran
    state = a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    return state and same_weights(one, other) and scores[0] == scores[1]


def test_seeds(run: Run, tmp_path: Path) -> None:
    run("one")
    run("two")
    run("three", seed=43)
    assert same_run(tmp_path / "one", tmp_path / "two")
    assert not same_weights(tmp_path / "one", tmp_path / "three")


def test_what_ran_before_does_not_matter(run: Run, tmp_path: Path) -> None:
    run("one")
    torch.manual_seed(1234)
    torch.rand(7)
    run("two")
    assert same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_yaml_repeats_the_run(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], precision: str) -> None:
    run("one", precision=precision, validation=tmp_path / "dev.csv", seed=5, weight_decay=0.1, text_column="text")
    tiny.done(capsys, "train", "--config", tmp_path / "one" / "run.yaml", "--output", tmp_path / "two")
    assert same_run(tmp_path / "one", tmp_path / "two")
    trees = [yaml.safe_load((tmp_path / name / "run.yaml").read_text()) for name in ("one", "two")]
    records = [tree.pop("record") for tree in trees]
    assert records[0]["sha256"] == records[1]["sha256"]
    assert trees[0] | {"output": ""} == trees[1] | {"output": ""}
    assert trees[0]["text_column"] == "text"
    assert trees[0]["metric"] == "accuracy"


def test_a_finished_run_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    first = run("one", validation=tmp_path / "dev.csv")
    kept = weights(tmp_path / "one")
    again = run("one", validation=tmp_path / "dev.csv", resume=True)
    assert again.steps == first.steps == 9
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights(tmp_path / "one").items())
    assert {name: again.metrics[name] for name in ("accuracy", "loss")} == {
        name: first.metrics[name] for name in ("accuracy", "loss")
    }


def test_run_yaml_of_a_resumed_run_repeats_it_too(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("one")
    run("one", resume=True)
    tiny.done(capsys, "train", "--config", tmp_path / "one" / "run.yaml", "--output", tmp_path / "two")
    assert same_weights(tmp_path / "one", tmp_path / "two")


def test_resume_under_other_options_is_refused(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("one", epochs=1)
    with pytest.raises(InputError) as error:
        run("one", epochs=2, batch_size=4, resume=True)
    told = str(error.value)
    assert "epochs is 2.0, but the run to resume has 1.0" in told
    assert "batch_size is 4, but the run to resume has 8" in told
    again = ["train", "--config", tmp_path / "one" / "run.yaml", "--resume"]
    refused(capsys, tmp_path, [*again, "--epochs", "2"], "epochs is 2.0, but the run to resume has 1")
    tiny.done(capsys, *again)


def test_resume_without_a_run(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="resume"):
        run("nothing", resume=True)
    assert not (tmp_path / "nothing").exists()


def test_steps(run: Run) -> None:
    assert run("a", max_steps=2).steps == 2
    assert run("b", max_steps=7, epochs=1).steps == 7
    assert run("c", epochs=0.5).steps == 2  # of three an epoch
    assert run("d", batch_size=100).steps == 3


def test_a_few_large_parts_or_many_small_ones(run: Run, tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with pytest.MonkeyPatch.context() as patch:
        plain = torch.nn.functional.linear  # the head's dropout is not in the config
        patch.setattr(PooledHead, "forward", lambda self, out, _: plain(out.pooled_output, self.weight, self.bias))
        run("one", precision="fp32", learning_rate=1e-3)
        run("two", precision="fp32", learning_rate=1e-3, gradient_accumulation=3)
    one, other = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.allclose(one[name], other[name], atol=2e-5) for name in one)


def test_the_best_model_is_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.9, 0.7, 0.9])
    monkeypatch.setattr(fine_tune, "_validate", lambda *_: Evaluation({"accuracy": next(scores)}))
    steps: list[int] = []
    save = RunFolder.save_best

    def counted(self: RunFolder, *args: Any) -> None:
        steps.append(0)
        save(self, *args)

    monkeypatch.setattr(RunFolder, "save_best", counted)
    result = run("one", validation=tmp_path / "dev.csv", epochs=4)
    assert len(steps) == 2
    assert result.metrics["accuracy"] == 0.9
    assert json.loads((tmp_path / "one" / "metrics.json").read_text())["accuracy"] == 0.9
    last = final_state(tmp_path / "one")["master.head.weight"]
    assert not torch.equal(weights(tmp_path / "one")["classifier.weight"], last)


def test_patience(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.0, 0.5, 0.4, 0.6, 0.6, 0.1, 0.9])
    monkeypatch.setattr(fine_tune, "_validate", lambda *_: Evaluation({"loss": -next(scores)}))
    result = run("one", validation=tmp_path / "dev.csv", epochs=9, patience=2, metric="loss")  # looked at once before
    assert result.steps == 15
    assert result.metrics["loss"] == -0.6


def test_a_run_that_explodes_says_so(run: Run) -> None:
    with pytest.raises(InputError, match="learning_rate or precision fp32"):
        run("one", learning_rate=1e30, max_grad_norm=0, epochs=20)


def test_curves_are_kept(run: Run, tmp_path: Path) -> None:
    run("one", validation=tmp_path / "dev.csv", max_steps=10)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "one" / "logs"))
    events.Reload()
    assert {"train/loss", "train/learning_rate", "validation/accuracy", "validation/loss"} <= set(
        events.Tags()["scalars"]
    )
    assert [point.step for point in events.Scalars("validation/loss")] == [3, 6, 9, 10]


def classifier(folder: Path, names: list[str]) -> Path:
    """A classifier as transformers saves it, with labels in this order."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        **{key: value for key, value in tiny.settings().items() if key not in ("architectures", "model_type")},
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return folder


@pytest.mark.parametrize("names", [["good", "bad"], ["bad", "good"]])
def test_a_head_for_the_same_labels_is_kept(run: Run, tmp_path: Path, names: list[str]) -> None:
    start = classifier(tmp_path / "classifier", names)
    run("one", encoder=start, max_steps=1, learning_rate=1e-12)
    before, after = weights(start), weights(tmp_path / "one")
    for name in ("classifier.weight", "classifier.bias", "bert.pooler.dense.weight"):
        assert torch.allclose(before[name], after[name], atol=1e-6)
    model = bertune.load(tmp_path / "one", precision="fp32")
    tokenizer = transformers.BertTokenizer(str(start / "vocab.txt"))
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(start).eval()
    texts = ["a good film", "bad", "film the"]
    with torch.inference_mode():
        expected = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits.softmax(-1)
    for answer, row in zip(model.predict(texts), expected.tolist(), strict=True):
        assert answer["scores"] == pytest.approx(dict(zip(names, row, strict=True)), abs=1e-5)


@pytest.mark.parametrize("names", [["good", "Bad"], ["LABEL_0", "LABEL_1"], ["good", "bad", "mixed"]])
def test_a_head_for_other_labels_is_not(run: Run, tmp_path: Path, names: list[str]) -> None:
    start = classifier(tmp_path / "classifier", names)
    run("one", encoder=start, max_steps=1, learning_rate=1e-12)
    config = json.loads((tmp_path / "one" / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    before, after = weights(start)["classifier.weight"], weights(tmp_path / "one")["classifier.weight"]
    assert before.shape != after.shape or not torch.allclose(before, after, atol=1e-3)
    pooler = "bert.pooler.dense.weight"
    assert torch.allclose(weights(start)[pooler], weights(tmp_path / "one")[pooler], atol=1e-6)


def test_a_fine_tuned_model_is_trained_further(run: Run, tmp_path: Path) -> None:
    run("one", epochs=10)
    result = run("two", encoder=tmp_path / "one", max_steps=1, learning_rate=1e-12, validation=tmp_path / "dev.csv")
    assert result.metrics["accuracy"] == bertune.load(tmp_path / "one").evaluate(tmp_path / "dev.csv")["accuracy"]


def test_unknown_and_missing_keywords(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no option epoch"):
        run("one", epoch=1)
    with pytest.raises(InputError, match="needs encoder, output"):
        train.train(task="text-classification", train="x.csv")
    with pytest.raises(InputError, match="text-classification"):
        train.train(train="x.csv")
    assert not (tmp_path / "one").exists()


def test_data_given_as_text_or_path(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("one")
    run("two", train="train.csv", encoder="encoder", output="two")
    assert same_run(tmp_path / "one", tmp_path / "two")
