"""`bertune export`: the folder, what it says of itself, and what is refused."""

import errno
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import tokenizers
import torch

import bertune
from bertune.cli.main import main
from bertune.encoder.config import EncoderConfig
from bertune.export import folder, quantized
from bertune.export.verification import canary_features
from bertune.tasks.masking.head import PretrainingHead
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import FAST, done, files, opinions, refused, train, write_rows

Capture = pytest.CaptureFixture[str]


def record_of(exported: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((exported / "onnx/verification.json").read_text())
    return found


def test_the_folder_holds_what_other_programs_look_for(exported: Path) -> None:
    assert set(files(exported)) >= {
        "onnx/model.onnx",
        "onnx/model_quantized.onnx",
        "onnx/verification.json",
        "bertune.json",
        "config.json",
        "metrics.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "README.md",
    }
    assert not [name for name in files(exported) if "safetensors" in name or "exporting" in name]
    assert json.loads((exported / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}
    kept = json.loads((exported / "bertune.json").read_text())
    assert kept["task"]["name"] == "text-classification"
    assert kept["export"] == {"format": 1, "precisions": ["fp32", "int8"]}


def test_onnx_runtime_with_tokenizers_alone_answers_as_the_model(exported: Path, model: Path) -> None:
    import onnxruntime

    texts = [str(row["text"]) for row in opinions(20, seed=7)]
    tokenizer = tokenizers.Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    session = onnxruntime.InferenceSession(str(exported / "onnx/model.onnx"))
    logits = session.run(
        ["logits"],
        {
            "input_ids": np.array([one.ids for one in encoded]),
            "attention_mask": np.array([one.attention_mask for one in encoded]),
            "token_type_ids": np.array([one.type_ids for one in encoded]),
        },
    )[0]
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, answer in zip(shares, bertune.load(model, precision="fp32").predict(texts), strict=True):
        np.testing.assert_allclose(row, [answer["scores"]["bad"], answer["scores"]["good"]], atol=1e-4)


def test_verification_says_how_the_graphs_compare(exported: Path) -> None:
    record = record_of(exported)
    assert record["data"]["file"] == "dev.jsonl"
    assert record["data"]["rows"] == 40
    plain, quantized = record["graphs"]["model.onnx"], record["graphs"]["model_quantized.onnx"]
    assert plain["largest_logit_difference"] < 1e-4 < quantized["largest_logit_difference"]
    assert plain["metrics"]["accuracy"] == record["pytorch"]["metrics"]["accuracy"] > 0.9
    assert plain["equal_answers"] == 1.0
    assert quantized["metric_lost"] <= 0.005
    assert quantized["float32_products"] == []
    graph = onnx.load(exported / "onnx/model_quantized.onnx").graph
    tables = {one.name: one.data_type for one in graph.initializer if one.name.startswith("embeddings.word")}
    assert tables == {"embeddings.word.weight_quantized": 3, "embeddings.word.weight_scale": 1}  # int8, float32
    assert all(len(graph["sha256"]) == 64 for graph in (plain, quantized))


def test_canaries_are_the_graphs_own_answers(exported: Path) -> None:
    import onnxruntime

    record = record_of(exported)
    assert 8 <= len(record["canaries"]) <= 16
    for name, graph in record["graphs"].items():
        session = onnxruntime.InferenceSession(str(exported / "onnx" / name))
        for canary in record["canaries"]:
            ids = np.array([canary["input_ids"]])
            feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            feed["token_type_ids"] = np.array([canary["token_type_ids"]])
            found = session.run(None, feed)[0][0]
            np.testing.assert_allclose(found, canary["logits"][name], atol=graph["canary_tolerance"])


@pytest.mark.parametrize("over_the_vocabulary", [False, True])
def test_canaries_of_a_large_vocabulary(over_the_vocabulary: bool) -> None:
    """Only an answer over the vocabulary is long; of all other heads sequences of many lengths are recorded."""
    config = EncoderConfig(vocab_size=30522, hidden_size=8, num_attention_heads=2)
    head = PretrainingHead(config, next_sentence=False) if over_the_vocabulary else torch.nn.Linear(8, 2)
    encoder = SimpleNamespace(config=config)
    tokenizer = SimpleNamespace(special=SimpleNamespace(cls=101, sep=102), vocab_size=30522)
    model: Any = SimpleNamespace(
        network=SimpleNamespace(encoder=encoder, head=head), tokenizer=tokenizer, max_seq_length=128
    )
    lengths = canary_features(model).input_ids.lengths
    assert lengths.min() == 3
    assert (len(lengths), lengths.max()) == (1, 3) if over_the_vocabulary else len(lengths) >= 8 and lengths.max() > 40


def test_the_card_says_what_was_exported(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    assert "library_name: transformers" in card
    assert "| `onnx/model.onnx` | fp32 |" in card
    assert "on 40 rows of dev.jsonl" in card


def test_without_the_validation_file_the_graph_is_compared_on_made_up_rows(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    moved = tmp_path / "model"
    shutil.copytree(model, moved)
    described = json.loads((moved / "bertune.json").read_text())
    described["data"]["validation"]["file"] = "gone.jsonl"
    (moved / "bertune.json").write_text(json.dumps(described))
    done(capsys, "export", "--model", moved, "--output", tmp_path / "out")
    record = record_of(tmp_path / "out")
    assert record["data"] is None
    assert record["graphs"]["model.onnx"]["rows_compared"] >= 10
    told = refused(
        capsys, tmp_path, ["export", "--model", moved, "--output", tmp_path / "new", "--precision", "int8"], "--data"
    )
    assert "labelled data" in told


def test_only_int8_leaves_no_other_graph(model: Path, tmp_path: Path, capsys: Capture) -> None:
    done(capsys, "export", "--model", model, "--output", tmp_path / "out", "--precision", "int8")
    assert sorted(path.name for path in (tmp_path / "out/onnx").iterdir()) == [
        "model_quantized.onnx",
        "verification.json",
    ]


def test_what_cannot_be_exported_is_refused_and_nothing_written(
    model: Path, folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "file").write_text("mine")
    empty = write_rows(tmp_path / "strange.jsonl", [{"text": "the film", "label": "unheard of"}])
    plain = ["export", "--model", model, "--output"]
    refused(capsys, tmp_path, [*plain, used], "is in use")
    refused(capsys, tmp_path, [*plain, used / "file"], "is in use")
    refused(capsys, tmp_path, [*plain, tmp_path / "a", "--precision", "fp16"], "fp16", "fp32 and int8")
    refused(capsys, tmp_path, [*plain, tmp_path / "a", "--data", tmp_path / "none.csv"], "none.csv")
    refused(capsys, tmp_path, [*plain, tmp_path / "a", "--data", empty], "unheard of")
    refused(capsys, tmp_path, [*plain, tmp_path / "a", "--tolerance", "0"], "--tolerance 0", "e-0")
    refused(capsys, tmp_path, ["export", "--model", tmp_path, "--output", tmp_path / "a"], "bertune.json is missing")


def test_lengths_beyond_the_positions_are_refused(model: Path, tmp_path: Path, capsys: Capture) -> None:
    longer = Path(shutil.copytree(model, tmp_path / "model"))
    described = json.loads((longer / "bertune.json").read_text()) | {"max_seq_length": 65}
    (longer / "bertune.json").write_text(json.dumps(described))
    refused(capsys, tmp_path, ["export", "--model", longer, "--output", tmp_path / "out"], "max_seq_length 65", "64")


@pytest.mark.parametrize("version", ["1.16.3", "1.9.0", "0.5"])
def test_an_old_onnxruntime_is_refused(
    version: str, model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "__version__", version)
    told = f"onnxruntime {version} is too old; it must be at least 1.17"
    refused(capsys, tmp_path, ["export", "--model", model, "--output", tmp_path / "out"], told)


def test_a_tokenizer_that_only_vocab_txt_describes_is_written_whole(
    model: Path, tmp_path: Path, capsys: Capture
) -> None:
    bare = Path(shutil.copytree(model, tmp_path / "model"))
    (bare / "tokenizer.json").unlink()
    done(capsys, "export", "--model", bare, "--output", tmp_path / "out")
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert tokenizer.encode("a fine film!").tokens == ["[CLS]", "a", "fine", "film", "!", "[SEP]"]


def test_a_tokenizer_that_is_not_self_contained_is_refused(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not there at all, one of another library, and one whose written file gives other tokens."""
    folder = Path(shutil.copytree(model, tmp_path / "model"))
    arguments = ["export", "--model", folder, "--output", tmp_path / "out"]
    (folder / "tokenizer.json").unlink()
    vocabulary = (folder / "vocab.txt").read_bytes()
    (folder / "vocab.txt").unlink()
    refused(capsys, tmp_path, arguments, "tokenizer")
    (folder / "spiece.model").write_bytes(b"sentencepiece")
    refused(capsys, tmp_path, arguments, "spiece.model")
    (folder / "spiece.model").unlink()
    (folder / "vocab.txt").write_bytes(vocabulary)

    def save(_: Tokenizer, target: Path, *, max_length: int) -> None:
        (target / "vocab.txt").write_bytes(vocabulary.replace(b"good", b"gold"))

    monkeypatch.setattr(Tokenizer, "save", save)
    refused(capsys, tmp_path, arguments, "is not self-contained", "nothing was written")


def test_inspect_reads_an_exported_folder_and_finds_damage(exported: Path, tmp_path: Path, capsys: Capture) -> None:
    facts = json.loads(done(capsys, "inspect", exported, "--json").out)
    assert facts["format"] == "ONNX"
    assert facts["labels"] == ["bad", "good"]
    assert facts["graphs"]["model.onnx"].startswith("fp32, logits within")
    assert "accuracy 1.0000" in facts["graphs"]["model_quantized.onnx"]
    done(capsys, "inspect", exported)
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    graph = copy / "onnx/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"!")
    (copy / "onnx/model_quantized.onnx").unlink()
    refused(capsys, tmp_path, ["inspect", copy], "model.onnx: its SHA-256 is", "model_quantized.onnx: is missing")


def shuffled(numbers: Any) -> Any:
    """The same numbers in other places: a product that means nothing."""
    return np.random.default_rng(0).permutation(numbers.ravel()).reshape(numbers.shape)


def test_int8_that_loses_too_much_goes_back_to_float32_product_by_product(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed-forward products are made worthless in 8 bits: they must be found, and written in float32."""
    plain = quantized.paired_weight

    def spoil(weight: Any) -> Any:
        numbers, steps = plain(weight)
        return (shuffled(numbers), steps * -400) if 32 in weight.shape else (numbers, steps)

    monkeypatch.setattr(quantized, "paired_weight", spoil)
    out = tmp_path / "out"
    done(capsys, "export", "--model", model, "--output", out, "--precision", "int8")
    graph = record_of(out)["graphs"]["model_quantized.onnx"]
    assert any("feed_forward" in name for name in graph["float32_products"])
    assert len(graph["float32_products"]) <= 6
    assert graph["metrics"]["accuracy"] == 1.0
    assert graph["metric_lost"] <= 0.005


def test_int8_that_cannot_be_saved_is_refused_with_the_figures(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = quantized.paired_weight

    def spoil(weight: Any) -> Any:
        numbers, steps = plain(weight)
        return shuffled(numbers), steps * -400

    monkeypatch.setattr(quantized, "paired_weight", spoil)
    arguments = ["export", "--model", model, "--output", tmp_path / "out", "--precision", "int8"]
    refused(capsys, tmp_path, arguments, "accuracy falls by", "--max-loss 0.005", "nothing was written")


def test_the_validation_rows_are_found_from_another_working_directory(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their path was given from where the run was started; run and data may also have moved together."""
    first, here = tmp_path / "first", tmp_path / "here"
    (first / "data").mkdir(parents=True)
    here.mkdir()
    write_rows(first / "data" / "dev.jsonl", opinions(20, seed=1))
    monkeypatch.chdir(first)
    train(capsys, first, opinions(24), "--validation", "data/dev.jsonl", *FAST)
    first.rename(tmp_path / "moved")
    monkeypatch.chdir(here)
    done(capsys, "export", "--model", tmp_path / "moved" / "model", "--output", "out")
    assert record_of(here / "out")["data"]["rows"] == 20
    kept = json.loads((here / "out" / "bertune.json").read_text())["data"]["validation"]
    assert kept["file"] == "data/dev.jsonl"
    assert "from_folder" not in kept


def test_outputs_that_cannot_be_are_refused_in_a_line(
    exported: Path, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    def told(model: Path, output: Path) -> str:
        assert main(["export", "--model", str(model), "--output", str(output)]) == 2
        captured = capsys.readouterr().err
        assert "Traceback" not in captured
        (message,) = [line for line in captured.splitlines() if line.startswith("error: ")]
        return message

    assert "is an exported model, which has no weights" in told(exported, tmp_path / "again")
    assert "is inside the model's folder" in told(model, model / "onnx")
    (tmp_path / "file").touch()
    assert "cannot be written" in told(model, tmp_path / "file" / "out")


def test_a_full_disk_leaves_nothing(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "save_graph", full)
    assert main(["export", "--model", str(model), "--output", str(tmp_path / "out")]) == 1
    assert f"--output {tmp_path / 'out'}: cannot be written: No space left on device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_without_validation_says_so(model: Path, tmp_path: Path, capsys: Capture) -> None:
    moved = Path(shutil.copytree(model, tmp_path / "model"))
    described = json.loads((moved / "bertune.json").read_text())
    del described["data"]["validation"]
    (moved / "bertune.json").write_text(json.dumps(described))
    arguments = ["export", "--model", moved, "--output", tmp_path / "new", "--precision", "int8"]
    assert "trained without validation data; name some with --data" in refused(capsys, tmp_path, arguments, "--data")
