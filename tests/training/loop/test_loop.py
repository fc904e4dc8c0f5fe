"""The loop: what counts as better, what it tells while it runs, and what it knows of updates that it reads late."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from bertune.network import Batch, pack
from bertune.training.loop import loop
from bertune.training.loop.loop import fit
from bertune.training.loop.state import TrainState
from bertune.training.loop.validation import is_better
from tests.training import small_run

NAN = math.nan


@pytest.mark.parametrize("error", ["loss", "masked_lm_loss", "rmse", "mae"])
def test_of_errors_the_lower_is_better(error: str) -> None:
    assert is_better({error: 0.7}, error, 0.8)
    assert not is_better({error: 0.8}, error, 0.7)
    assert not is_better({error: 0.7}, error, 0.7)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "pearson", "exact_match"])
def test_of_other_metrics_the_higher(metric: str) -> None:
    assert is_better({metric: 0.8}, metric, 0.7)
    assert not is_better({metric: 0.7}, metric, 0.8)
    assert not is_better({metric: 0.7}, metric, 0.7)


@pytest.mark.parametrize("metric", ["rmse", "pearson"])
def test_what_is_no_number_loses_to_any(metric: str) -> None:
    assert is_better({metric: 9.0}, metric, NAN)
    assert is_better({metric: -9.0}, metric, NAN)
    assert not is_better({metric: NAN}, metric, 0.1)
    assert not is_better({metric: NAN}, metric, NAN)
    assert is_better({metric: NAN}, metric, None)  # some model must be kept


class Curves(small_run.NoCheckpointer):
    """Keeps the curves' points."""

    def __init__(self) -> None:
        self.points: list[Mapping[str, float]] = []

    def curves(self, values: Mapping[str, float], step: int) -> None:
        self.points.append(values)


def test_the_first_update_has_a_possible_speed() -> None:
    checkpointer = Curves()
    parts = dataclasses.replace(small_run.parts(small_run.network(), small_run.features(8)), checkpointer=checkpointer)
    progress = fit(parts, small_run.plan(1), TrainState())
    (point,) = checkpointer.points
    assert 8 / progress.wall_seconds / 10 < point["train/examples_per_second"] < 1e6


def test_rows_are_traced_in_the_epoch_of_their_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read 16 updates late, as on a GPU: by then another epoch may have begun, with other masks on the same rows."""
    begin = loop._Reader.__init__

    def late(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self._behind = 16

    monkeypatch.setattr(loop._Reader, "__init__", late)
    data, traced = small_run.features(16), list[int]()

    def make_batch(rows: npt.NDArray[np.int64], epoch: int) -> Batch:
        if len(rows) == 1:
            traced.append(epoch)
        return pack(data, rows)

    def no_number(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        total, count = small_run.loss(logits, batch)
        return total * NAN, count

    parts = small_run.parts(small_run.network(), data)
    parts = dataclasses.replace(parts, make_batch=make_batch, loss=no_number)
    fit(parts, dataclasses.replace(small_run.plan(6), check_every=100), TrainState())
    assert traced == [0] * 16 + [1] * 16 + [2] * 16
