"""Several tasks and seeds, or a file of runs, become one table."""

import csv
import json
from pathlib import Path

import pytest

from bertune.evaluation import glue_submission
from bertune.training.options import TrainOptions
from bertune.training.study.table import Figure, rows_of, to_csv, to_latex
from tests.tiny import FAST, done, pairs, refused, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]


def glue(folder: Path) -> Path:
    """A folder as GLUE ships it, of three tasks."""
    for i, (name, columns) in enumerate(
        {"MRPC": ("#1 String", "#2 String"), "RTE": ("sentence1", "sentence2")}.items()
    ):
        (folder / name).mkdir(parents=True)
        labels = {"MRPC": ("0", "1"), "RTE": ("entailment", "not_entailment")}[name]
        for part, count in (("train", 24), ("dev", 16), ("test", 5)):
            rows = [
                {"index": n, columns[0]: row["sentence1"], columns[1]: row["sentence2"]}
                | (
                    {("Quality" if name == "MRPC" else "label"): labels[row["label"] == "yes"]}
                    if part != "test"
                    else {}
                )
                for n, row in enumerate(pairs(count, seed=i))
            ]
            write_rows(folder / name / f"{part}.tsv", rows)
    (folder / "CoLA").mkdir()
    for part, count in (("train", 24), ("dev", 16)):
        lines = (f"gj04\t{n % 2}\t\t{row['sentence1']}\n" for n, row in enumerate(pairs(count)))
        (folder / "CoLA" / f"{part}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def test_tasks_by_seeds_and_a_submission(tmp_path: Path, capsys: Capture) -> None:
    data, encoder, out = glue(tmp_path / "glue"), write_encoder(tmp_path / "encoder"), tmp_path / "out"
    command = ["train", "--task", "mrpc,rte,cola", "--seeds", "1-2", "--encoder", encoder, "--train", data]
    command += ["--output", out, *FAST, "--max-steps", "2", "--glue-submission", "--json"]
    answer = done(capsys, *command)
    table = json.loads(answer.out)["table"]
    shown = [(row["run"], row["metric"], len(row["values"])) for row in table]
    assert shown == [
        ("mrpc", "accuracy", 2), ("mrpc", "f1", 2), ("rte", "accuracy", 2), ("cola", "matthews_correlation", 2),
        ("average", "", 1),
    ]  # fmt: skip
    seeds = json.loads((out / "mrpc" / "seeds.json").read_text())
    assert table[0]["mean"] == pytest.approx(seeds["mean"]["accuracy"])
    assert table[1]["standard_deviation"] == pytest.approx(seeds["standard_deviation"]["f1"])
    figures = list(csv.DictReader((out / "figures.csv").open(encoding="utf-8")))
    assert len(figures) == 8
    assert {one["seed"] for one in figures} == {"1", "2"}
    assert "matthews_correlation" in (out / "table.txt").read_text(encoding="utf-8")
    submitted = (out / "submission" / "RTE.tsv").read_text(encoding="utf-8").splitlines()
    assert submitted[0] == "index\tprediction"
    assert [line.split("\t")[0] for line in submitted[1:]] == list("01234")
    assert {line.split("\t")[1] for line in submitted[1:]} <= {"entailment", "not_entailment"}
    assert "no GLUE test file beside" in answer.err  # of CoLA
    # One more run of the same study goes on where nothing is left to do; the figures stay.
    refused(capsys, tmp_path, command, "holds runs already")
    assert json.loads(done(capsys, *command, "--resume").out)["table"] == table


def test_glue_file_of_one_model(tmp_path: Path, capsys: Capture) -> None:
    data, encoder = glue(tmp_path / "glue"), write_encoder(tmp_path / "encoder")
    done(capsys, "train", "--task", "mrpc", "--encoder", encoder, "--train", data / "MRPC" / "train.tsv",
         "--output", tmp_path / "out", *FAST, "--max-steps", "1")  # fmt: skip
    predict = ["predict", "--model", tmp_path / "out", "--input", data / "MRPC" / "test.tsv", "--output-format", "glue"]
    done(capsys, *predict, "--output", tmp_path / "MRPC.tsv")
    assert len((tmp_path / "MRPC.tsv").read_text(encoding="utf-8").splitlines()) == 6
    refused(capsys, tmp_path, predict, "--output-format glue: needs --output FILE")


def test_a_file_of_runs(tmp_path: Path, capsys: Capture) -> None:
    write_rows(tmp_path / "train.csv", pairs(24))
    write_rows(tmp_path / "dev.csv", pairs(16, seed=1))
    (tmp_path / "runs.yaml").write_text(
        f"encoder: {write_encoder(tmp_path / 'encoder')}\ntask: text-classification\nmax-seq-length: 32\nmax_steps: 2\n"
        "train: train.csv\nvalidation: dev.csv\ndevice: cpu\nruns:\n"
        "  - {name: low rate, learning_rate: 1e-4}\n  - {name: high_rate, learning-rate: 1e-2, seeds: '3-4'}\n",
        encoding="utf-8",
    )
    answer = done(capsys, "train", "--runs", tmp_path / "runs.yaml", "--output", tmp_path / "out")
    for name in ("low rate", "high_rate", "average"):
        assert name in answer.err
    latex = (tmp_path / "out" / "table.tex").read_text(encoding="utf-8")
    assert r"high\_rate & text-classification & accuracy & $" in latex
    assert r" \pm " in latex
    assert "learning_rate: 0.0001" in (tmp_path / "out" / "low rate" / "run.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runs: []", "needs runs, a list of mappings"),
        ("runs: [{task: mrpc, train: a.tsv}]", "mrpc: needs --encoder"),
        ("runs: [{task: mrpc, encoder: minilm, train: a}, {task: mrpc, encoder: minilm, train: b}]", "called 'mrpc'"),
        ("runs: [{name: a/b, task: mrpc, encoder: minilm, train: a}]", "becomes a folder"),
        ("runs: [{task: mrpc, encoder: minilm, train: a, learning_rat: 1}]", "mrpc: no option --learning-rat"),
        ("runs: [{task: mprc, encoder: minilm, train: a}]", "did you mean mrpc?"),
        ("runs: [{task: mrpc, encoder: minilm, train: a, epochs: -1}]", "--epochs -1.0: must be above 0"),
    ],
)
def test_bad_files_of_runs(tmp_path: Path, capsys: Capture, text: str, told: str) -> None:
    (tmp_path / "runs.yaml").write_text(text, encoding="utf-8")
    refused(capsys, tmp_path, ["train", "--runs", tmp_path / "runs.yaml", "--output", tmp_path / "out"], told)


def test_tasks_without_files_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    base = ["train", "--task", "mrpc,rte", "--encoder", "minilm", "--output", tmp_path / "out", "--train"]
    one_file = write_rows(tmp_path / "train.csv", pairs(4))
    message = refused(capsys, tmp_path, [*base, one_file], "write {task} in its name")
    assert "problems" not in message
    refused(capsys, tmp_path, [*base, tmp_path], "holds no folder for mrpc", "holds no folder for rte")
    (tmp_path / "MRPC").mkdir()
    refused(capsys, tmp_path, [*base, tmp_path], "MRPC: holds no file whose name begins with train")


def test_figures_by_hand() -> None:
    figures = [Figure("a", "t", "e", seed, "f1", value) for seed, value in ((1, 0.5), (2, 0.7))]
    figures += [Figure("b_1", "t", "e", 1, "rmse", 2.5)]
    rows = rows_of(figures)
    assert [row.mean for row in rows] == pytest.approx([0.6, 2.5, 1.55])
    assert rows[0].deviation == pytest.approx(0.1414, abs=1e-4)
    assert to_csv(rows).splitlines()[1].startswith("a,t,f1,0.6,0.1414")
    assert r"a & t & f1 & $60.0 \pm 14.1$ & 2 \\" in to_latex(rows, "x & y")
    assert r"b\_1 & t & rmse & $2.5$ & 1 \\" in to_latex(rows, "x & y")
    assert r"\caption{x \& y}" in to_latex(rows, "x & y")


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1-5", (1, 2, 3, 4, 5)), ("7, 1-2", (7, 1, 2)), ("1", ()), ("3-1", ()), ("1-3,2", ()), ("1--3", ()), ("a", ())],
)
def test_ranges_of_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert TrainOptions(task="t", encoder="e", train="x", output="o", seeds=text).seed_list == seeds


def test_the_diagnostic_pairs_are_answered_with_mnli(tmp_path: Path) -> None:
    for name in ("MNLI/test_matched.tsv", "MNLI/test_mismatched.tsv", "diagnostic/diagnostic.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("index\tsentence1\tsentence2\n0\ta\tb\n")
    assert [name for _, name in glue_submission.tests_of("mnli", tmp_path / "MNLI")] == [
        "MNLI-m.tsv",
        "MNLI-mm.tsv",
        "AX.tsv",
    ]
    assert glue_submission.tests_of("rte", tmp_path / "MNLI") == []
