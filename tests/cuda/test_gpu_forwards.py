"""What only a GPU can show of prediction: replays equal what is launched, whatever the head and the family."""

import copy
import logging
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from bertune.cuda.recorded_forwards import RecordedForwards, _Shape
from bertune.cuda.recording import CudaRecorder
from bertune.encoder.flash_attention import flash_works
from bertune.inference.evaluation import infer, record_forwards
from bertune.network import Batch, Network, pack
from tests.cuda.test_recorded_forwards import ANY, FAMILIES, HEADS, features, network
from tests.training import small_run

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here: see `make test-cuda`"),
]
LENGTHS = ([9, 20, 5, 31, 2], [32, 3, 3, 3, 30], [4, 4, 4, 4, 4], [32, 32, 30, 2, 2])
"""Of one shape."""
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.1}
"""Parts of the largest logit. On the CPU bfloat16 is up to 0.033 from float32 with these networks."""


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture
def nothing_waits() -> Iterator[None]:
    """PyTorch raises where the host would wait."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(net: Network, dtype: torch.dtype) -> Network:
    """The network there, not yet recorded."""
    net.encoder.set_compute_dtype(dtype)
    return net.to("cuda")


def close(one: list[np.ndarray], other: list[np.ndarray], dtype: torch.dtype) -> None:
    for a, b in zip(one, other, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCES[dtype] * max(1, float(np.abs(b).max())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("head", list(HEADS))
def test_replays_equal_launches_and_the_cpu(
    head: str, family: str, dtype: torch.dtype, caplog: pytest.LogCaptureFixture
) -> None:
    plain, net, cpu = on_gpu(network(head, family), dtype), on_gpu(network(head, family), dtype), network(head, family)
    record_forwards(net)
    assert net.recorded is not None
    with caplog.at_level(logging.INFO, logger="bertune.cuda.recorded_forwards"):
        for seed, lengths in enumerate(LENGTHS):
            data = features(lengths, seed)
            found = infer(net, data).logits
            close(found, infer(plain, data).logits, dtype)
            if dtype == torch.float32:
                close(found, infer(cpu, data).logits, dtype)
    assert net.recorded.recorded == 1
    # Neither given up nor failed.
    assert not caplog.records, caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("head", ["sequences", "tokens"])
def test_replays_equal_launches_of_the_same_shape(
    head: str, family: str, dtype: torch.dtype, device: torch.device
) -> None:
    """No other kernels, no other sums: what differs here is no rounding."""
    net, forwards = on_gpu(network(head, family), dtype), RecordedForwards(ANY)
    forwards.bind(net.modules(), device)
    for seed, lengths in enumerate(LENGTHS):
        batch = pack(features(lengths, seed), np.arange(len(lengths)))
        shape, found = _Shape.of(batch.layout), forwards.replayed(net, batch)
        with torch.inference_mode():
            expected = net(shape.batch(shape.laid_out(batch, device).to(device)))
        if seed:
            assert found is not None
            torch.testing.assert_close(found, expected[: len(found)], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stream_of_batches(dtype: torch.dtype) -> None:
    """Hundreds of replays of many shapes one after the other, two batches read behind, with losses."""
    rng = np.random.default_rng(0)
    plain, net = on_gpu(network(), dtype), on_gpu(network(), dtype)
    record_forwards(net)
    for seed in range(10):
        data = features(rng.integers(2, 60, 500).tolist(), seed)
        one, other = (
            infer(net, data, batch_size=16, loss=small_run.loss),
            infer(plain, data, batch_size=16, loss=small_run.loss),
        )
        close(one.logits, other.logits, dtype)
        assert one.loss == pytest.approx(other.loss, rel=1e-4 if dtype == torch.float32 else 0.02)
    assert net.recorded is not None
    assert net.recorded.recorded >= 4


def test_flash_attention_is_what_is_recorded(device: torch.device) -> None:
    """Half precision and a head size that it takes; long and short sequences, and those that fill up."""
    head_size = 16
    if not flash_works(device, torch.bfloat16, head_size):
        pytest.skip(f"no flash attention on {torch.cuda.get_device_name()} with torch {torch.__version__}")
    for family in ("bert", "modernbert"):
        net, plain = (on_gpu(network("tokens", family), torch.bfloat16) for _ in range(2))
        record_forwards(net)
        for seed, lengths in enumerate(([90, 3, 60, 2, 2, 2, 2, 2, 9], [96, 96, 2, 2, 2, 2, 2, 2, 2]) * 2):
            data = features(lengths, seed)
            close(infer(net, data).logits, infer(plain, data).logits, torch.bfloat16)
        assert net.recorded is not None
        assert net.recorded.recorded >= 1


def test_other_weights_are_followed(caplog: pytest.LogCaptureFixture) -> None:
    net, data = on_gpu(network(), torch.float32), features([20, 9])
    record_forwards(net)
    for _ in range(3):
        infer(net, data)
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(0.9)
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        net.encoder.set_compute_dtype(dtype)
        plain = copy.deepcopy(net)
        plain.recorded = None
        for _ in range(3):
            close(infer(net, data).logits, infer(plain, data).logits, dtype)
    there = infer(net, data).logits
    close(infer(net.to("cpu"), data).logits, there, torch.float32)
    net.to("cuda")
    for _ in range(3):
        close(infer(net, data).logits, there, torch.float32)
    assert net.recorded is not None
    assert net.recorded.recorded == 1
    assert not [record for record in caplog.records if "CUDA graphs" in record.message]


def test_a_recording_that_fails_changes_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """An operation that no graph holds, which the watch is not shown: PyTorch and its allocator go on."""
    net, data = on_gpu(network(), torch.float32), features([20, 9])
    expected = infer(net, data).logits
    forwards = RecordedForwards(ANY, CudaRecorder)
    batch = pack(data, np.arange(2))
    calls = []

    def waits_when_recorded(one: Batch) -> Tensor:
        calls.append(one)
        logits: Tensor = net(one)
        if len(calls) == 2:
            logits.sum().item()
        return logits

    forwards.bind(net.modules(), net.device)
    for _ in range(3):
        assert forwards.replayed(waits_when_recorded, batch) is None
    assert forwards.recorded == 0
    assert any("CUDA graphs failed" in record.message for record in caplog.records)
    torch.cuda.empty_cache()
    for _ in range(3):
        close(infer(net, data).logits, expected, torch.float32)
    record_forwards(net)
    for _ in range(3):
        close(infer(net, data).logits, expected, torch.float32)


def test_forward_passes_that_wait_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    net = on_gpu(network(), torch.float32)
    forwards = RecordedForwards(ANY, CudaRecorder)
    batch = pack(features([20, 9]), np.arange(2))

    def waits(one: Batch) -> Tensor:
        logits: Tensor = net(one)
        return logits * (1 + 0 * int(logits.argmax()))

    forwards.bind(net.modules(), net.device)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert forwards.replayed(waits, batch) is None
    assert any("the host waits for the device" in record.message for record in caplog.records)


def test_no_replay_waits(device: torch.device, nothing_waits: None) -> None:
    net = on_gpu(network(), torch.bfloat16)
    forwards = RecordedForwards(ANY, CudaRecorder)
    batches = [pack(features([20, 9, 7], seed), np.arange(3)) for seed in range(6)]
    forwards.bind(net.modules(), device)
    for batch in batches[:3]:
        forwards.replayed(net, batch)
    torch.cuda.set_sync_debug_mode("error")
    found = [forwards.replayed(net, batch) for batch in batches]
    torch.cuda.set_sync_debug_mode("default")
    for batch, logits in zip(batches, found, strict=True):
        assert logits is not None
        with torch.inference_mode():
            expected = net(batch.to(device))
        close([logits.cpu().numpy()], [expected.cpu().numpy()], torch.bfloat16)


def test_threads_get_their_own_answers() -> None:
    """Each with a stream of its own, and another network that records at the same time."""
    nets = [on_gpu(network(), torch.float32) for _ in range(2)]
    data = [features([20], seed) for seed in range(6)]
    expected = [infer(nets[0], one).logits for one in data]
    for net in nets:
        record_forwards(net)
    wrong: list[str] = []

    def ask(i: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
                for _ in range(50):
                    close(infer(nets[i % 2], data[i]).logits, expected[i], torch.float32)
        except BaseException as error:
            wrong.append(f"{i}: {error}")

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert [net.recorded is not None and net.recorded.recorded for net in nets] == [1, 1]


def test_memory_does_not_grow_with_shapes_that_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertune.cuda.recorded_forwards.MOST_GRAPHS", 3)
    net = on_gpu(network(), torch.bfloat16)
    record_forwards(net)

    def through() -> int:
        for count in (1, 2, 3, 4, 5, 6, 7, 8):
            for seed in range(3):
                infer(net, features([30] * count, seed))
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved()

    first = through()
    assert max(through() for _ in range(4)) <= first + 2**23


def test_off_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTUNE_CUDA_GRAPHS", "off")
    net = on_gpu(network(), torch.bfloat16)
    record_forwards(net)
    for _ in range(3):
        infer(net, features([20]))
    assert net.recorded is not None
    assert net.recorded.recorded == 0
