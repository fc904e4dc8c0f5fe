"""What `bertune train` reads: several files, folders, one table of which a share is held out."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertune.errors import InputError
from bertune.evaluation.compare import compare
from bertune.model.use import load
from bertune.training.train import train
from tests.tiny import Row, opinions, write_encoder, write_rows


@pytest.fixture
def usual(tmp_path: Path) -> dict[str, Any]:
    write_encoder(tmp_path / "encoder")
    return {
        "task": "text-classification",
        "encoder": tmp_path / "encoder",
        "max_seq_length": 16,
        "batch_size": 8,
        "max_steps": 2,
        "device": "cpu",
    }


def three(folder: Path, count: int = 20) -> list[Path]:
    return [write_rows(folder / f"part{i}.csv", opinions(count, seed=i)) for i in range(3)]


def record(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / "bertune.json").read_text())["data"]
    return data


def test_several_files_are_recorded_each_with_its_hash(tmp_path: Path, usual: dict[str, Any]) -> None:
    parts = three(tmp_path)
    usual |= {"validation": parts[2], "train": parts[:2], "output": tmp_path / "out"}
    train(**usual)
    found = record(tmp_path / "out")
    assert [(one["file"], one["rows"]) for one in found["train"]["files"]] == [(str(part), 20) for part in parts[:2]]
    assert found["train"]["rows"] == 40
    assert "held_out" not in found["train"]
    train(**usual, resume=True)
    parts[1].write_text(parts[1].read_text().replace("good", "bad", 1))
    with pytest.raises(InputError, match=r"part1\.csv"):
        train(**usual, resume=True)


def test_a_pattern_and_a_bad_row_in_one_of_its_files(tmp_path: Path, usual: dict[str, Any]) -> None:
    parts = three(tmp_path)
    usual |= {"train": str(tmp_path / "part*.csv"), "output": tmp_path / "out"}
    parts[1].write_text(parts[1].read_text() + "no label here,\n")
    parts[2].write_text(parts[2].read_text() + "neither,\n")
    with pytest.raises(InputError) as error:
        train(**usual)
    assert "part1.csv, line 22" in str(error.value)
    assert "part2.csv, line 22" in str(error.value)


def test_a_strange_label_in_one_of_several_validation_files(tmp_path: Path, usual: dict[str, Any]) -> None:
    parts = three(tmp_path)
    strange: list[Row] = [{"text": "so so", "label": "mixed"}]
    odd = write_rows(tmp_path / "odd.csv", strange)
    with pytest.raises(InputError, match=r"odd\.csv, line 2.*'mixed'"):
        train(**usual, train=parts[0], validation=[parts[1], odd], output=tmp_path / "out")


def test_folders_of_classes_and_of_brat_train(tmp_path: Path, usual: dict[str, Any]) -> None:
    for number, row in enumerate(opinions(24)):
        folder = tmp_path / "classes" / str(row["label"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(str(row["text"]))
        (tmp_path / "brat").mkdir(exist_ok=True)
        (tmp_path / "brat" / f"{number}.txt").write_text(str(row["text"]))
        end = str(row["text"]).index(" ") if " " in str(row["text"]) else len(str(row["text"]))
        (tmp_path / "brat" / f"{number}.ann").write_text(f"T1\tW 0 {end}\t{str(row['text'])[:end]}\n")
    train(**usual, train=tmp_path / "classes", output=tmp_path / "one")
    assert record(tmp_path / "one")["validation"]["rows"] == 2
    train(**usual | {"task": "token-classification"}, train=tmp_path / "brat", output=tmp_path / "two")
    found = record(tmp_path / "two")
    assert found["train"]["rows"] + found["validation"]["rows"] == 24


def test_one_table_is_enough(tmp_path: Path, usual: dict[str, Any]) -> None:
    data = write_rows(tmp_path / "all.csv", opinions(40))
    result = train(**usual, train=data, output=tmp_path / "out")
    assert "accuracy" in result.metrics
    found = record(tmp_path / "out")
    assert (found["train"]["rows"], found["validation"]["rows"]) == (36, 4)
    assert found["validation"]["held_out"] == {"share": 0.1, "group_column": None, "part": "validation"}
    assert yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())["validation_share"] == 0.1
    again = train(**usual, train=data, output=tmp_path / "again", seed=7, validation_share=0.1)
    assert "accuracy" in again.metrics
    told = compare([tmp_path / "out", tmp_path / "again"])
    assert told["rows"] == 4
    train(**usual, train=data, output=tmp_path / "more", validation_share=0.5)
    with pytest.raises(InputError, match="other rows"):
        compare([tmp_path / "out", tmp_path / "more"])


def test_nothing_held_out_is_said(tmp_path: Path, usual: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    data = write_rows(tmp_path / "all.csv", opinions(40))
    train(**usual, train=data, output=tmp_path / "none", validation_share=0)
    assert "nothing is held out (--validation-share 0)" in caplog.text
    few = write_rows(tmp_path / "few.csv", opinions(4))
    train(**usual, train=few, output=tmp_path / "few")
    assert "4 rows, too few or too much alike to hold 0.1 of them out" in caplog.text
    with pytest.raises(InputError, match="which patience needs"):
        train(**usual, train=few, output=tmp_path / "needy", patience=2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"validation_share": 1.0}, "validation_share 1.0: must be at least 0 and below 1"),
        ({"validation_share": -0.1}, "validation_share -0.1"),
        ({"validation_share": 0.2, "validation": "all.csv"}, "leave one out"),
        ({"group_column": "who", "validation": "all.csv"}, "group_column who"),
        ({"validation_share": 0, "patience": 1}, "patience 1: counts evaluations"),
        ({"group_column": "who"}, "'who'"),
    ],
)
def test_shares_that_make_no_sense(tmp_path: Path, usual: dict[str, Any], options: dict[str, Any], told: str) -> None:
    data = write_rows(tmp_path / "all.csv", opinions(20))
    if "validation" in options:
        options = options | {"validation": data}
    with pytest.raises(InputError) as error:
        train(**usual, train=data, output=tmp_path / "out", **options)
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


def test_what_was_taken_is_logged(tmp_path: Path, usual: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    rows: list[Row] = [{"id": i, **row, "person": "x"} for i, row in enumerate(opinions(40))]
    data = write_rows(tmp_path / "all.csv", rows)
    caplog.set_level("INFO")
    train(**usual, train=data, output=tmp_path / "out")
    assert "all.csv: text from 'text', label from 'label'; not read: 'id', 'person'" in caplog.text
    assert "training data, " in caplog.text
    assert "labels: bad 18, good 18" in caplog.text or "labels: good 18, bad 18" in caplog.text
    assert "of the tokens are unknown" in caplog.text


def test_findings_name_the_file_of_several(
    tmp_path: Path, usual: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    one, two, _ = three(tmp_path)
    two.write_text(two.read_text() + "a text of its own,good\na text of its own,bad\n")
    train(**usual, train=[one, two], validation_share=0, output=tmp_path / "out")
    assert f"{two}, line 22" in caplog.text


def test_lower_casing_as_the_user_says(tmp_path: Path, usual: dict[str, Any]) -> None:
    data = write_rows(tmp_path / "all.csv", opinions(40))
    for lower in (True, False):
        out = tmp_path / str(lower)
        train(**usual, train=data, output=out, do_lower_case=lower)
        assert json.loads((out / "tokenizer_config.json").read_text())["do_lower_case"] is lower
        assert load(out).tokenizer.do_lower_case is lower
