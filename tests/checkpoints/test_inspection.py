"""`bertune inspect` on every kind of source."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bertune.cli.inspect import _in_short
from tests.test_conversion import google_checkpoint
from tests.tiny import VOCABULARY, done, opinions, refused, train, write_encoder

KEYS = {"format", "family", "sizes", "parameters", "tensors", "architectures", "heads", "vocabulary", "casing"}
KEYS |= {"special_tokens", "max_seq_length", "sha256"}


def inspect(capsys: pytest.CaptureFixture[str], source: object) -> dict[str, Any]:
    """What the command says; it is all there, and the hashes are those of the files."""
    facts: dict[str, Any] = json.loads(done(capsys, "inspect", source, "--json").out)
    assert facts.keys() >= KEYS
    folder = Path(str(source))
    if folder.is_dir():
        for name, found in facts["sha256"].items():
            assert found == hashlib.sha256((folder / name).read_bytes()).hexdigest(), name
    table = done(capsys, "inspect", source).out
    assert all(key in table for key in KEYS)
    return facts


def test_curves_are_counted_for_people() -> None:
    assert _in_short([[0.9, 1.0], [0.5, 0.8]]) == "2 entries"
    assert _in_short(["a", "b"]) == "a, b"
    assert _in_short([]) == "none"


@pytest.mark.parametrize("name", ["tiny", "tiny/bert_model.ckpt", "hub/tiny_module", "hub/tiny_module.tar.gz"])
def test_golden_checkpoints(name: str, capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    facts = inspect(capsys, shared / "golden" / name)
    assert facts["format"] == ("TF-Hub" if "hub" in name else "Google")
    assert facts["family"] == "bert"
    assert facts["sizes"]["num_hidden_layers"] == 3
    assert "rotary_base" not in facts["sizes"]  # only what differs from BERT
    assert facts["parameters"] == 1007616
    assert facts["heads"] == ([] if "hub" in name else ["masked-lm", "next-sentence"])
    assert facts["casing"] == "lower-cases"
    assert facts["special_tokens"]["cls"] == "[CLS] (101)"
    assert (facts["vocabulary"], facts["max_seq_length"]) == (30522, 128)


def test_a_saved_model_and_all_its_files(capsys: pytest.CaptureFixture[str], shared: Path) -> None:
    facts = inspect(capsys, shared / "golden/hub/tiny_savedmodel_v2")
    assert {"saved_model.pb", "variables/variables.index", "assets/vocab.txt"} <= facts["sha256"].keys()


def test_a_fine_tuned_google_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, _ = google_checkpoint(tmp_path / "squad", "question-answering", 2)
    assert inspect(capsys, source)["heads"] == ["question-answering"]


def test_a_model_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    facts = inspect(capsys, train(capsys, tmp_path, opinions(24)))
    assert facts["task"]["labels"] == ["bad", "good"]
    assert facts["architectures"] == ["BertForSequenceClassification"]
    assert facts["heads"] == ["text-classification"]


def test_bad_sources(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    settings = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(settings | {"model_type": "t5"}))
    refused(capsys, tmp_path, ["inspect", encoder], "config.json", "'t5'", "bert, roberta")
    (encoder / "config.json").write_text(json.dumps(settings | {"vocab_size": 3}))
    refused(capsys, tmp_path, ["inspect", encoder], f"{len(VOCABULARY)} entries", "only 3")
    refused(capsys, tmp_path, ["inspect", tmp_path / "nothing"], "no such file or folder", "org/name", "minilm")
    refused(capsys, tmp_path, ["inspect", tmp_path], "holds no encoder")


def test_a_fine_tuned_google_checkpoint_without_its_config(
    capsys: pytest.CaptureFixture[str], shared: Path, tmp_path: Path
) -> None:
    """Its config and vocabulary lie with the pretrained one; heads are recognised, optimizer slots left out."""
    tiny, finetuned = shared / "golden/tiny", shared / "golden/finetuned"
    refused(capsys, finetuned, ["inspect", finetuned], "no bert_config.json", "--config-file", "--vocab-file")
    ours = shutil.copytree(finetuned, tmp_path / "output_dir") / "bertune"
    ours.mkdir()
    (ours / "config.json").write_text("{}", encoding="utf-8")
    refused(capsys, tmp_path, ["inspect", ours.parent], f"or name {ours}, the model folder beside it")
    files = ["--config-file", tiny / "bert_config.json", "--vocab-file", tiny / "vocab.txt"]
    facts = json.loads(done(capsys, "inspect", *files, finetuned, "--json").out)
    assert (facts["format"], facts["heads"]) == ("Google", ["text-classification"])
    assert "adam" not in facts["tensors"]
    refused(capsys, finetuned, ["inspect", "minilm", *files], "is not a Google checkpoint")
