"""`bertune evaluate --require`: a figure that is missed ends the command with status 3."""

import json
from pathlib import Path

import pytest

import bertune
from bertune.cli.evaluate import MISSED
from bertune.cli.main import main
from tests.tiny import opinions, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("require")
    data = write_rows(folder / "data.csv", opinions(24))
    bertune.train(
        task="text-classification",
        encoder=write_encoder(folder / "encoder"),
        train=data,
        output=folder / "model",
        max_steps=2,
        max_seq_length=32,
    )
    return str(folder / "model"), str(data)


def run(trained: tuple[str, str], required: str, *more: str) -> int:
    model, data = trained
    return main(["evaluate", "--model", model, "--data", data, "--require", required, *more])


def test_figures_that_are_reached(trained: tuple[str, str]) -> None:
    assert run(trained, "accuracy=0, loss=1000") == 0


@pytest.mark.parametrize(("required", "word"), [("accuracy=1.01", "less"), ("loss=-1,accuracy=0", "more")])
def test_a_missed_figure_ends_with_status_3(
    trained: tuple[str, str], required: str, word: str, capsys: Capture
) -> None:
    assert run(trained, required, "--json") == MISSED == 3
    out, err = capsys.readouterr()
    assert "accuracy" in json.loads(out)  # the figures are printed all the same
    (line,) = [one for one in err.splitlines() if one.startswith("--require")]
    assert required.split("=", maxsplit=1)[0] in line
    assert word in line


@pytest.mark.parametrize("required", ["accuracy", "accuracy=high", "=0.5", "", "accuracy=nan", "accuracy=0.5,"])
def test_what_is_no_figure_is_refused_before_the_model_is_read(required: str, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    assert (
        main(["evaluate", "--model", str(tmp_path), "--data", str(tmp_path / "data.csv"), "--require", required]) == 2
    )
    assert capsys.readouterr().err


def test_an_unknown_figure_lists_what_there_is(trained: tuple[str, str], capsys: Capture) -> None:
    assert run(trained, "acuracy=0.5") == 2
    assert "accuracy" in capsys.readouterr().err
