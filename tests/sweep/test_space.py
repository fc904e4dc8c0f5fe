"""Spaces of hyper-parameters: the default, from YAML, and what is refused."""

from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.sweep.space import Choices, Range, default_space, passes, read_space, starting_points
from bertune.tasks.protocol import Defaults
from bertune.training.options import TrainOptions


def space_of(tmp_path: Path, text: str, encoders: tuple[str, ...] = ("minilm",)) -> object:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(path, encoders)


def test_few_rows_get_more_epochs_and_narrow_encoders_higher_rates() -> None:
    small, large = default_space(500, [384], 6), default_space(100_000, [768], 12)
    assert max(small["epochs"].ends) > max(large["epochs"].ends)
    assert small["learning_rate"] == Range(2e-5, 3e-4, log=True)
    assert large["learning_rate"] == Range(1e-5, 1.5e-4, log=True)
    assert "encoder" not in small
    assert default_space(500, [384, 768], 6, ["a", "b"])["encoder"] == Choices(("a", "b"))


def test_a_shallow_encoder_keeps_a_layer() -> None:
    assert max(default_space(500, [16], 1)["reinitialize_layers"].ends) < 1


def test_yaml_names_values_and_ranges(tmp_path: Path) -> None:
    found = space_of(tmp_path, "learning-rate: {low: 1e-5, high: 1e-4, log: true}\nepochs: [1, 2.5]\nbatch_size: 16\n")
    assert found == {
        "learning_rate": Range(1e-5, 1e-4, log=True),
        "epochs": Choices((1.0, 2.5)),
        "batch_size": Choices((16,)),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("learning_rates: [1e-5]", "did you mean learning_rate?"),
        ("max_seq_length: [64]", "cannot vary max_seq_length"),
        ("learning_rate: [-1e-5]", "must be above 0"),
        ("epochs: [0]", "must be above 0"),
        ("batch_size: [8.5]", "whole number"),
        ("layer_decay: [1.5]", "at most 1"),
        ("learning_rate: {low: 1e-4, high: 1e-5}", "low must be below high"),
        ("learning_rate: {low: 0, high: 1e-5, log: true}", "above 0 with log"),
        ("learning_rate: {min: 0, max: 1}", "a range has low, high"),
        ("learning_rate: []", "expected values"),
        ("learning_rate: [fast]", "'fast' is not a number"),
        ("epochs: [nan]", "finite number"),
        ("warmup_ratio: [0.1, 2]", "between 0 and 1"),
        ("{}", "names nothing to vary"),
        ("learning_rate: {low: 1e-5, high: 1e-4, log: maybe}", "log is true or false"),
        ("learning-rate: [1e-5]\nlearning_rate: [2e-5]", "learning_rate is named twice"),
        ("fgm: [0.1]\nfreelb: [0, 0.2]", "fgm and freelb: a run can have one of them"),
        ("ema: [0, 0.99]\naverage_last: [3]", "ema and average_last: a run can have one of them"),
    ],
)
def test_impossible_spaces_are_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as error:
        space_of(tmp_path, text)
    assert told in str(error.value)
    assert "space.yaml" in str(error.value)


def test_all_problems_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 problems"):
        space_of(tmp_path, "epochs: [0]\nbatch_size: [-1]\n")


def test_first_come_the_defaults_then_the_readme_moved_into_the_space() -> None:
    options = TrainOptions(task="t", encoder="e", train="t", output="o")
    space: dict[str, Range | Choices] = {
        "learning_rate": Range(1e-5, 1e-4, log=True),
        "epochs": Choices((2.0, 3.0)),
        "batch_size": Choices((8, 32)),
        "layer_decay": Choices((0.9, 1.0)),
    }
    first, second = starting_points(space, Defaults(learning_rate=2e-4, epochs=10, batch_size=8), options)
    assert first == {"learning_rate": 1e-4, "epochs": 3.0, "batch_size": 8, "layer_decay": 1.0}
    assert second == {"learning_rate": 3e-5, "epochs": 3.0, "batch_size": 32, "layer_decay": 1.0}


def test_techniques_are_varied_and_cost_their_passes(tmp_path: Path) -> None:
    space = space_of(tmp_path, "r_drop: [0, 1]\nfgm: [0, 0.2]\nema: [0, 0.99]\n")
    assert space == {"r_drop": Choices((0.0, 1.0)), "fgm": Choices((0.0, 0.2)), "ema": Choices((0.0, 0.99))}
    assert [passes({"r_drop": r, "fgm": f}) for r in (0, 1) for f in (0, 0.2)] == [1, 2, 2, 4]
    assert passes({"freelb": 0.2}) == 3
    assert space_of(tmp_path, "average_last: [1, 3]\n") == {"average_last": Choices((1, 3))}
    with pytest.raises(InputError, match=r"--ema 1\.0: must be at least 0 and below 1"):
        space_of(tmp_path, "ema: [1.0]\n")
    with pytest.raises(InputError, match=r"--fgm -1"):
        space_of(tmp_path, "fgm: -1\n")
