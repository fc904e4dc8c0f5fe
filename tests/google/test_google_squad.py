"""run_squad: its files, its answers from recorded logits, padding, going on, refusals."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import bertune
from bertune.checkpoints.source import open_encoder
from bertune.features import Features, Ragged
from bertune.google import run_squad
from bertune.google.padding import infer_padded, pad
from bertune.google.run_squad import SquadFlags, read_file, records
from bertune.google.squad_exact import google_features
from bertune.inference.evaluation import infer
from bertune.network import Network, pack
from bertune.tasks.squad.head import SpanHead
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.tensorflow_formats.tfrecord import read_records
from bertune.tokenization.tokenizer import Tokenizer

from .conftest import Run

SHORT = ["--max_seq_length=96", "--doc_stride=32", "--max_query_length=24", "--device=cpu"]


@pytest.fixture
def small(shared: Path, tmp_path: Path) -> Path:
    """A few questions of the recorded SQuAD 2.0 file, which have one answer or none."""
    tree = json.loads((shared / "golden/squad/v2.json").read_text())
    for article in tree["data"]:
        article["paragraphs"] = article["paragraphs"][:2]
    path = tmp_path / "small.json"
    path.write_text(json.dumps(tree))
    return path


def test_a_whole_run_writes_the_originals_files(run: Run, tiny: list[str], small: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    files = [f"--train_file={small}", f"--predict_file={small}", f"--output_dir={output}"]
    flags = [*tiny, *SHORT, *files, "--version_2_with_negative=True", "--train_batch_size=8", "--num_train_epochs=1"]
    answer = run(run_squad.main, *flags, "--do_train", "--do_predict", "--learning_rate=1e-3")
    ids = [qa["id"] for a in json.loads(small.read_text())["data"] for p in a["paragraphs"] for qa in p["qas"]]
    found = {
        name: json.loads((output / f"{name}.json").read_text())
        for name in ("predictions", "nbest_predictions", "null_odds")
    }
    assert all(list(answers) == ids for answers in found.values())
    assert all(
        list(entry) == ["text", "probability", "start_logit", "end_logit"]
        for entries in found["nbest_predictions"].values()
        for entry in entries
    )
    searched = re.search(r"best f1, ([\d.]+), comes with (--null_score_diff_threshold=\S+)", answer.err)
    assert searched, "the threshold search, which the original leaves to another program"
    bundle = TensorBundle(output / f"model.ckpt-{int(len(ids) / 8)}")
    assert {"cls/squad/output_weights", "cls/squad/output_weights/adam_m", "bert/pooler/dense/kernel"} <= set(
        bundle.names()
    )
    assert "bert/pooler/dense/kernel/adam_m" not in bundle.names(), "no gradient reaches the pooler"
    start, _ = open_encoder(Path(tiny[2].removeprefix("--init_checkpoint=")))
    np.testing.assert_array_equal(bundle.read("bert/pooler/dense/kernel"), start.pooler.weight.detach().numpy().T)
    model = bertune.load(output / "bertune", device="cpu", precision="fp32")
    assert model.predict([{"question": "Who won?", "context": "The team won in Paris."}])[0].keys() >= {"answer"}

    again = run(run_squad.main, *flags, "--do_predict", searched[2])
    assert f"f1 {searched[1]}  total" in again.err, "the threshold that was found gives the F1 that was promised"

    # Predicting alone restores the newest checkpoint, and another threshold makes other answers.
    before = found["null_odds"]
    low = min(before.values()) - 1
    run(run_squad.main, *flags, "--do_predict", f"--null_score_diff_threshold={low}")
    assert set(json.loads((output / "predictions.json").read_text()).values()) == {""}
    after = json.loads((output / "null_odds.json").read_text())
    assert after == pytest.approx(before, abs=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_windows_in_record_files_are_the_originals(training: bool, shared: Path) -> None:
    """Features in the recorded files' order, that is before run_squad shuffles the training questions."""
    folder = shared / "golden/squad"
    tokenizer = Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt")
    flags = SquadFlags(version_2_with_negative=True)
    examples = read_file(str(folder / "v2.json"), flags, training=training, strict=True)
    order = [
        question["id"]
        for a in json.loads((folder / "v2.json").read_text())["data"]
        for p in a["paragraphs"]
        for question in p["qas"]
    ]
    if training:
        assert [example.id for example in examples] != order
    examples.sort(key=lambda example: order.index(example.id))
    found = google_features(examples, tokenizer, training=training)
    mode = "train" if training else "eval"
    lines = (folder / f"v2.{mode}.len384.stride128.query64.features.jsonl").read_text().splitlines()
    for line, record in zip(lines, records(found, 384, training=training), strict=False):
        expected = json.loads(line)
        length = int(record["input_mask"].sum())
        assert record["unique_ids"].tolist() == [expected["unique_id"]]
        assert record["input_ids"][:length].tolist() == expected["input_ids"]
        assert not record["input_ids"][length:].any()
        assert record["segment_ids"][:length].tolist() == expected["segment_ids"]
        if training:
            assert record["start_positions"].tolist() == [expected["start_position"]]
            assert record["is_impossible"].tolist() == [int(expected["is_impossible"])]


def test_padding_reaches_no_real_position(shared: Path) -> None:
    encoder, _ = open_encoder(shared / "golden/tiny")
    network = Network(encoder, SpanHead(encoder.config)).eval()
    rng = np.random.default_rng(0)
    ids = Ragged.from_lists([rng.integers(1000, 2000, size).tolist() for size in (5, 32, 17)])
    features = Features(ids, Ragged(np.zeros_like(ids.values), ids.offsets), np.arange(3, dtype=np.int32))
    rows = infer_padded(network, features, 32)
    assert [row.shape for row in rows] == [(32, 2)] * 3
    for row, packed in zip(rows, infer(network, features).logits, strict=True):
        np.testing.assert_allclose(row[: len(packed)], packed, atol=1e-5)
    both = pad(features, np.arange(3), 32), pack(features, np.arange(3))
    assert both[0].layout.lengths.tolist() == both[1].layout.lengths.tolist()
    assert torch.equal(both[0].input_ids.view(3, 32)[0, :5], both[1].input_ids[:5])


def test_skipping_padding_trains_too(run: Run, tiny: list[str], small: Path, tmp_path: Path) -> None:
    flags = [*tiny, *SHORT, "--version_2_with_negative", "--num_train_epochs=1", "--train_batch_size=8"]
    flags += [f"--train_file={small}", f"--predict_file={small}", f"--output_dir={tmp_path}", "--do_train"]
    run(run_squad.main, *flags, "--do_predict", "--skip_padding")
    assert (tmp_path / "null_odds.json").is_file()
    assert next(iter(read_records(tmp_path / "train.tf_record"))).keys() >= {"start_positions", "is_impossible"}


def test_several_answers(run: Run, tiny: list[str], tmp_path: Path) -> None:
    answers = [{"text": text, "answer_start": 4} for text in ("cat", "cat sat")]
    tree = {
        "data": [
            {
                "paragraphs": [
                    {
                        "context": "The cat sat.",
                        "qas": [{"id": str(i), "question": "who?", "answers": answers} for i in range(8)],
                    }
                ]
            }
        ]
    }
    path = tmp_path / "several.json"
    path.write_text(json.dumps(tree))
    flags = [*tiny, *SHORT, f"--train_file={path}", f"--output_dir={tmp_path / 'out'}", "--train_batch_size=8"]
    strict = run(run_squad.main, *flags, "--do_train", "--strict_original", status=2)
    assert "2 answers" in strict.err
    assert not (tmp_path / "out").exists()
    assert "takes the first" in run(run_squad.main, *flags, "--do_train").err


def test_refusals(run: Run, tiny: list[str], tmp_path: Path) -> None:
    flags = [*tiny, f"--output_dir={tmp_path / 'out'}"]
    answer = run(run_squad.main, *flags, "--do_train", "--do_predict", "--max_seq_length=60", status=2)
    assert "needs --train_file" in answer.err
    assert "needs --predict_file" in answer.err
    assert "leaves no room" in answer.err
    answer = run(run_squad.main, *flags, status=2)
    assert "nothing to do" in answer.err
    broken = tmp_path / "broken.json"
    broken.write_text('{"data": [')
    answer = run(run_squad.main, *flags, "--do_predict", f"--predict_file={broken}", status=2)
    assert "broken.json" in answer.err
    assert not (tmp_path / "out").exists()
