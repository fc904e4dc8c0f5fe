"""Nothing in an update needs a value on the host: on a GPU that would make the host wait, and no graph could hold it.

Seen on the CPU, on the route that CUDA takes but for its attention kernel: every operation of an update is looked at.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bertune.cuda.resident import ResidentFeatures
from bertune.encoder.kernels import build
from bertune.network import Batch
from bertune.tasks.options import LossOptions
from bertune.tasks.shared.heads import binary_cross_entropy, cross_entropy, grouped_cross_entropy
from bertune.tasks.squad.head import span_loss
from bertune.training.loop.loop import _Update
from bertune.training.loop.state import TrainState
from tests.training import small_run

NEEDS_VALUES = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "equal.default")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Takes note of operations whose result or shape the host must know."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        by_mask = ("aten.index.", "aten.index_put", "aten._index_put", "aten._unsafe_index")
        masks = name.startswith(by_mask) and any(
            isinstance(leaf, Tensor) and leaf.dtype == torch.bool for leaf in tree_leaves(args[1])
        )
        if masks or any(part in name for part in NEEDS_VALUES):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BERTUNE_KERNELS", "off")
    build.library.cache_clear()
    yield
    monkeypatch.undo()
    build.library.cache_clear()


def sequence_loss(options: LossOptions, weights: tuple[float, ...] = ()) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda logits, batch: cross_entropy(logits, batch.targets["label"], options, weights)


def token_loss(options: LossOptions, weights: tuple[float, ...] = ()) -> Callable[..., tuple[Tensor, Tensor]]:
    return lambda logits, batch: cross_entropy(logits, batch.input_ids % 2, options, weights)


def spans(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    start = batch.targets["label"]
    return span_loss(logits, start, start, batch.layout), torch.tensor(start.numel())


def several_labels(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    target = torch.stack([batch.targets["label"], 1 - batch.targets["label"]], 1).float()
    return binary_cross_entropy(logits, target, LossOptions(label_smoothing=0.1, focal_gamma=1.0), (1.0, 2.0))


def squares(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    value = batch.targets["label"].float()
    return F.mse_loss(logits[:, 0], value, reduction="sum"), torch.tensor(value.numel())


def groups(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    group = torch.arange(len(logits)) // 2
    return grouped_cross_entropy(logits[:, 0], (torch.arange(len(logits)) % 2).float(), group, LossOptions())


def found_in(loss: Callable[..., tuple[Tensor, Tensor]], *, tokens: bool) -> list[str]:
    """What an update of that loss needs on the host."""
    data = ResidentFeatures(small_run.features(24), torch.device("cpu"))
    parts = small_run.parts(small_run.network(tokens=tokens), data.features, on_device=True, dtype=torch.bfloat16)
    parts.network.train()
    rows, size = data.rows_of(np.arange(8))
    chosen, rate = torch.from_numpy(rows), torch.tensor(0.1)
    parts = small_run.with_loss(parts, loss)
    waits = Waits()
    with waits:
        _Update(parts, small_run.plan(1), rows, TrainState()).compute([data.packed(chosen, size, rows)], rate)
    return waits.found


@pytest.mark.parametrize(
    ("loss", "tokens"),
    [
        (sequence_loss(LossOptions()), False),
        (sequence_loss(LossOptions(label_smoothing=0.1), (1.0, 2.0)), False),
        (sequence_loss(LossOptions(focal_gamma=2.0)), False),
        (token_loss(LossOptions()), True),
        (token_loss(LossOptions(focal_gamma=1.0), (1.0, 3.0)), True),
        (spans, True),
        (several_labels, False),
        (squares, False),
    ],
    ids=["labels", "weights", "focal", "tags", "weighted tags", "spans", "several labels", "numbers"],
)
def test_no_value_is_needed(loss: Callable[..., tuple[Tensor, Tensor]], tokens: bool) -> None:
    assert found_in(loss, tokens=tokens) == []


def test_choices_need_their_number() -> None:
    assert found_in(groups, tokens=False)
