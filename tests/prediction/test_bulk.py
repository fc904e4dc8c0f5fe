"""Predictions of any input, in any output, shared by several processes, stopped and gone on with."""

import csv
import gzip
import io
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.distributed.ray_map import _Read
from bertune.model.use import load
from bertune.prediction.answerers import ModelAnswerer
from bertune.prediction.examples import ExampleStream
from bertune.prediction.parts import Parts
from bertune.prediction.ray_engine import _Lane
from bertune.prediction.shards import Share
from tests.tiny import Row, bertune, done, opinions, refused, train, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]
COUNT = 23


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return [{"id": i, **row} for i, row in enumerate(opinions(COUNT, seed=3))]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bertune.training.train import train as train_in_python

    folder = tmp_path_factory.mktemp("model")
    encoder = write_encoder(folder / "encoder")
    data = write_rows(folder / "train.jsonl", opinions(32))
    options = {"max_seq_length": 32, "batch_size": 8, "learning_rate": 1e-2, "epochs": 2, "device": "cpu"}
    train_in_python(task="text-classification", encoder=encoder, train=data, output=folder / "run", **options)
    return folder / "run"


@pytest.fixture
def data(tmp_path: Path, rows: list[Row]) -> Path:
    return write_rows(tmp_path / "data.jsonl", rows)


@pytest.fixture
def whole(tmp_path: Path, capsys: Capture, model: Path, data: Path) -> bytes:
    """The answers in one go."""
    done(capsys, "predict", "--model", model, "--input", data, "--output", tmp_path / "whole.jsonl")
    return (tmp_path / "whole.jsonl").read_bytes()


def parts_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("part-*")))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "tsv", "parquet", "jsonl.gz", "jsonl.zst", "csv.zst"])
def test_every_input_gives_the_same(
    tmp_path: Path, capsys: Capture, model: Path, rows: list[Row], whole: bytes, suffix: str
) -> None:
    file = write_rows(tmp_path / f"in.{suffix.removesuffix('.zst')}", rows)
    if suffix.endswith(".zst"):
        with pa.CompressedOutputStream(str(tmp_path / f"in.{suffix}"), "zstd") as stream:
            stream.write(file.read_bytes())
        file = tmp_path / f"in.{suffix}"
    done(capsys, "predict", "--model", model, "--input", file, "--output", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert not (tmp_path / "out.jsonl.parts").exists()


def test_empty_texts_are_answered_and_told_once(tmp_path: Path, capsys: Capture, model: Path) -> None:
    data = write_rows(tmp_path / "in.csv", [{"text": text} for text in ("fine", "", "bad", " ", "", "", "good")])
    command = ["predict", "--model", model, "--input", data, "--output", tmp_path / "out.csv"]
    told = done(capsys, *command, "--shard", "0/1").err
    assert told.count("4 of 7 rows have an empty text in column 'text' (lines 3, 5, 6, …)") == 1
    assert "answered all the same" in told
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 1 + 7


def test_readers_have_no_model(model: Path) -> None:
    """What reads examples goes to every reading task of Ray, and says its name where Ray finds it large."""
    loaded = load(model, device="cpu")
    answerer = ModelAnswerer(loaded)
    lane = _Lane(ExampleStream([], answerer.read), Share(), frozenset(), 0, 1)
    weights = sum(4 * weight.numel() for weight in loaded.network.parameters())
    assert len(pickle.dumps(lane)) < 4000 < weights
    assert _Read(lane).__name__


def test_folder_and_pattern(tmp_path: Path, capsys: Capture, model: Path, rows: list[Row], whole: bytes) -> None:
    """Files in the order of their names, whatever their formats; hidden files and others are passed over."""
    folder = tmp_path / "many"
    (folder / "deeper").mkdir(parents=True)
    write_rows(folder / "a.jsonl", rows[:9])
    write_rows(folder / "b.csv", rows[9:10])
    write_rows(folder / "deeper" / "c.parquet", rows[10:])
    write_rows(folder / ".hidden.jsonl", rows)
    (folder / "README.md").write_text("not data", encoding="utf-8")
    for i, spec in enumerate([folder, f"{folder}/**/*.[cjp]*"]):
        done(capsys, "predict", "--model", model, "--input", spec, "--output", tmp_path / f"{i}.jsonl")
        assert (tmp_path / f"{i}.jsonl").read_bytes() == whole
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(
        capsys, empty, ["predict", "--model", model, "--input", f"{empty}/*.csv", "--output", empty / "x"], "no file"
    )


def test_every_output(tmp_path: Path, capsys: Capture, model: Path, data: Path, whole: bytes) -> None:
    expected = [json.loads(line) for line in whole.splitlines()]
    for suffix in ("jsonl.gz", "jsonl.zst", "csv", "tsv", "parquet"):
        done(capsys, "predict", "--model", model, "--input", data, "--output", tmp_path / f"out.{suffix}")
    assert gzip.decompress((tmp_path / "out.jsonl.gz").read_bytes()) == whole
    with pa.input_stream(str(tmp_path / "out.jsonl.zst"), compression="zstd") as stream:
        assert stream.read() == whole
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == expected
    for suffix, separator in (("csv", ","), ("tsv", "\t")):
        text = (tmp_path / f"out.{suffix}").read_text(encoding="utf-8")
        found = list(csv.DictReader(io.StringIO(text), delimiter=separator))
        assert [row["label"] for row in found] == [row["label"] for row in expected]
        assert [json.loads(row["scores"]) for row in found] == [row["scores"] for row in expected]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_columns_are_kept(tmp_path: Path, capsys: Capture, model: Path, rows: list[Row], suffix: str) -> None:
    data, output = write_rows(tmp_path / f"in.{suffix}", rows), tmp_path / f"out.{suffix}"
    done(capsys, "predict", "--model", model, "--input", data, "--output", output, "--keep-columns")
    if suffix == "jsonl":
        found = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    elif suffix == "csv":
        found = list(csv.DictReader(io.StringIO(output.read_text(encoding="utf-8"))))
    else:
        found = pq.read_table(output).to_pylist()
    assert [str(row["id"]) for row in found] == [str(i) for i in range(COUNT)]
    assert [row["input_label"] for row in found] == [row["label"] for row in rows]
    assert set(found[0]) == {"id", "text", "input_label", "label", "score", "scores"}


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_joined_are_the_whole(
    tmp_path: Path, capsys: Capture, model: Path, data: Path, whole: bytes, count: int
) -> None:
    files = []
    for i in range(count):
        options = ["--model", model, "--input", data, "--shard", f"{i}/{count}"]
        files.append(tmp_path / f"shard-{i}.jsonl")
        done(capsys, "predict", *options, "--output", files[-1])
        folder = f"{tmp_path / 'folder'}/"
        done(capsys, "predict", *options, "--output", folder, "--rows-per-part", 4)
    assert b"".join(file.read_bytes() for file in files) == whole
    assert parts_of(tmp_path / "folder") == whole
    assert len(list((tmp_path / "folder").glob("part-*"))) == 6


def test_more_shards_than_rows(tmp_path: Path, capsys: Capture, model: Path, rows: list[Row]) -> None:
    data = write_rows(tmp_path / "two.csv", rows[:2])
    for i in range(5):
        options = ["--model", model, "--input", data, "--shard", f"{i}/5"]
        done(capsys, "predict", *options, "--output", tmp_path / f"{i}.csv")
    joined = "".join((tmp_path / f"{i}.csv").read_text(encoding="utf-8") for i in range(5))
    assert [row["label"] in ("bad", "good") for row in csv.DictReader(io.StringIO(joined))] == [True, True]


@pytest.mark.parametrize("shard", ["4/4", "1", "-1/2", "a/b", "0/0"])
def test_impossible_shards(tmp_path: Path, capsys: Capture, model: Path, data: Path, shard: str) -> None:
    options = ["--model", model, "--input", data, "--output", tmp_path / "x.jsonl", f"--shard={shard}"]
    refused(capsys, tmp_path, ["predict", *options], f"--shard {shard}", "from 0")


def stopped_after(monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Let the power fail while the next part is written."""
    real, count = Parts.writing, iter(range(100))

    def writing(self: Parts, number: int) -> Iterator[object]:
        if next(count) == parts:
            raise KeyboardInterrupt
        return real(self, number)  # type: ignore[return-value]

    monkeypatch.setattr(Parts, "writing", writing)


@pytest.mark.parametrize("output", ["out.jsonl", "out/"])
def test_a_stopped_run_goes_on(
    tmp_path: Path, capsys: Capture, model: Path, data: Path, whole: bytes, output: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    options = ["--model", model, "--input", data, "--output", f"{tmp_path}/{output}", "--rows-per-part", 5]
    with monkeypatch.context() as patch:
        stopped_after(patch, 3)
        assert bertune(capsys, "predict", *options).status == 130
    folder = tmp_path / ("out.jsonl.parts" if output == "out.jsonl" else "out")
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*")}
    assert len(before) == 3
    damaged = folder / "part-00001.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b"good", b"evil").replace(b"bad", b"sad"))
    told = done(capsys, "predict", *options, "--resume").err
    # Not the part whose hash is another.
    assert told.count("is finished") == 2 if output == "out/" else "out.jsonl: 10 answers of the stopped run" in told
    found = parts_of(folder) if output == "out/" else (tmp_path / output).read_bytes()
    assert found == whole
    assert folder.exists() == (output == "out/")


def test_parts_of_another_run_are_not_mixed(
    tmp_path: Path, capsys: Capture, model: Path, data: Path, rows: list[Row]
) -> None:
    folder = f"{tmp_path / 'out'}/"
    options = ["--model", model, "--input", data, "--output", folder]
    done(capsys, "predict", *options)
    assert done(capsys, "predict", *options, "--resume").err.count("is finished") == 1
    write_rows(data, rows[:-1])
    refused(capsys, tmp_path, ["predict", *options, "--resume"], "parts of another run", "inputs")


def test_bad_rows_are_left_out(tmp_path: Path, capsys: Capture, model: Path, rows: list[Row], whole: bytes) -> None:
    lines = [json.dumps(row) for row in rows]
    data = tmp_path / "data.jsonl"
    bad = {0: "{", 7: '{"text": 5}', 8: "[]", 20: b"\xff\xfe".decode("latin-1"), len(lines) + 4: '{"text": null}'}
    for at, line in bad.items():
        lines.insert(at, line)
    data.write_bytes("\n".join(lines).encode("latin-1"))
    options = ["predict", "--model", model, "--input", data, "--output"]
    refused(capsys, tmp_path, [*options, tmp_path / "out.jsonl"], "3 problems")
    told = done(capsys, *options, tmp_path / "out.jsonl", "--skip-bad").err
    assert "5 rows could not be read" in told
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    listed = [json.loads(line) for line in (tmp_path / "out.jsonl.bad.jsonl").read_text("utf-8").splitlines()]
    assert sorted(row["line"] for row in listed) == [at + 1 for at in bad]
    assert {row["file"] for row in listed} == {str(data)}
    done(capsys, *options, tmp_path / "kept.jsonl", "--skip-bad", "--keep-columns")
    kept = [json.loads(line)["id"] for line in (tmp_path / "kept.jsonl").read_text("utf-8").splitlines()]
    assert kept == list(range(COUNT))


def test_bad_rows_of_shards_are_listed_once(tmp_path: Path, capsys: Capture, model: Path, rows: list[Row]) -> None:
    text = "id,text\n" + "".join(
        f"{row['id']},{row['text']}\n" + "1,2,3\n" * (i % 5 == 0) for i, row in enumerate(rows)
    )
    data = tmp_path / "data.csv"
    data.write_text(text, encoding="utf-8")
    folder = f"{tmp_path / 'out'}/"
    for i in range(3):
        options = ["--skip-bad", "--rows-per-part", 4, "--shard", f"{i}/3"]
        done(capsys, "predict", "--model", model, "--input", data, "--output", folder, *options)
    files = sorted((tmp_path / "out" / "_parts").glob("bad-*"))
    lines = [json.loads(line)["line"] for file in files for line in file.read_text("utf-8").splitlines()]
    assert sorted(lines) == [number for number, line in enumerate(text.splitlines(), 1) if line == "1,2,3"]
    assert len(parts_of(tmp_path / "out").splitlines()) == COUNT


def test_what_has_no_rows_has_no_columns(tmp_path: Path, capsys: Capture) -> None:
    article = {"title": "t", "paragraphs": [{"context": "film is good", "qas": [{"id": "1", "question": "is film?"}]}]}
    data = tmp_path / "squad.json"
    data.write_text(json.dumps({"data": [article]}), encoding="utf-8")
    rows = [
        {"question": "is film good", "context": "the film is good", "answers": {"text": ["good"], "answer_start": [12]}}
    ]
    model = train(capsys, tmp_path, rows * 4, task="question-answering")
    options = ["predict", "--model", model, "--input", data, "--output"]
    done(capsys, *options, tmp_path / "plain.jsonl")
    refused(capsys, tmp_path, [*options, tmp_path / "kept.jsonl", "--keep-columns"], "--keep-columns", "is not a table")


def test_embed(tmp_path: Path, capsys: Capture, rows: list[Row], data: Path) -> None:
    """The vectors of `bertune.embed`, whole, in shards, and as Parquet."""
    from bertune.embedding import embed

    encoder = write_encoder(tmp_path / "encoder")
    options = ["--encoder", encoder, "--input", data, "--device", "cpu"]
    done(capsys, "embed", *options, "--output", tmp_path / "all.jsonl")
    found = [json.loads(line)["embedding"] for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    expected = embed([str(row["text"]) for row in rows], encoder)
    assert np.allclose(found, expected, atol=1e-6)
    for i in range(2):
        done(capsys, "embed", *options, "--output", tmp_path / f"{i}.jsonl", "--shard", f"{i}/2")
    joined = b"".join((tmp_path / f"{i}.jsonl").read_bytes() for i in range(2))
    assert joined == (tmp_path / "all.jsonl").read_bytes()
    done(capsys, "embed", *options, "--output", tmp_path / "all.parquet", "--keep-columns")
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.schema.field("embedding").type == pa.list_(pa.float32())
    assert table.column("text").to_pylist() == [row["text"] for row in rows]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--output", "-", "--resume"], "--resume"),
        (["--resume"], "need --output"),
        (["--output", "x.parquet.gz"], "compressed inside"),
        (["--output", "x.jsonl", "--output-format", "csv"], "--output-format"),
        (["--output", "./", "--output-format", "xml"], "--output-format xml"),
        (["--output", "x.jsonl", "--rows-per-part", "0"], "--rows-per-part 0"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path, capsys: Capture, model: Path, data: Path, more: list[str], told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    refused(capsys, tmp_path, ["predict", "--model", model, "--input", data, *more], told)


def test_answers_never_replace_their_input(tmp_path: Path, capsys: Capture, model: Path, data: Path) -> None:
    before = data.read_bytes()
    for output in (data, tmp_path / "." / data.name):
        refused(
            capsys, tmp_path, ("predict", "--model", model, "--input", data, "--output", output), "is the input itself"
        )
    assert data.read_bytes() == before
