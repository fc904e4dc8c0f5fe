"""`bertune convert`: fine-tuned checkpoints become model folders, with the original's predictions."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import bertune
from bertune.checkpoints import google
from bertune.checkpoints.source import open_checkpoint, open_encoder
from bertune.encoder.config import EncoderConfig
from bertune.encoder.layout import Layout
from bertune.tensorflow_formats.tensor_bundle import write_bundle
from tests.tiny import VOCABULARY, done, opinions, refused, train, write_encoder


def finetuned(shared: Path) -> list[object]:
    """Arguments for the recorded fine-tuned checkpoint; config and vocabulary lie with the pretrained one."""
    golden = shared / "golden"
    files = ["--config-file", golden / "tiny/bert_config.json", "--vocab-file", golden / "tiny/vocab.txt"]
    return ["--encoder", golden / "finetuned", *files]


@pytest.mark.parametrize("task", ["mrpc", "text-classification"])
def test_run_classifier_predictions_are_reproduced(
    task: str, capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path
) -> None:
    output = tmp_path / "model"
    convert = ["convert", *finetuned(shared), "--output", output, "--task", task, "--labels", "0,1"]
    done(capsys, *convert, "--max-seq-length", 96)
    columns = ["--text-column", "#1 String", "--pair-column", "#2 String"] if task == "text-classification" else []
    answers = tmp_path / "answers.jsonl"
    data = shared / "golden/finetuned/test.tsv"
    use = ["--model", output, "--precision", "fp32", *columns]
    done(capsys, "predict", *use, "--input", data, "--output", answers)
    found = [json.loads(line)["scores"] for line in answers.read_text().splitlines()]
    expected = np.loadtxt(shared / "golden/finetuned/test_results.tsv")
    assert len(found) == len(expected) == 60
    assert np.abs(np.array([[row["0"], row["1"]] for row in found]) - expected).max() <= 1e-5
    told = dict(
        line.split(" = ") for line in (shared / "golden/finetuned/eval_results.txt").read_text().strip().splitlines()
    )
    label = ["--label-column", "Quality"] if columns else []
    metrics = json.loads(done(capsys, "evaluate", *use, *label, "--data", data.with_name("dev.tsv"), "--json").out)
    assert metrics["accuracy"] == pytest.approx(float(told["eval_accuracy"]), abs=1e-6)
    assert metrics["loss"] == pytest.approx(float(told["eval_loss"]), abs=1e-5)


def test_transformers_reads_the_result(capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    output = tmp_path / "model"
    done(capsys, "convert", *finetuned(shared), "--output", output, "--task", "mrpc", "--labels", "different,same")
    theirs = AutoModelForSequenceClassification.from_pretrained(output).eval()
    assert theirs.config.id2label == {0: "different", 1: "same"}
    with torch.inference_mode():
        logits = theirs(**AutoTokenizer.from_pretrained(output)("One .", "Two .", return_tensors="pt")).logits[0]
    (ours,) = bertune.load(output, precision="fp32").predict([("One .", "Two .")])
    assert ours["scores"]["same"] == pytest.approx(float(logits.softmax(0)[1]), abs=1e-5)


def google_checkpoint(folder: Path, head: str, rows: int) -> tuple[Path, torch.Tensor]:
    """A tiny random checkpoint with a fine-tuned head, and the head's weight."""
    from bertune.encoder.encoder import Encoder

    config = EncoderConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_act="gelu_tanh",
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    weight = torch.randn(rows, 16)
    state = Encoder(config).state_dict() | {"head.weight": weight, "head.bias": torch.zeros(rows)}
    google.write_google_checkpoint(folder, config, state, VOCABULARY, head)
    return folder, weight


def test_squad_heads_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, weight = google_checkpoint(tmp_path / "squad", "question-answering", 2)
    output = tmp_path / "model"
    options = ["--task", "question-answering", "--unanswerable", "--max-seq-length", "48"]
    done(capsys, "convert", "--encoder", source, "--output", output, *options)
    model = bertune.load(output, precision="fp32")
    assert model.max_seq_length == 48
    assert model.task.to_json()["has_unanswerable"] is True
    assert torch.equal(model.network.head.state_dict()["weight"], weight)
    (answer,) = model.predict([{"question": "is it good", "context": "the film is good"}])
    assert answer["answer"] in ("", *(("the film is good")[a:b] for a in range(16) for b in range(a, 17)))


def test_a_hugging_face_model_tells_its_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = train(capsys, tmp_path, opinions(24))
    (model / "bertune.json").unlink()
    done(capsys, "convert", "--encoder", model, "--output", tmp_path / "new", "--task", "text-classification")
    assert bertune.load(tmp_path / "new").task.to_json()["labels"] == ["bad", "good"]


def test_a_missing_pooler_is_not_made_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, _ = google_checkpoint(tmp_path / "google", "text-classification", 2)
    read = google.read_google_checkpoint(source)
    kept = {name: tensor.numpy() for name, tensor in read.tensors.items() if "pooler" not in name}
    write_bundle(source / "bert_model.ckpt", kept)
    done(capsys, "convert", "--encoder", source, "--output", tmp_path / "encoder")
    with open_checkpoint(tmp_path / "encoder") as checkpoint:
        assert not any("pooler" in name for name in checkpoint.tensors)
    arguments = ["convert", "--encoder", source, "--output", tmp_path / "model", "--task", "text-classification"]
    refused(capsys, tmp_path, [*arguments, "--labels", "a,b"], "pooler.weight", "lacks")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--task", "text-classification"], ["--labels", "no,yes"]),
        (["--task", "text-classification", "--labels", "a,b,c"], ["weight has shape (2, 16)", "(3, 16)", "--labels"]),
        (["--task", "text-classification", "--labels", "a,a"], ["--labels a,a", "twice"]),
        (["--task", "text-classification", "--labels", "a,b", "--unanswerable"], ["--unanswerable"]),
        (["--task", "text-classification", "--labels", "a,b", "--max-seq-length", "65"], ["65", "64 positions"]),
        (["--task", "question-answering"], ["no head", "question-answering", "text-classification"]),
        (["--task", "question-answering", "--labels", "a,b"], ["--labels", "no labels"]),
        (["--task", "nonsense"], ["--task nonsense", "text-classification"]),
        (["--labels", "a,b", "--max-seq-length", "32"], ["--labels, --max-seq-length", "--task"]),
        (["--task", "text-classification", "--labels", "a,b", "--format", "google"], ["--format google"]),
        (["--config-file", "nowhere.json"], ["nowhere.json"]),
        (["--vocab-file", "nowhere.txt"], ["nowhere.txt"]),
    ],
)
def test_what_does_not_fit(
    options: Sequence[str], told: Sequence[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, _ = google_checkpoint(tmp_path / "google", "text-classification", 2)
    refused(capsys, tmp_path, ["convert", "--encoder", source, "--output", tmp_path / "new", *options], *told)


def test_config_and_vocabulary_elsewhere(capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path) -> None:
    arguments = ["convert", "--encoder", shared / "golden/finetuned", "--output", tmp_path / "new"]
    refused(capsys, tmp_path, arguments, "bert_config.json", "--config-file", "--vocab-file")
    encoder = write_encoder(tmp_path / "encoder")
    arguments = ["convert", "--encoder", encoder, "--output", tmp_path / "new", "--vocab-file", encoder / "vocab.txt"]
    refused(capsys, tmp_path, arguments, "--vocab-file", "is not a Google checkpoint")


def test_what_googles_format_cannot_say_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    exact = write_encoder(tmp_path / "exact")
    said = done(capsys, "convert", "--encoder", exact, "--output", tmp_path / "a", "--format", "google").err
    assert "hidden_act gelu becomes gelu_tanh" in said
    assert "layer_norm_eps" not in said
    told = float(said.partition("differ by up to ")[2].partition(",")[0])
    one, other = (open_encoder(folder)[0].eval() for folder in (exact, tmp_path / "a"))
    ids = torch.randint(one.config.vocab_size, (96,), generator=torch.Generator().manual_seed(3))
    layout = Layout.packed([32, 32, 32])
    with torch.no_grad():
        a, b = (encoder(ids, ids * 0, torch.arange(32).repeat(3), layout).sequence_output for encoder in (one, other))
    assert 0.3 < (a - b).abs().max().item() / told < 3  # other words, so not the same figure
    tanh = write_encoder(tmp_path / "tanh", hidden_act="gelu_new", layer_norm_eps=1e-12)
    said = done(capsys, "convert", "--encoder", tanh, "--output", tmp_path / "b", "--format", "google").err
    assert "becomes" not in said
    wide = write_encoder(tmp_path / "wide", hidden_act="gelu_new", layer_norm_eps=1e-5)
    said = done(capsys, "convert", "--encoder", wide, "--output", tmp_path / "c", "--format", "google").err
    assert "layer_norm_eps 1e-05 becomes 1e-12" in said
