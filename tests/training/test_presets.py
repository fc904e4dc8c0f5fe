"""Presets: what each sets, that given options win, and that both are printed and saved."""

import logging
from pathlib import Path

import pytest
import yaml

from bertune.encoder.config import EncoderConfig
from bertune.tasks.protocol import Defaults
from bertune.training.presets import preset_options, with_preset
from tests import tiny

BASE = EncoderConfig(vocab_size=30522)
MINILM = EncoderConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6)
TINY = EncoderConfig(vocab_size=30522, hidden_size=128, num_hidden_layers=2, num_attention_heads=2)


def test_what_each_sets() -> None:
    defaults = Defaults()
    assert preset_options("balanced", defaults, MINILM, validates=True) == {}
    assert preset_options("fast", defaults, BASE, validates=True) == {"epochs": 1}
    assert preset_options("fast", Defaults(epochs=10), MINILM, validates=True) == {
        "epochs": pytest.approx(10 / 3),
        "learning_rate": 1e-4,
    }
    best = preset_options("best", defaults, MINILM, validates=True)
    assert best == {"epochs": 9, "batch_size": 16, "learning_rate": 1e-4, "patience": 3, "reinitialize_layers": 1}
    assert "batch_size" not in preset_options("best", defaults, MINILM, validates=True, compares=True)
    assert "batch_size" not in preset_options("best", Defaults(batch_size=16), MINILM, validates=True)
    assert "patience" not in preset_options("best", defaults, BASE, validates=False)
    limited = preset_options("best", defaults, MINILM, validates=True, limited=True, averages=True)
    assert limited.pop("soup") == "auto"
    assert limited == {name: value for name, value in best.items() if name != "patience"}  # a limit is for being used
    assert preset_options("best", defaults, MINILM, validates=True, limited=True) == limited
    assert preset_options("best", defaults, MINILM, validates=True, averages=True) == best
    assert "reinitialize_layers" not in preset_options("best", defaults, TINY, validates=True)
    assert preset_options("best", defaults, TINY, validates=True)["learning_rate"] == 1e-4  # at most twice


def test_given_options_win_and_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    values = {"task": "text-classification", "encoder": str(tmp_path / "encoder"), "preset": "best", "epochs": 2.0}
    with caplog.at_level(logging.INFO):
        found = with_preset(values, {})
    assert found["epochs"] == 2
    assert found["patience"] == 3
    assert (
        "--preset best: --batch-size 16, --learning-rate 0.0001, --patience 3; as given: --epochs 2.0"
        in caplog.messages
    )
    assert with_preset({"epochs": None}, {}) == {"epochs": None}
    assert "patience" not in with_preset({**values, "folds": 3}, {})
    assert "soup" not in with_preset({**values, "time_limit": "5m", "seeds": "1,2"}, {})
    assert "batch_size" not in with_preset({**values, "task": "embedding"}, {})  # whose loss compares a batch's rows


def test_a_run_of_an_older_preset_goes_on_as_it_began(tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    (tmp_path / "out").mkdir()
    began = {"preset": "best", "batch_size": 32, "patience": 3, "soup": None, "epochs": 9.0, "learning_rate": 1e-4}
    (tmp_path / "out/run.yaml").write_text(yaml.safe_dump(began))
    values = {
        "task": "text-classification", "encoder": str(tmp_path / "encoder"), "preset": "best",
        "output": str(tmp_path / "out"), "time_limit": "5m",
    }  # fmt: skip
    found = with_preset({**values, "resume": True}, {})
    assert {name: found[name] for name in began} == began
    assert with_preset({**values, "resume": True, "batch_size": 8}, {})["batch_size"] == 8  # and is refused later
    assert with_preset(values, {})["batch_size"] == 16


def test_from_the_command_line_into_run_yaml_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    rows = tiny.write_rows(tmp_path / "train.csv", tiny.opinions(40))
    told = tiny.done(
        capsys, "train", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train", rows,
        "--output", tmp_path / "out", "--preset", "best", "--max-steps", "3", "--max-seq-length", "32",
    )  # fmt: skip
    assert "--preset best: --epochs 9" in told.err
    saved = yaml.safe_load((tmp_path / "out/run.yaml").read_text())
    assert (saved["preset"], saved["epochs"], saved["patience"]) == ("best", 9, 3)
    tiny.done(capsys, "train", "--config", tmp_path / "out/run.yaml", "--output", tmp_path / "again")
    assert tiny.same_weights(tmp_path / "out", tmp_path / "again")


def test_an_unknown_preset_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.refused(
        capsys, tmp_path, ["train", "--task", "mrpc", "--encoder", "minilm", "--train", "x", "--output", "o",
        "--preset", "better"], "--preset better",
    )  # fmt: skip
