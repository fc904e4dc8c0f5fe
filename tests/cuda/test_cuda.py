"""What only a GPU can show: it computes what the CPU computes, recorded or not, and the host never waits for it."""

import dataclasses
import logging
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.cuda.recording import CudaRecorder
from bertune.cuda.resident import ResidentFeatures
from bertune.encoder.flash_attention import flash_works
from bertune.encoder.layout import Layout
from bertune.encoder.modules import attend
from bertune.inference.evaluation import infer
from bertune.network import pack
from bertune.training.loop.loop import TrainingBatches, fit, update
from bertune.training.loop.optimizer import Schedule
from bertune.training.loop.state import TrainingSetup, TrainState
from tests.training import small_run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: see `make test-cuda`"),
]
STEPS, BATCH = 20, 32
LENGTHS = [5, 17, 40, 1, 33, 128, 9]


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def nothing_waits() -> Iterator[None]:
    """PyTorch raises where the host would wait."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def run(where: str, dtype: torch.dtype, *, dropout: float, graphs: bool = False) -> tuple[TrainingSetup, list[float]]:
    """Twenty steps on always the same weights and batches; the losses."""
    device = torch.device(where)
    data = small_run.features(BATCH * STEPS)
    net = small_run.network(dropout=dropout, device=where)
    batches = TrainingBatches(data, device)
    parts = small_run.parts(net, data, dtype=dtype, make_batch=lambda rows: batches.make(rows, 0))
    parts = dataclasses.replace(parts, graphs=batches.recorded_updates(net, BATCH) if graphs else None)
    plan = small_run.plan(STEPS, BATCH)
    losses = []
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH)
        losses.append(update(parts, plan, rows, TrainState(step=step)))
    return parts, [numbers.read()[0] for numbers in losses]


def test_float32_equals_the_cpu() -> None:
    _, here = run("cuda", torch.float32, dropout=0.0)
    _, there = run("cpu", torch.float32, dropout=0.0)
    assert here == pytest.approx(there, rel=1e-3)


@pytest.mark.parametrize("graphs", [False, True])
def test_bfloat16_follows_float32(graphs: bool) -> None:
    _, here = run("cuda", torch.bfloat16, dropout=0.0, graphs=graphs)
    _, there = run("cpu", torch.float32, dropout=0.0)
    assert here == pytest.approx(there, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recorded_updates_equal_direct_ones_with_dropout(dtype: torch.dtype, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        recorded, losses = run("cuda", dtype, dropout=0.1, graphs=True)
    # Neither given up nor failed.
    assert not [record for record in caplog.records if record.name.startswith("bertune")], caplog.text
    direct, expected = run("cuda", dtype, dropout=0.1)
    # The same masks; sums in the attention's way back are added in any order.
    assert losses == pytest.approx(expected, rel=1e-3 if dtype == torch.float32 else 0.02)
    assert recorded.optimizer.step_count == direct.optimizer.step_count == STEPS
    for name, value in recorded.optimizer.masters().items():
        torch.testing.assert_close(value, direct.optimizer.masters()[name], rtol=0, atol=5e-3, msg=name)


def test_recording_happens(device: torch.device) -> None:
    data = ResidentFeatures(small_run.features(64, shortest=20, longest=20), device)
    parts = small_run.parts(small_run.network(device="cuda"), data.features, make_batch=data.pack, dtype=torch.bfloat16)
    graphs = RecordedUpdates(lambda: data, CudaRecorder(device), BATCH)
    fit(dataclasses.replace(parts, graphs=graphs), small_run.plan(STEPS, BATCH), TrainState())
    assert graphs.recorded == 1


def test_dropout_of_replays_differs(device: torch.device) -> None:
    data = ResidentFeatures(small_run.features(BATCH), device)
    parts = small_run.parts(small_run.network(dropout=0.5, device="cuda"), data.features, make_batch=data.pack)
    parts = dataclasses.replace(parts, graphs=RecordedUpdates(lambda: data, CudaRecorder(device), BATCH))
    plan = dataclasses.replace(small_run.plan(100, BATCH), schedule=Schedule(0.0, 100, 1))
    losses = [update(parts, plan, np.arange(BATCH), TrainState(step=step)).read()[0] for step in range(12)]
    assert len({round(loss, 6) for loss in losses}) == len(losses)


def test_no_update_waits(device: torch.device, nothing_waits: None) -> None:
    data = ResidentFeatures(small_run.features(128), device)
    parts = small_run.parts(small_run.network(device="cuda"), data.features, make_batch=data.pack, dtype=torch.bfloat16)
    plan = small_run.plan(100, BATCH)
    update(parts, plan, np.arange(BATCH), TrainState())
    torch.cuda.set_sync_debug_mode("error")
    for step in range(1, 4):
        update(parts, plan, np.arange(step * BATCH, (step + 1) * BATCH), TrainState(step=step))


def test_a_loss_that_is_not_finite_changes_nothing(device: torch.device) -> None:
    data = ResidentFeatures(small_run.features(BATCH), device)
    parts = small_run.parts(small_run.network(device="cuda"), data.features, make_batch=data.pack, dtype=torch.bfloat16)
    before = {name: value.clone() for name, value in parts.optimizer.state().items()}

    def lost(logits: Tensor, batch: object) -> tuple[Tensor, Tensor]:
        return logits.sum() * torch.nan, torch.tensor(BATCH)

    parts = dataclasses.replace(parts, loss=lost)
    assert not math.isfinite(update(parts, small_run.plan(9), np.arange(BATCH), TrainState()).read()[1])
    assert all(torch.equal(value, before[name]) for name, value in parts.optimizer.state().items())


@pytest.mark.parametrize("head_size", [32, 64])
@pytest.mark.parametrize("tail", [0, 60, 200])
@pytest.mark.parametrize("window", [0, 8])
def test_flash_attention_equals_padded(device: torch.device, head_size: int, tail: int, window: int) -> None:
    """Forward and gradients, in rows of no sequence too: there both must be finite, and gradients zero."""
    if not flash_works(device, torch.bfloat16, head_size):
        pytest.skip(f"no flash attention on {torch.cuda.get_device_name()} with torch {torch.__version__}")
    heads, real = 2, sum(LENGTHS)
    layout = Layout.packed(LENGTHS, total=real + tail)
    torch.manual_seed(0)
    qkv = torch.randn(real + tail, 3 * heads * head_size)
    weights = torch.randn(real, heads * head_size)
    found = []
    for where, dtype in (("cuda", torch.bfloat16), ("cpu", torch.float32)):
        x = qkv.to(torch.bfloat16).to(where, dtype).requires_grad_()
        out = attend(x, layout.to(torch.device(where)), heads, 0.0, window)
        (gradient,) = torch.autograd.grad((out[:real].float() * weights.to(where)).sum(), x)
        found.append((out.detach().float().cpu(), gradient.float().cpu()))
    (out, gradient), (expected, expected_gradient) = found
    assert out.isfinite().all()
    torch.testing.assert_close(out[:real], expected[:real], atol=0.03, rtol=0.03)
    torch.testing.assert_close(gradient[:real], expected_gradient[:real], atol=0.05, rtol=0.05)
    assert not gradient[real:].any()


def test_dropout_in_attention_has_the_right_rate(device: torch.device) -> None:
    """With equal keys and values of one, a row is the share of weights that stay, scaled: 1 in the mean."""
    layout = Layout.packed([128] * 64, device=device)
    qkv = torch.zeros(64 * 128, 3, 2, 64, device=device, dtype=torch.bfloat16)
    qkv[:, 2] = 1
    out = attend(qkv.view(64 * 128, -1), layout, 2, 0.25).float()
    assert float(out.mean()) == pytest.approx(1, abs=0.01)
    assert float(out.std()) == pytest.approx(math.sqrt(0.25 / 0.75 / 128), rel=0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prediction_equals_the_cpu(dtype: torch.dtype) -> None:
    data = small_run.features(700)
    found = []
    for where in ("cuda", "cpu"):
        net = small_run.network(device=where)
        net.encoder.set_compute_dtype(dtype if where == "cuda" else torch.float32)
        found.append(infer(net, data, loss=small_run.loss))
    here, there = found
    np.testing.assert_allclose(
        np.stack(here.logits), np.stack(there.logits), atol=1e-4 if dtype.itemsize == 4 else 0.05
    )
    assert here.loss == pytest.approx(there.loss, rel=1e-4 if dtype.itemsize == 4 else 0.02)


def test_batches_packed_there_equal_those_of_the_host(device: torch.device) -> None:
    data, rows = small_run.features(50), np.array([4, 49, 0, 7])
    ours, theirs = ResidentFeatures(data, device).pack(rows), pack(data, rows)
    real = theirs.layout.real
    assert torch.equal(ours.input_ids[:real].cpu(), theirs.input_ids[:real])
    assert torch.equal(ours.positions[:real].cpu(), theirs.positions[:real])
    assert torch.equal(ours.targets["label"].cpu(), theirs.targets["label"])


def test_an_update_that_runs_out_of_memory_begins_anew(device: torch.device) -> None:
    data = ResidentFeatures(small_run.features(BATCH), device)
    parts = small_run.parts(small_run.network(device="cuda"), data.features, make_batch=data.pack)
    calls = []

    def greedy(logits: Tensor, batch: object) -> tuple[Tensor, Tensor]:
        calls.append(len(logits))
        if len(logits) > BATCH // 2:
            torch.empty(2**50, device=device)
        return logits.square().sum(), torch.tensor(len(logits))

    progress = TrainState()
    update(dataclasses.replace(parts, loss=greedy), small_run.plan(9), np.arange(BATCH), progress)
    assert (progress.micro_batches, calls) == (2, [32, 16, 16])
