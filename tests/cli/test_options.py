"""Command lines and YAML files: one tree of options, and what is told about wrong ones."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.options import option
from bertune.tasks.options import MultiLabelOptions
from bertune.training.options import TrainOptions
from tests.tiny import FAST, bertune, done, opinions, refused, same_weights, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]


@dataclass(frozen=True)
class Soup:
    """Options of a command that does not exist."""

    kind: str = option(help="what soup")
    salt_grams: float = option(1.5, help="grams of salt; 100 % of it is used")
    bowls: int | None = option(None, help="how many")
    hot: bool = option(True, help="whether it is hot")
    herbs: list[str] = option(["dill"], help="herbs")  # noqa: RUF009
    size: str = option("small", help="which size", choices=("small", "large"))


def soup(*arguments: object) -> dict[str, Any]:
    """What these arguments say."""
    return parse("bertune soup", "Soup.", [Soup], [str(argument) for argument in arguments])


def problem(*arguments: object) -> str:
    """What is told about these arguments."""
    with pytest.raises(InputError) as error:
        soup(*arguments)
    return str(error.value)


def test_only_what_was_said_comes_back() -> None:
    assert soup("--kind", "pea") == {"kind": "pea"}


@pytest.mark.parametrize("flag", ["--salt-grams", "--salt_grams"])
def test_dashes_and_underscores(flag: str) -> None:
    assert soup("--kind", "pea_and-bean", flag, "2") == {"kind": "pea_and-bean", "salt_grams": 2.0}
    assert soup("--kind=a_b", f"{flag}=1e-3") == {"kind": "a_b", "salt_grams": 0.001}


@pytest.mark.parametrize(
    ("said", "hot"), [("--hot", True), ("--no-hot", False), ("--hot=true", True), ("--hot=False", False)]
)
def test_yes_and_no(said: str, hot: bool) -> None:
    assert soup("--kind", "pea", said)["hot"] is hot


def test_lists() -> None:
    assert soup("--herbs", "dill", "mint", "--kind", "pea")["herbs"] == ["dill", "mint"]


def test_a_yaml_file_and_the_command_line_that_wins(tmp_path: Path) -> None:
    file = tmp_path / "soup.yaml"
    file.write_text("kind: pea\nsalt-grams: 1e-4\nbowls: 3\nhot: false\nherbs: [mint, dill]\nsize: null\n")
    said = {"kind": "pea", "salt_grams": 1e-4, "bowls": 3, "hot": False, "herbs": ["mint", "dill"]}
    assert soup("--config", file) == said
    assert soup("--config", file, "--bowls", 4, "--hot") == said | {"bowls": 4, "hot": True}
    file.write_text("herbs: mint\nkind: 7\n")
    assert soup("--config", file) == {"herbs": ["mint"], "kind": "7"}


def test_the_nearest_option_is_suggested() -> None:
    assert "--salt-grams" in problem("--kind", "pea", "--salt-gram", "2")
    assert "--salt-grams" in problem("--kind", "pea", "--saltgrams=2")
    assert "--help" in problem("--kind", "pea", "--quux", "2")


def test_every_problem_at_once() -> None:
    told = problem("--size", "huge", "--bowl", "2", "tomato")
    for part in ("--size huge", "small, large", "--bowl", "--bowls", "'tomato'", "--kind", "what soup"):
        assert part in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bowls: many", ["bowls", "'many'", "a whole number"]),
        ("bowls: 1.5", ["bowls", "1.5", "a whole number"]),
        ("bowls: true", ["bowls", "True", "a whole number"]),
        ("hot: 3", ["hot", "3", "true or false"]),
        ("hot: {a: b}", ["hot", "true or false"]),
        ("salt_grams: [1]", ["salt_grams", "[1]", "a number"]),
        ("salt_gram: 1", ["--salt-gram", "--salt-grams"]),
        ("size: huge", ["--size huge", "small, large"]),
        ("- kind\n- size", ["option names"]),
        ("7: 8", ["option names"]),
        ("", ["option names"]),
        ("kind: [", ["not a YAML file"]),
        ("kind: !!python/object/apply:os.getcwd []", ["not a YAML file"]),
        ("kind: \x00", ["not a YAML file"]),
    ],
)
def test_bad_yaml(tmp_path: Path, text: str, told: list[str]) -> None:
    file = tmp_path / "soup.yaml"
    file.write_text(text)
    message = problem("--kind", "pea", "--config", file)
    missing = [part for part in told if part not in message]
    assert not missing, message


def test_several_problems_of_a_yaml_file_and_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "soup.yaml"
    file.write_text("bowls: many\nhot: 3\nsize: huge\n")
    told = problem("--config", file, "--spice", "1")
    assert all(part in told for part in ("bowls", "hot", "--size", "--spice", "--kind", str(file)))


@pytest.mark.parametrize("data", [None, b"kind: \xff\xfe"])
def test_unreadable_yaml(tmp_path: Path, data: bytes | None) -> None:
    file = tmp_path / "soup.yaml"
    if data is not None:
        file.write_bytes(data)
    assert str(file) in problem("--config", file)


def test_a_value_of_another_type() -> None:
    told = problem("--kind", "pea", "--bowls", "many")
    assert "--bowls" in told
    assert "many" in told


def test_help_shows_defaults_and_choices(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        soup("--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert all(part in out for part in ("--salt-grams", "1.5", "100 %", "{small,large}", "--config", "--no-hot"))


def test_help_of_every_command(capsys: Capture) -> None:
    for verb in ("train", "evaluate", "predict", "inspect", "convert"):
        with pytest.raises(SystemExit) as end:
            bertune(capsys, verb, "--help")
        assert end.value.code == 0
        captured = capsys.readouterr()
        assert captured.out.startswith(f"usage: bertune {verb}")
        assert captured.err == ""


def test_a_task_brings_its_own_options(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        bertune(capsys, "train", "--task", "xnli", "--help")
    out = capsys.readouterr().out
    assert "--language" in out
    assert "--text-column" in out


def test_training_from_a_yaml_file(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    tree = {
        "task": "text-classification",
        "encoder": str(encoder),
        "train": str(data),
        "output": str(tmp_path / "one"),
        "max_seq_length": 16,
        "batch-size": 8,
        "learning_rate": "1e-3",
        "max_steps": 2,
        "text_column": "text",
        "device": "cpu",
    }
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(tree))
    done(capsys, "train", "--config", file)
    done(capsys, "train", "--config", file, "--output", tmp_path / "two", "--seed", 7)
    made = yaml.safe_load((tmp_path / "two" / "run.yaml").read_text())
    assert (made["seed"], made["max_steps"], made["learning_rate"]) == (7, 2, 0.001)
    assert not same_weights(tmp_path / "one", tmp_path / "two")


def test_underscores_on_the_whole_command_line(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options = ["--task", "text-classification", "--encoder", encoder, "--train", data]
    done(capsys, "train", *options, "--output", tmp_path / "dashes", *FAST)
    underscored = [option.replace("-", "_").replace("__", "--", 1) if "--" in option else option for option in FAST]
    assert "--max_seq_length" in underscored
    done(capsys, "train", *options, "--output", tmp_path / "underscores", *underscored)
    assert same_weights(tmp_path / "dashes", tmp_path / "underscores")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["--epochs", "0"], ["--epochs 0.0", "above 0"]),
        (["--epochs", "inf"], ["--epochs inf"]),
        (["--epochs", "nan"], ["--epochs nan"]),
        (["--batch-size", "0"], ["--batch-size 0", "at least 1"]),
        (["--learning-rate", "-0.001"], ["--learning-rate -0.001", "above 0"]),
        (["--learning-rate", "fast"], ["--learning-rate", "fast"]),
        (["--max-steps", "0"], ["--max-steps 0", "at least 1"]),
        (["--max-seq-length", "2"], ["--max-seq-length 2", "at least 3"]),
        (["--max-seq-length", "65"], ["--max-seq-length 65", "64 positions"]),
        (["--max-seq-length", "513"], ["--max-seq-length 513", "64 positions"]),
        (["--warmup-ratio", "2"], ["--warmup-ratio 2.0", "between 0 and 1"]),
        (["--warmup-ratio", "nan"], ["--warmup-ratio nan"]),
        (["--weight-decay", "-1"], ["--weight-decay -1.0", "at least 0"]),
        (["--weight-decay", "nan"], ["--weight-decay nan"]),
        (["--weight-decay", "inf"], ["--weight-decay inf"]),
        (["--max-grad-norm", "nan"], ["--max-grad-norm nan"]),
        (["--gradient-accumulation", "0"], ["--gradient-accumulation 0"]),
        (["--patience", "0"], ["--patience 0"]),
        (["--seed", "-1"], ["--seed -1", "at least 0"]),
        (["--precision", "bf17"], ["--precision bf17", "auto, bf16, fp16, fp32"]),
        (["--precision", "fp16", "--device", "cpu"], ["--precision fp16", "CPU"]),
        (["--device", "tpu"], ["--device tpu", "auto, cpu, cuda, mps"]),
        (["--task", "text-clasification"], ["--task text-clasification", "text-classification"]),
        (["--lerning-rate", "1"], ["--lerning-rate", "--learning-rate"]),
        (["--label_colum", "x"], ["--label-colum", "--label-column"]),
        (["--language", "de"], ["--language"]),
        (["--text-column", "txt"], ["'txt'", "--text-column", "text, label"]),
        (["--label-column", "lable"], ["'lable'", "--label-column", "text, label"]),
        (["--pair-column", "second"], ["'second'", "--pair-column"]),
        (["--encoder", "no/such/encoder"], ["--encoder no/such/encoder", "config.json", "minilm"]),
        (["--train", "no/such.csv"], ["no/such.csv"]),
        (["--validation", "no/such.csv"], ["no/such.csv"]),
        (["--resume"], ["--resume"]),
        (["--metric", "f2", "--validation", "train.csv"], ["--metric f2", "accuracy", "f1"]),
        (["--metric", "f2"], ["--metric f2"]),
    ],
)
def test_illegal_values(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, said: list[str], told: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "train.csv", opinions(16))
    options = ["train", "--task", "text-classification", "--encoder", "encoder", "--train", "train.csv"]
    options += ["--output", "model"]
    refused(capsys, tmp_path, [*options, *FAST, *said], *told)


def test_more_positions_than_asked_for(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder", max_position_embeddings=512)
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options = ["train", "--task", "text-classification", "--encoder", encoder, "--train", data]
    options += ["--output", tmp_path / "model", *FAST]
    refused(capsys, tmp_path, [*options, "--max-seq-length", "513"], "--max-seq-length 513", "512 positions")
    done(capsys, *options, "--max-seq-length", "512")


@pytest.mark.parametrize("command", ["train", "sweep"])
def test_what_the_encoder_and_the_task_cannot_is_refused_before_data_are_read(
    tmp_path: Path, capsys: Capture, command: str
) -> None:
    """Both problems at once, and nothing said of the data."""
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options = [command, "--task", "text-classification", "--encoder", encoder, "--train", data, "--validation", data]
    options += ["--output", tmp_path / "model", "--max-seq-length", "4096", "--metric", "beauty"]
    options += ["--time-limit", "5m"] if command == "sweep" else []
    refused(
        capsys, tmp_path, options, "--max-seq-length 4096", "64 positions", "--metric beauty", "accuracy, f1", "loss"
    )
    assert bertune(capsys, *options).err.startswith("error: ")


def test_several_problems_of_a_run_at_once(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "model", opinions(1))
    options = ["--task", "text-classification", "--encoder", encoder, "--train", tmp_path / "a.csv"]
    options += ["--validation", tmp_path / "b.csv", "--output", tmp_path / "model", "--epochs", "-1", "--seed", "-2"]
    parts = ["6 problems", "64 positions", "a.csv", "b.csv", "--output", "--epochs -1", "--seed -2"]
    refused(capsys, tmp_path, ["train", *options], *parts)


def test_required_options(tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, tmp_path, ["train"], "--task", "--encoder", "--train", "--output")
    refused(capsys, tmp_path, ["evaluate"], "--model", "--data")
    refused(capsys, tmp_path, ["predict"], "--model", "--input")
    refused(capsys, tmp_path, ["convert"], "--encoder", "--output")
    refused(capsys, tmp_path, ["inspect"], "one source")
    refused(capsys, tmp_path, ["inspect", "a", "b"], "one source")


def test_a_run_can_start_from_json_lines_with_a_json_answer(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.jsonl", opinions(16))
    options = ["--task=text-classification", f"--encoder={encoder}", f"--train={data}", f"--output={tmp_path / 'm'}"]
    out = done(capsys, "train", *options, *FAST, "--json=true").out
    assert json.loads(out)["steps"] == 4


@pytest.mark.parametrize("twice", [["--salt-grams", "1", "--salt-grams", "2"], ["--bowls=1", "--bowls", "2"]])
def test_of_an_option_given_twice_the_last_counts_aloud(caplog: pytest.LogCaptureFixture, twice: list[str]) -> None:
    logging.getLogger("bertune").propagate = True
    found = parse("soup", "about", [Soup], ["--kind", "borsch", *twice])
    assert 2 in found.values()
    assert "is given twice, 1" in caplog.text
    assert "the last counts" in caplog.text


def test_equal_values_and_lists_given_twice_are_taken() -> None:
    assert parse("p", "a", [TrainOptions], ["--seed", "1", "--seed", "1", "--task", "x"], partial=True)["seed"] == 1
    names = ["--label-names", "a", "b", "--label-names", "c"]
    assert parse("p", "a", [MultiLabelOptions], names, partial=True)["label_names"] == ["a", "b", "c"]
