"""The model folder: transformers reads it and computes the same; what it tells of itself; broken ones are refused."""

import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
import yaml
from safetensors.torch import save_file

import bertune
from bertune import embedding
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.model import predicting
from bertune.model import use as model_module
from bertune.model.use import Model
from bertune.tasks.text_classification import TextExample
from bertune.tasks.user_files import TaskFile
from bertune.training.train import train
from tests.tiny import Row, opinions, pairs, weights, write_encoder, write_json, write_rows
from tests.tiny import bertune as run

LENGTH = 41
"""Room for a pair cut to equal sides: where they cannot be equal, transformers gives the odd token to the second."""
TEXTS: list[Any] = [
    "a good film",
    ("is it bad", "yes, awful!"),
    "",
    "y" * 99,
    "x" * 300,
    "the " * 90,
    ("good " * 50, "bad " * 50),
    ("good " * 50, "bad " * 5),
    ("good " * 5, "bad " * 50),
]


def make(folder: Path, rows: list[Row], task: str = "text-classification", **options: Any) -> Path:
    """A tiny fine-tuned model, with a validation split."""
    encoder = write_encoder(folder / "encoder")
    suffix = "jsonl" if task == "text-classification" else "tsv"
    data = write_rows(folder / f"train.{suffix}", rows)
    usual: dict[str, Any] = {
        "max_seq_length": LENGTH,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "epochs": 4,
        "device": "cpu",
        "validation": data,
    }
    train(task=task, encoder=encoder, train=data, output=folder / "model", **(usual | options))
    return folder / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fine-tuned model."""
    return make(tmp_path, list(opinions(48, labels=("bad", "good", "none"))))


def logits_of(model: Model, items: list[Any]) -> np.ndarray[Any, Any]:
    """What the head says. Shape: (items, labels)."""
    examples = [model.task.example(item) for item in items]
    features = model.task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="predict")
    return np.stack(infer(model.network, features).logits)


def their_logits(folder: Path, items: list[Any]) -> np.ndarray[Any, Any]:
    """What transformers makes of the folder, one item at a time, cut from the longer side."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = []
    for item in items:
        texts = [item] if isinstance(item, str) else list(item)
        inputs = tokenizer(*texts, truncation="longest_first", max_length=LENGTH, return_tensors="pt")
        with torch.inference_mode():
            rows.append(theirs(**inputs).logits[0].numpy())
    return np.stack(rows)


def test_transformers_computes_the_same(folder: Path) -> None:
    ours = logits_of(bertune.load(folder, precision="fp32"), TEXTS)
    theirs = their_logits(folder, TEXTS)
    assert ours.shape == theirs.shape == (len(TEXTS), 3)
    assert np.abs(ours - theirs).max() <= 1e-4
    assert np.ptp(ours, axis=0).min() > 1e-2  # the texts differ by more than that


def test_transformers_pipeline_names_the_labels(folder: Path) -> None:
    pipe = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    (answer,) = bertune.load(folder, precision="fp32").predict(["a good film"])
    (theirs,) = pipe(["a good film"])
    assert theirs["label"] == answer["label"]
    assert theirs["score"] == pytest.approx(answer["score"], abs=1e-4)


def test_transformers_takes_long_words_apart_too(folder: Path) -> None:
    texts = ["y" * 150]
    assert np.abs(logits_of(bertune.load(folder, precision="fp32"), texts) - their_logits(folder, texts)).max() <= 1e-4


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("mrpc", {"#1 String": "sentence1", "#2 String": "sentence2", "Quality": "label"}),
        ("rte", {"sentence1": "sentence1", "sentence2": "sentence2", "label": "label"}),
        ("sst2", {"sentence": "sentence1", "label": "label"}),
    ],
)
def test_glue_models_too(tmp_path: Path, task: str, columns: dict[str, str]) -> None:
    rows: list[Row] = [{name: row[source] for name, source in columns.items()} for row in pairs(32)]
    folder = make(tmp_path, rows, task, epochs=2)
    model = bertune.load(folder, precision="fp32")
    assert model.task.name == task
    assert np.abs(logits_of(model, TEXTS) - their_logits(folder, TEXTS)).max() <= 1e-4
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.id2label == {0: "no", 1: "yes"}
    assert config.architectures == ["BertForSequenceClassification"]


def test_padded_by_transformers_or_packed_by_us(folder: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = ["good", "a b c d e f g", "film is bad ."]
    with torch.inference_mode():
        padded = theirs(**tokenizer(texts, padding=True, return_tensors="pt")).logits.numpy()
    assert np.abs(logits_of(bertune.load(folder, precision="fp32"), texts) - padded).max() <= 1e-4


def test_what_the_folder_holds(folder: Path, tmp_path: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    expected = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    expected |= {"README.md", "bertune.json", "metrics.json", "run.yaml", "checkpoints"}
    assert expected <= names
    assert not any(name.startswith(".") or name.endswith(".writing") for name in names)
    assert (folder / "vocab.txt").read_bytes() == (tmp_path / "encoder" / "vocab.txt").read_bytes()
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.is_file()}
    assert len(set(modes.values())) == 1, modes


def test_metrics_json(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == {
        *("accuracy", "f1", "precision", "recall", "matthews_correlation", "loss"),
        *("train_examples_per_second", "train_seconds", "eval_examples_per_second", "record"),
    }
    assert all(isinstance(value, float) for name, value in metrics.items() if name != "record")
    rate = metrics["train_examples_per_second"] * metrics["train_seconds"]
    assert rate == pytest.approx(48 * 4)


def test_metrics_json_without_validation(tmp_path: Path) -> None:
    folder = make(tmp_path, list(opinions(16)), validation=None, validation_share=0, epochs=1)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() == {"train_examples_per_second", "train_seconds", "record"}


def sha256(path: Path) -> str:
    """Hash of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_bertune_json(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "bertune.json").read_text())
    assert record["weights_sha256"] == sha256(folder / "model.safetensors")
    data = {"file": str(tmp_path / "train.jsonl"), "rows": 48, "sha256": sha256(tmp_path / "train.jsonl")}
    assert record["data"] == dict.fromkeys(("train", "validation"), data | {"pairs": False})
    assert record["task"]["name"] == "text-classification"
    assert record["task"]["labels"] == ["bad", "good", "none"]
    assert record["max_seq_length"] == LENGTH
    assert record["encoder"] == str(tmp_path / "encoder")
    assert record["bertune"] == bertune.__version__
    assert record["versions"].keys() >= {"torch", "python", "tokenizers"}
    told = yaml.safe_load((folder / "run.yaml").read_text())
    del told["record"]
    assert record["options"] == told


def test_the_model_card_has_a_yaml_head(folder: Path, tmp_path: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    tree = yaml.safe_load(head)
    assert tree["pipeline_tag"] == "text-classification"
    assert tree["library_name"] == "transformers"
    assert tree["base_model"] == str(tmp_path / "encoder")
    for part in ("accuracy", "48", sha256(tmp_path / "train.jsonl")[:16], "AutoModelForSequenceClassification"):
        assert part in body


def test_predict_takes_texts_pairs_and_mappings(folder: Path) -> None:
    model = bertune.load(folder, precision="fp32")
    items = ["a good film", ("a", "pair"), ["a", "pair"], {"text": "a", "pair": "pair"}, {"text": "a good film"}]
    first, pair, *others, last = model.predict(iter(items))
    assert first.keys() == {"label", "score", "scores"}
    assert all(other["scores"] == pytest.approx(pair["scores"], abs=2e-6) for other in others)
    assert first["scores"] == pytest.approx(last["scores"], abs=2e-6)
    assert first["scores"] != pytest.approx(pair["scores"], abs=2e-6)
    assert model.predict([]) == []


@pytest.mark.parametrize("bad", [[5], [("a", "b", "c")], [None], [{"txt": "a"}], [("a", 5)], "a text", {"text": "a"}])
def test_predict_refuses_what_it_cannot_take(folder: Path, bad: Any) -> None:
    with pytest.raises(InputError, match="predict"):
        bertune.load(folder).predict(bad)


def test_predictions_are_a_stream(folder: Path) -> None:
    model = bertune.load(folder)
    read = 0

    def examples() -> Iterator[TextExample]:
        nonlocal read
        while True:
            read += 1
            yield TextExample("good film")

    stream = model.predict_examples(examples())
    next(stream)
    assert read == predicting.CHUNK


@pytest.fixture
def host_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, and in small chunks."""
    monkeypatch.setattr(model_module, "leaves_host_free", lambda device: True)
    monkeypatch.setattr(predicting, "CHUNK", 8)


def test_chunks_tokenized_ahead_give_the_same(
    folder: Path, host_is_free: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bertune.load(folder, precision="fp32")
    for count in (0, 1, 7, 8, 9, 16, 33):
        items = [TEXTS[i % len(TEXTS)] for i in range(count)]
        found = model.predict(iter(items))
        with monkeypatch.context() as changed:
            changed.setattr(model_module, "leaves_host_free", lambda device: False)
            assert found == model.predict(items)


def test_the_next_chunk_is_read_while_answers_are_used(folder: Path, host_is_free: None) -> None:
    model = bertune.load(folder)
    threads, read_on = set(), threading.Event()
    before = threading.active_count()

    def examples() -> Iterator[TextExample]:
        for count in itertools.count(1):
            threads.add(threading.current_thread())
            if count == 2 * predicting.CHUNK:
                read_on.set()
            assert count <= 3 * predicting.CHUNK
            yield TextExample("good film")

    stream = model.predict_examples(examples())
    next(stream)
    assert read_on.wait(10)
    assert len(threads) == 2
    for _ in range(predicting.CHUNK):
        next(stream)
    stream.close()
    assert threading.active_count() == before


def test_items_are_asked_for_in_the_callers_thread(folder: Path, host_is_free: None) -> None:
    threads = set()

    def items() -> Iterator[str]:
        for _ in range(50):
            threads.add(threading.current_thread())
            yield "a good film"

    assert len(bertune.load(folder).predict(items())) == 50
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("bad", [0, 3, 8, 20, 31])
def test_a_bad_row_is_told_as_without_a_thread(
    folder: Path, host_is_free: None, bad: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Row] = [{"text": 7 if i == bad else "a good film"} for i in range(32)]
    data = write_rows(folder.parent / "rows.jsonl", rows)
    arguments = ["predict", "--model", folder, "--input", data, "--output", "-", "--device", "cpu"]
    found = run(capsys, *arguments)
    monkeypatch.setattr(model_module, "leaves_host_free", lambda device: False)
    assert found == run(capsys, *arguments)
    assert found.status == 2
    assert f"line {bad + 1}" in found.err
    assert len(found.out.splitlines()) == bad // 8 * 8


def test_decoding_that_fails_leaves_no_thread(
    folder: Path, host_is_free: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, before = bertune.load(folder), threading.active_count()

    def fails(*arguments: Any) -> Any:
        raise LookupError("decoding")

    monkeypatch.setattr(type(model.task), "decode", fails)
    with pytest.raises(LookupError, match="decoding"):
        model.predict(["a good film"] * 40)
    assert threading.active_count() == before


def test_forward_passes_are_recorded_elsewhere_than_on_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for heads in a user's file. A device that holds nothing stands for a GPU."""
    assert bertune.load(folder, device="cpu").network.recorded is None
    assert embedding.Embedder(folder.parent / "encoder", device="cpu").network.recorded is None
    for module in (model_module, embedding):
        monkeypatch.setattr(module, "choose_device", lambda name: torch.device("meta"))
    assert bertune.load(folder).network.recorded is not None
    assert embedding.Embedder(folder.parent / "encoder").network.recorded is not None
    monkeypatch.setattr(model_module, "task_file_of", lambda task: TaskFile("mine.py", "0"))
    assert bertune.load(folder).network.recorded is None


def test_batch_size_and_company_do_not_change_answers(folder: Path) -> None:
    model = bertune.load(folder, precision="fp32")
    expected = [answer["scores"] for answer in model.predict(TEXTS)]
    for size in (1, 2, 5):
        for answer, scores in zip(model.predict(TEXTS, batch_size=size), expected, strict=True):
            assert answer["scores"] == pytest.approx(scores, abs=2e-6)


def broken(folder: Path, *told: str) -> None:
    """Loading must fail with a message that holds all of `told`."""
    with pytest.raises(InputError) as error:
        bertune.load(folder)
    missing = [part for part in told if part not in str(error.value)]
    assert not missing, str(error.value)


def test_weights_cut_short_or_overwritten(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for bad in (b"", data[:7], data[:100], data[:-1], data + b"x", b"\xff" * 8 + data[8:]):
        file.write_bytes(bad)
        broken(folder, str(file))
    file.unlink()
    broken(folder, str(folder), "model.safetensors")


def test_weights_with_one_bit_turned(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-3] ^= 64
    file.write_bytes(data)
    broken(folder, str(file), "SHA-256")


def test_every_missing_or_misshapen_tensor_is_named(folder: Path) -> None:
    state = weights(folder)
    del state["bert.encoder.layer.1.output.dense.bias"]
    del state["classifier.weight"]
    state["classifier.bias"] = torch.zeros(7)
    state["bert.embeddings.word_embeddings.weight"] = torch.zeros(3, 16)
    save_file(state, folder / "model.safetensors")
    parts = ("encoder.layer.1.output.dense.bias", "classifier.weight", "(7,)", "(3,)", "(3, 16)")
    broken(folder, *parts, "model.safetensors")


def test_a_model_without_a_pooler(folder: Path) -> None:
    state = weights(folder)
    del state["bert.pooler.dense.weight"], state["bert.pooler.dense.bias"]
    save_file(state, folder / "model.safetensors")
    broken(folder, "pooler.dense.weight", "pooler.dense.bias")


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_a_record_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "bertune.json").write_bytes(text.encode("latin1"))
    broken(folder, "bertune.json")


@pytest.mark.parametrize(
    "change",
    [
        {"task": None},
        {"task": {"name": "text-classification"}},
        {"task": {"name": "nonsense", "options": {}, "labels": ["a", "b", "c"]}},
        {"task": {"name": "text-classification", "options": {"colour": 1}, "labels": ["a", "b", "c"]}},
        {"max_seq_length": None},
        {"max_seq_length": "long"},
    ],
)
def test_a_record_of_something_else(folder: Path, change: dict[str, object]) -> None:
    record = json.loads((folder / "bertune.json").read_text())
    write_json(folder / "bertune.json", {key: value for key, value in (record | change).items() if value is not None})
    broken(folder, "bertune.json")


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    broken(tmp_path, str(tmp_path), "bertune.json")
    broken(tmp_path / "nowhere", "nowhere")


def test_a_device_that_is_not_there(folder: Path) -> None:
    with pytest.raises(InputError, match="device tpu"):
        bertune.load(folder, device="tpu")
    with pytest.raises(InputError, match="precision half"):
        bertune.load(folder, precision="half")
