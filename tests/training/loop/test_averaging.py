"""The moving average of the weights: its formula, where it is used, and that it survives a stop."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bertune
from bertune.errors import InputError
from bertune.training.loop.averaging import LastWeights, WeightAverage
from bertune.training.loop.loop import fit
from bertune.training.loop.optimizer import AdamW
from bertune.training.loop.state import Evaluation, TrainState
from tests import tiny
from tests.training import small_run


def test_the_formula() -> None:
    weight = torch.tensor([1.0])
    average = WeightAverage({"w": weight}, 0.5)
    expected = 1.0
    for n, value in enumerate((2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0), 1):
        weight.fill_(value)
        average.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
    assert average.values["w"].item() == pytest.approx(expected, rel=1e-6)
    average.exchange()
    assert weight.item() == pytest.approx(expected, rel=1e-6)
    average.exchange()
    assert weight.item() == 512


def test_the_mean_of_the_last_evaluations() -> None:
    weight = torch.tensor([1.0])
    average = LastWeights({"w": weight}, 2)
    average.exchange()
    assert weight.item() == 1  # nothing is kept yet
    average.exchange()
    for step, value in ((10, 2.0), (20, 4.0), (20, 100.0), (30, 8.0)):  # the third: an evaluation begun again
        weight.fill_(value)
        average.before_evaluation(step)
    other = LastWeights({"w": weight}, 2)
    other.restore(average.state())
    for one in (average, other):
        one.exchange()
        assert weight.item() == 6
        one.exchange()
        assert weight.item() == 8


class Keeps(small_run.NoCheckpointer):
    """Remembers the weights that were kept."""

    def __init__(self) -> None:
        self.best: dict[str, Tensor] = {}
        self.checkpoints: list[dict[str, Tensor]] = []

    def save_checkpoint(self, optimizer: AdamW, progress: TrainState) -> None:
        self.checkpoints.append({name: value.clone() for name, value in optimizer.state().items()})

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        self.best = {name: value.clone() for name, value in weights.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_average_is_evaluated_and_kept_and_training_goes_on_from_the_weights(dtype: torch.dtype) -> None:
    data, keeper, seen = small_run.features(32), Keeps(), list[Tensor]()
    net = small_run.network(dropout=0.0)
    setup = small_run.parts(net, data)
    setup.optimizer.keep_average(0.9)
    net.encoder.set_compute_dtype(dtype)
    name = "encoder.layers.0.feed_forward.up.weight"

    def evaluate() -> Evaluation:
        seen.append(net.get_parameter(name).detach().float().clone())
        return Evaluation({"loss": 1.0})

    setup = dataclasses.replace(setup, checkpointer=keeper, evaluate=evaluate)
    fit(setup, small_run.plan(4, 32), TrainState())
    average, last = setup.optimizer.average, setup.optimizer.masters()[name]
    assert isinstance(average, WeightAverage)
    assert average.updates == 4
    assert torch.equal(keeper.best[name], average.values[name])
    assert torch.equal(seen[-1], average.values[name].to(dtype).float())
    assert torch.equal(keeper.checkpoints[-1][f"master.{name}"], last)
    assert not torch.equal(last, average.values[name])
    assert torch.equal(net.get_parameter(name).detach().float(), last.to(dtype).float())


@pytest.mark.parametrize("technique", [{"ema": 0.8}, {"average_last": 2}])
def test_a_resumed_run_has_the_same_average(technique: dict[str, object], tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    rows = tiny.write_rows(tmp_path / "train.csv", tiny.opinions(32))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = {
        "task": "text-classification", "encoder": tmp_path / "encoder", "train": rows, "max_seq_length": 32,
        "batch_size": 8, "learning_rate": 1e-2, "epochs": 2, "precision": "fp32", "validation_share": 0, **technique,
    }  # fmt: skip
    bertune.train(**options, output=whole)
    shutil.copytree(whole, cut)
    shutil.rmtree(max((cut / "checkpoints").glob("step-*")))  # as if it was stopped after its first epoch
    for name in ("model.safetensors", "metrics.json"):
        (cut / name).unlink()
    bertune.train(**options, output=cut, resume=True)
    assert tiny.same_weights(whole, cut)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ema": 1.0}, "ema 1.0: must be at least 0 and below 1"),
        ({"ema": -0.1}, "ema -0.1"),
        ({"r_drop": -1.0}, "r_drop -1.0"),
        ({"fgm": -1.0}, "fgm -1.0"),
        ({"fgm": 0.1, "freelb": 0.1}, "fgm 0.1, freelb 0.1: both move the word vectors"),
        ({"freelb": 0.1, "freelb_steps": 0}, "freelb_steps 0"),
        ({"ema": 0.9, "average_last": 3}, "ema 0.9, average_last 3: one average is kept"),
        ({"average_last": 0}, "average_last 0"),
        ({"task": "embedding", "r_drop": 1.0}, "r_drop 1.0: compares the outputs of two passes"),
    ],
)
def test_values_that_mean_nothing_are_refused(options: dict[str, object], told: str, tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    rows = tiny.write_rows(tmp_path / "train.csv", tiny.pairs(16))
    given = {"task": "text-classification", "encoder": tmp_path / "encoder", "train": rows, **options}
    with pytest.raises(InputError) as error:
        bertune.train(**given, output=tmp_path / "out")
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


def test_techniques_train_a_model_of_every_kind(tmp_path: Path) -> None:
    from tests import runs

    for task in ("token-classification", "question-answering", "multiple-choice", "regression"):
        options = runs.prepare(tmp_path / task, task)
        found = bertune.train(**{**options, "output": tmp_path / task / "out", "max_steps": 2, "r_drop": 1.0,
                                 "fgm": 0.5, "ema": 0.9})  # fmt: skip
        assert np.isfinite(found.metrics["loss"])
    found = bertune.train(**{**options, "output": tmp_path / "other", "max_steps": 4, "freelb": 0.5, "r_drop": 1.0,
                             "average_last": 2})  # fmt: skip
    assert np.isfinite(found.metrics["loss"])
