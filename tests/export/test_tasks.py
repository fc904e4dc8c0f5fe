"""Every task, trained on its sample data, exported: ONNX Runtime's rows decode to the model's own predictions."""

from pathlib import Path

import numpy as np
import pytest

import bertune
from bertune.export.running import for_task
from bertune.inference.evaluation import infer
from bertune.inference.onnx_model import OnnxModel
from tests.conformance import SAMPLES
from tests.tiny import bertune as command
from tests.tiny import done, write_encoder

TASKS = {
    "text-classification": ("intents", "csv", ()),
    "token-classification": ("entities", "conll", ()),
    "question-answering": ("handbook", "json", ("--layers", "mix")),
    "regression": ("similarity", "csv", ()),
    "multi-label-classification": ("topics", "csv", ("--layers", "last4")),
    "multiple-choice": ("choices", "jsonl", ()),
    "embedding": ("similarity", "csv", ("--pooling", "cls")),
}


@pytest.mark.parametrize("task", TASKS)
def test_train_export_and_compare(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, suffix, more = TASKS[task]
    write_encoder(tmp_path / "encoder", num_hidden_layers=4)
    train, dev = (SAMPLES / folder / f"{role}.{suffix}" for role in ("train", "dev"))
    model, out = tmp_path / "model", tmp_path / "onnx"
    fast = ["--max-seq-length", 48, "--max-steps", 3, "--learning-rate", "1e-3", "--device", "cpu", *more]
    data = ["--train", train, "--validation", dev, "--encoder", tmp_path / "encoder"]
    done(capsys, "train", "--task", task, *data, "--output", model, *fast)
    done(capsys, "export", "--model", model, "--output", out)
    loaded = bertune.load(model, precision="fp32", device="cpu")
    examples = list(loaded.task.read(dev, labelled=False))[:20]
    features = loaded.task.featurize(examples, loaded.tokenizer, loaded.max_seq_length, purpose="predict")
    ours = OnnxModel(out / "onnx/model.onnx").rows(features)
    theirs = infer(loaded.network, features).logits
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    answers = [loaded.task.decode(rows, features, examples) for rows in (ours, theirs)]
    for one, two in zip(*answers, strict=True):
        assert loaded.task.predicted_answer(one) == loaded.task.predicted_answer(two)


def test_masked_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_encoder(tmp_path / "encoder")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(["the film is good. the film is fine.", "a film is bad."] * 20) + "\n")
    data = ["--train", text, "--max-seq-length", 24, "--max-steps", 3, "--batch-size", 4, "--validation-share", 0]
    pretrain = ["--encoder", tmp_path / "encoder", "--output", tmp_path / "model", "--device", "cpu"]
    done(capsys, "pretrain", *pretrain, *data)
    answer = command(
        capsys, "export", "--model", tmp_path / "model", "--output", tmp_path / "out", "--data", text,
        "--precision", "fp32", "int8", "--max-loss", "0.05",
    )  # fmt: skip
    assert answer.status == 0, answer.err
    model = bertune.load(tmp_path / "model", precision="fp32", device="cpu")
    examples = [model.task.example("the [MASK] is good"), model.task.example("[MASK] film [MASK]")]
    features = model.task.featurize(examples, model.tokenizer, 24, purpose="predict")
    rows = OnnxModel(tmp_path / "out/onnx/model.onnx").rows(features)
    assert rows[0].shape == (len(features.input_ids[0]), model.network.encoder.config.vocab_size)
    found = model.task.decode(for_task(model.network.head, rows, features), features, examples)
    expected = model.task.decode(infer(model.network, features).logits, features, examples)
    for one, two in zip(found, expected, strict=True):
        assert one["text"] == two["text"]
