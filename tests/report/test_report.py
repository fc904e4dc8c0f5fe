"""Reports of tiny models of every task: figures, page, files, refusals, hostile texts."""

import csv
import html.parser
import json
import re
from pathlib import Path

import pytest

import bertune
from bertune.errors import InputError
from bertune.report.options import ReportOptions
from bertune.report.write import write_report
from tests import runs, tiny

TASKS = [
    "text-classification", "mrpc", "multi-label-classification", "regression", "token-classification",
    "question-answering", "multiple-choice", "embedding",
]  # fmt: skip


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags_of(text: str) -> list[tuple[str, dict[str, str | None]]]:
    tags = Tags()
    tags.feed(text)
    return tags.found


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_report_of_one_file(task: str, tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", task)
    runs.start(tmp_path / "run", options)
    found = write_report(tmp_path / "run", ReportOptions(data=str(options["train"]), resamples=100))
    text = found.html.read_text()
    names = [name for name, _ in tags_of(text)]
    assert names.count("h1") == 1
    assert not {"script", "img", "link", "iframe"} & set(names)
    assert not re.search(r"(src|href)=", text)
    figures = json.loads(found.json.read_text())
    metric = next(one for one in figures["metrics"] if one["metric"] == figures["metric"])
    assert metric["low"] <= metric["value"] <= metric["high"] or metric["low"] == pytest.approx(metric["high"])
    assert figures["rows"] == len(list(bertune.load(tmp_path / "run").task.read(Path(options["train"]), labelled=True)))
    assert f"{metric['value']:.4f}" in text
    with found.errors.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == figures["errors_in_all"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier, validated on rows of which some are labelled wrongly, and one of which is hostile."""
    folder = tmp_path_factory.mktemp("report")
    tiny.write_encoder(folder / "encoder")
    train = tiny.write_rows(folder / "train.jsonl", tiny.opinions(96))
    rows = [dict(row) for row in tiny.opinions(80, seed=1)]
    for row in rows[:4]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    rows[0]["text"] = f"<script>alert(1)</script>]]> {rows[0]['text']} =cmd()"
    rows[1]["text"] = f"=1+1 {rows[1]['text']}"
    dev = tiny.write_rows(folder / "dev.jsonl", rows)
    bertune.train(
        task="text-classification", encoder=folder / "encoder", train=train, validation=dev, output=folder / "run",
        max_seq_length=32, batch_size=8, learning_rate=1e-2, epochs=10, precision="fp32",
    )  # fmt: skip
    return folder / "run"


def test_the_report_of_the_recorded_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = tiny.done(capsys, "report", run, "--json", "--resamples", "100")
    figures = json.loads(answer.out)
    assert str(run / "report.html") in answer.err.replace("\n", "")
    accuracy = next(one for one in figures["metrics"] if one["metric"] == "accuracy")
    assert accuracy["value"] == pytest.approx(76 / 80)
    assert figures["errors_in_all"] == 4
    assert {one["row"] for one in figures["suspects"]} == {1, 2, 3, 4}
    assert figures["confusion"]["counts"][0][0] + figures["confusion"]["counts"][1][1] == 76
    assert set(figures["baselines"]) == {"majority", "tfidf_logistic_regression"}
    assert "train/loss" in figures["curves"]
    assert figures["slices"]


def test_hostile_texts_stay_texts(run: Path) -> None:
    found = write_report(run, ReportOptions(resamples=100, output=str(run.parent / "hostile.html")))
    text = found.html.read_text()
    assert "&lt;script&gt;alert(1)" in text
    assert "<script" not in text
    with found.errors.open(newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    assert any(one.startswith("'=1+1") for one in texts)
    assert not any(one.startswith("=") for one in texts)


def test_without_texts_no_row_leaves(run: Path) -> None:
    found = write_report(run, ReportOptions(resamples=100, texts=False, output=str(run.parent / "plain.html")))
    for path in (found.html, found.json, found.errors):
        assert "film" not in path.read_text()


def test_in_chinese(run: Path) -> None:
    found = write_report(run, ReportOptions(resamples=100, language="zh", output=str(run.parent / "zh.html")))
    text = found.html.read_text()
    assert 'lang="zh"' in text
    assert "混淆矩阵" in text


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": "nosuch.csv"}, "nosuch.csv"),
        ({"output": "report.pdf"}, "ends in .html"),
    ],
)
def test_what_cannot_be_is_refused(run: Path, options: dict[str, str], told: str) -> None:
    with pytest.raises(InputError) as error:
        write_report(run, ReportOptions(**options))  # type: ignore[arg-type]
    assert told in str(error.value)


def test_a_run_without_validation_asks_for_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.train(capsys, tmp_path, tiny.opinions(16), "--validation-share", 0)
    tiny.refused(capsys, tmp_path, ["report", model], "name labelled rows with --data")
    tiny.refused(capsys, tmp_path, ["report"], "name one folder")
    tiny.refused(capsys, tmp_path, ["report", tmp_path / "nosuch"], "nosuch: there is no such folder")


def test_in_a_notebook_the_page_shows_itself(run: Path) -> None:
    found = write_report(run, ReportOptions(resamples=100, output=str(run.parent / "notebook.html")))
    shown = found._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "sandbox" in shown
    assert "<script" not in shown
