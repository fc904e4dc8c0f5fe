"""extract_features: the recorded lines, and what it refuses."""

import json
from pathlib import Path

import pytest

from bertune.google import extract_features
from bertune.google.extract_features import layers_of, read_lines
from tests.tiny import VOCABULARY, write_encoder

from .conftest import Run


def test_lines_equal_the_original(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    folder, output = shared / "golden/features", tmp_path / "new/output.jsonl"
    flags = [f"--input_file={folder / 'input.txt'}", f"--output_file={output}", "--layers=-1,-2,0", "--batch_size=2"]
    run(extract_features.main, *tiny, *flags, "--max_seq_length=32")
    ours, theirs = (path.read_text().splitlines() for path in (output, folder / "output.jsonl"))
    for mine, original in zip(map(json.loads, ours), map(json.loads, theirs), strict=True):
        assert list(mine) == list(original) == ["linex_index", "features"]
        assert mine["linex_index"] == original["linex_index"]
        for one, other in zip(mine["features"], original["features"], strict=True):
            assert one["token"] == other["token"]
            assert [layer["index"] for layer in one["layers"]] == [layer["index"] for layer in other["layers"]]
            for layer, expected in zip(one["layers"], other["layers"], strict=True):
                assert layer["values"] == pytest.approx(expected["values"], abs=1e-4)


def test_any_source(run: Run, tiny: list[str], shared: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("one ||| two\n")
    flags = [f"--input_file={text}", "--layers=-1"]
    source = f"--init_checkpoint={shared / 'golden/hub/tiny_module'}"  # the same weights, vocabulary beside them
    run(extract_features.main, *tiny, *flags, f"--output_file={tmp_path / 'a'}")
    run(extract_features.main, source, *flags, f"--output_file={tmp_path / 'b'}")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_source_that_brings_its_vocabulary(run: Run, tmp_path: Path) -> None:
    """It has a casing of its own, which the flag does not change; messages name it, not a flag that was not given."""
    text = tmp_path / "text"
    text.write_text("Good film\n")
    flags = [f"--input_file={text}", "--layers=-1", "--max_seq_length=16", f"--output_file={tmp_path / 'out'}"]
    source = write_encoder(tmp_path / "source")
    start = [f"--init_checkpoint={source}", *flags]
    assert "--do_lower_case" not in run(extract_features.main, *start).err
    answer = run(extract_features.main, *start, "--do_lower_case=False")
    assert f"--do_lower_case=False is not used: {source} brings its own vocabulary, which lower-cases" in answer.err
    given = f"--vocab_file={source / 'vocab.txt'}"
    assert "is not used" not in run(extract_features.main, *start, "--do_lower_case=False", given).err
    (source / "vocab.txt").write_text((source / "vocab.txt").read_text() + "more\n")
    told = f"has {len(VOCABULARY) + 1} entries, but the model's vocab_size is {len(VOCABULARY)}"
    assert f"error: {source}: {told}" in run(extract_features.main, *start, status=2).err
    answer = run(extract_features.main, *start, given, status=2)
    assert f"error: --vocab_file {source / 'vocab.txt'}: {told}" in answer.err


def test_lines_and_pairs(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(" a ||| b ||| c \n\nd|||e\r\n ||| f")
    assert list(read_lines(path)) == [("a ||| b", "c"), ("", None), ("d|||e", None), ("||| f", None)]


def test_layers() -> None:
    assert layers_of("-1,-12,0", 12) == [(-1, 12), (-12, 1), (0, 1)]


def test_refusals(run: Run, tiny: list[str], tmp_path: Path) -> None:
    text, output = tmp_path / "text", tmp_path / "out"
    text.write_text("a\n")
    flags = [*tiny, f"--input_file={text}", f"--output_file={output}"]
    assert "3 layers" in run(extract_features.main, *flags, "--layers=3", status=2).err
    assert "128 positions" in run(extract_features.main, *flags, "--layers=0", "--max_seq_length=200", status=2).err
    answer = run(extract_features.main, *tiny[:2], f"--output_file={output}", status=2)
    assert "--init_checkpoint must be given" in answer.err
    assert "--input_file must be given" in answer.err
    text.write_bytes(b"good\n\xff\n")
    assert "not UTF-8" in run(extract_features.main, *flags, "--layers=-1", status=2).err
    assert not output.exists()
