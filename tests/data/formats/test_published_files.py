"""Files as their publishers and programs write them, through `bertune check` and a training step.

Each case says how many rows the file holds for training; what the rows mean is tested in `test_public_sets`.
"""

import json
from pathlib import Path

import pytest

from tests.data.formats.published import QUESTIONS, TEXT
from tests.data.formats.published_choices import ASKED, CHOSEN
from tests.data.formats.published_labels import LABELS, TAGGED
from tests.tiny import bertune, done, refused, write_encoder

SETS = {**LABELS, **TAGGED, **CHOSEN, **ASKED}
FAST = ["--max-steps", 1, "--max-seq-length", 32, "--batch-size", 2, "--device", "cpu", "--validation-share", 0]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.mark.parametrize("name", SETS)
def test_check_and_train(name: str, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = SETS[name]
    for file, text in published.files.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    data = [tmp_path / one for one in published.train or [next(iter(published.files))]]
    what = ["--task", published.task, "--train", *data, "--encoder", encoder, *published.options]
    findings = bertune(capsys, "check", *what, "--json")
    assert findings.status == 0, findings.err
    assert json.loads(findings.out)
    done(capsys, "train", *what, "--output", tmp_path / "out", *FAST)
    record = json.loads((tmp_path / "out" / "bertune.json").read_text(encoding="utf-8"))
    assert record["data"]["train"]["rows"] == published.rows


def test_wrong_offsets_without_the_option(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    published = ASKED["SQuAD-like rows, some with wrong offsets"]
    (tmp_path / "train.json").write_text(published.files["train.json"], encoding="utf-8")
    what = ["--task", QUESTIONS, "--train", tmp_path / "train.json", "--encoder", encoder]
    refused(capsys, tmp_path, ["train", *what, "--output", tmp_path / "out", *FAST], "--skip-bad", "9")


def test_a_column_of_texts_without_a_header(encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its first row is a text like the others, and is answered."""
    (tmp_path / "train.csv").write_text("text,label\ngood film,pos\nbad film,neg\n", encoding="utf-8")
    what = ["--task", TEXT, "--train", tmp_path / "train.csv", "--encoder", encoder]
    done(capsys, "train", *what, "--output", tmp_path / "out", *FAST)
    (tmp_path / "texts.csv").write_text('The film is good\n"It is bad, I think"\nFine\n', encoding="utf-8")
    output = tmp_path / "answers.jsonl"
    done(capsys, "predict", "--model", tmp_path / "out", "--input", tmp_path / "texts.csv", "--output", output)
    assert len(output.read_text(encoding="utf-8").splitlines()) == 3
