"""Forward passes that are replayed give what the network gives; when they are recorded, and when let go."""

import copy
import dataclasses
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bertune.cuda import recorded_forwards
from bertune.cuda.recorded_forwards import RecordedForwards, _Shape
from bertune.cuda.recording import recorder_for
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.kernels import build
from bertune.features import Column, Features, Ragged
from bertune.inference.evaluation import infer, record_forwards
from bertune.network import Batch, Network, pack, pack_with_companion
from bertune.tasks.masking.head import PretrainingHead
from bertune.tasks.options import LossOptions
from bertune.tasks.shared.heads import PoolingHead, cross_entropy, pooled_head, token_head
from bertune.tasks.shared.layers import LayerMix
from bertune.tasks.squad.head import SpanHead, span_loss
from tests.tape import Tape
from tests.training.loop.test_no_waiting import Waits

CPU = torch.device("cpu")
ANY = 10**9
"""Tokens: no batch is too large to be recorded."""
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "albert": {"embedding_size": 8, "shared_layers": True},
    "distilbert": {"type_vocab_size": 0, "position_offset": 2, "pooler_act": "relu"},
    "modernbert": {
        "biases": False,
        "pre_norm": True,
        "gated": True,
        "rotary_base": 160000.0,
        "local_rotary_base": 10000.0,
        "local_window": 4,
        "global_every": 3,
        "pooling": "mean",
        "pooler_norm": True,
        "type_vocab_size": 0,
    },
}
HEADS: dict[str, Callable[[EncoderConfig], nn.Module]] = {
    "sequences": lambda config: pooled_head(config, 3, "last"),
    "sequences, mix": lambda config: pooled_head(config, 3, "mix"),
    "tokens": lambda config: token_head(config, 3, "last"),
    "tokens, last4": lambda config: token_head(config, 3, "last4"),
    "spans": SpanHead,
    "mean": lambda config: PoolingHead("mean"),
    "cls, mix": lambda config: PoolingHead("cls", mix=LayerMix(config, "mix")),
}


@pytest.fixture(autouse=True)
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("BERTUNE_KERNELS", "off")
    build.library.cache_clear()
    yield
    monkeypatch.undo()
    build.library.cache_clear()


def network(head: str = "sequences", family: str = "bert") -> Network:
    """Always the same weights, none of them trivial."""
    config = EncoderConfig(
        **{
            "vocab_size": 50,
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": 96,
            "initializer_range": 0.2,
            **FAMILIES[family],
        }
    )
    torch.manual_seed(1)
    return Network(Encoder(config), HEADS[head](config)).eval()


def features(lengths: list[int], seed: int = 0) -> Features:
    """Sequences of random tokens; a label for each, and a tag for every token."""
    rng, sizes = np.random.default_rng(seed), np.array(lengths)
    ids, segments, tags = (
        Ragged.from_lengths(rng.integers(0, most, sizes.sum()).astype(np.int32), sizes) for most in (50, 2, 3)
    )
    targets: dict[str, Column] = {"label": rng.integers(0, 3, len(sizes)).astype(np.int32), "tag": tags}
    return Features(ids, segments, np.arange(len(sizes), dtype=np.int32), targets)


def recording(net: Network, tape: Tape) -> Network:
    """The network, replaying from a tape."""
    net.recorded = RecordedForwards(ANY, tape)
    return net


def same(one: list[Any], other: list[Any], within: float = 2e-6) -> bool:
    """Of the same shapes, and equal to so small a part of the largest of them, or of 1."""
    if [a.shape for a in one] != [b.shape for b in other]:
        return False
    return all(np.abs(a - b).max() <= within * max(1, np.abs(b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_replays_equal_the_network(head: str, family: str) -> None:
    """Other sequences, of other lengths, in the same shape: nothing of those that were recorded may remain."""
    tape, net = Tape(), network(head, family)
    plain = network(head, family)
    recording(net, tape)
    lengths = ([9, 20, 5, 31, 2], [32, 3, 3, 3, 30], [4, 4, 4, 4, 4], [32, 32, 30, 2, 2])
    for seed, some in enumerate(lengths):
        data = features(some, seed)
        assert same(infer(net, data).logits, infer(plain, data).logits)
        assert (tape.recorded, tape.replayed) == ((0, 0), (1, 1), (1, 2), (1, 3))[seed]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_replays_equal_the_same_shape_bit_for_bit(head: str, family: str) -> None:
    """The network on the batch as it is rounded: what is left between them is rounding in sums."""
    net, forwards = network(head, family), RecordedForwards(ANY, Tape())
    forwards.bind(net.modules(), CPU)
    for seed in range(4):
        batch = pack(features([9, 20, 5, 31, 2], seed), np.arange(5))
        shape = _Shape.of(batch.layout)
        found = forwards.replayed(net, batch)
        with torch.inference_mode():
            expected, direct = net(shape.batch(shape.laid_out(batch, CPU))), net(batch)
        if seed:
            assert found is not None
            assert found.shape == direct.shape
            assert torch.equal(found, expected[: len(found)])


def test_many_batches_in_few_shapes() -> None:
    rng = np.random.default_rng(0)
    tape, plain, net = Tape(), network(), network()
    recording(net, tape)
    batches = 0
    for seed in range(3):
        data = features(rng.integers(2, 60, 300).tolist(), seed)
        assert same(infer(net, data, batch_size=64).logits, infer(plain, data, batch_size=64).logits)
        batches += 5
    assert tape.recorded <= 8
    assert tape.replayed >= batches - 2 * 7


@pytest.mark.parametrize("head", ["sequences", "tokens", "spans"])
def test_losses_are_those_of_the_batch_itself(head: str) -> None:
    def loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        if head == "spans":
            start = batch.targets["label"] % 2
            return span_loss(logits, start, start, batch.layout), torch.tensor(start.numel())
        return cross_entropy(logits, batch.targets["label" if head == "sequences" else "tag"], LossOptions())

    tape, net, plain = Tape(), network(head), network(head)
    recording(net, tape)
    for seed in range(4):
        data = features([9, 20, 5, 31, 2, 17, 3], seed)
        ours, theirs = infer(net, data, loss=loss, batch_size=5), infer(plain, data, loss=loss, batch_size=5)
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-6)
        assert same(ours.logits, theirs.logits)
    assert tape.replayed == 6


def test_a_single_sentence_has_few_shapes() -> None:
    shapes = {_Shape.of(pack(features([length]), np.arange(1)).layout) for length in range(2, 513)}
    assert len(shapes) <= 12
    for shape in shapes:
        assert shape.size.sequences == 1


@given(st.lists(st.integers(1, 150), min_size=1, max_size=70))
def test_a_rounded_batch_is_a_batch(lengths: list[int]) -> None:
    """It holds the sequences, then some of one token, then a tail; it takes not much more than they do."""
    batch = pack(features(lengths), np.arange(len(lengths)))
    shape = _Shape.of(batch.layout)
    made = shape.batch(shape.laid_out(batch, CPU))
    real, size = sum(lengths), shape.size
    for name in ("input_ids", "segment_ids", "positions"):
        one, other = getattr(made, name), getattr(batch, name)
        assert one.shape == (size.total,)
        assert one.dtype == other.dtype == torch.int64
        assert torch.equal(one[:real], other[:real])
        assert not one[real:].any()
    layout = made.layout
    assert len(layout) == size.sequences
    assert layout.lengths.tolist() == lengths + [1] * (size.sequences - len(lengths))
    assert layout.starts.tolist() == (layout.lengths.cumsum(0) - layout.lengths).tolist()
    assert layout.real <= int(layout.lengths.sum()) <= layout.total == size.total
    assert max(lengths) <= layout.longest < max(lengths) + max(32, max(lengths) / 4)
    assert len(lengths) <= size.sequences <= max(8, 1.25 * len(lengths))
    bounds = layout.bounds
    assert bounds[-1] == size.total
    assert int(bounds.diff().max()) <= layout.longest


def test_what_a_layout_computes_is_computed_in_every_replay() -> None:
    def lengths_by_bounds(batch: Batch) -> Tensor:
        return batch.layout.bounds.diff()[: len(batch.layout), None].float()

    forwards = RecordedForwards(ANY, Tape())
    forwards.bind([], CPU)
    for lengths in ([5, 6, 7], [7, 8, 9], [9, 2, 2], [2, 3, 3]):
        found = forwards.replayed(lengths_by_bounds, pack(features(lengths), np.arange(3)))
        if lengths[0] != 5:
            assert found is not None
            assert found[:, 0].tolist() == lengths


def test_weights_that_change_in_place_are_read_anew() -> None:
    net, tape, data = network(), Tape(), features([9, 20, 5])
    recording(net, tape)
    for _ in range(2):
        before = infer(net, data).logits
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.01)
    after = infer(net, data).logits
    assert tape.replayed == 2
    assert not same(before, after, within=1e-3)
    net.recorded = None
    assert same(infer(net, data).logits, after)


def new_head(net: Network) -> None:
    net.head = network("tokens").head


def new_layers(net: Network) -> None:
    net.encoder.layers = copy.deepcopy(net.encoder.layers)


def loaded(net: Network) -> None:
    state = {name: 0.9 * value for name, value in net.state_dict().items()}
    net.load_state_dict(state, assign=True)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.encoder.set_compute_dtype(torch.bfloat16),
        lambda net: net.encoder.embeddings.word.half(),
        loaded,
        new_head,
        new_layers,
    ],
    ids=["set_compute_dtype", "to", "load_state_dict", "head", "layers"],
)
def test_weights_elsewhere_are_forgotten(change: Callable[[Network], None]) -> None:
    net, data, tapes = network(), features([20]), []

    def tape(device: torch.device) -> Tape:
        tapes.append(Tape())
        return tapes[-1]

    net.recorded = RecordedForwards(ANY, tape)
    for _ in range(3):
        infer(net, data)
    assert [one.replayed for one in tapes] == [2]
    change(net)
    for _ in range(3):
        found = infer(net, data).logits
    assert [one.replayed for one in tapes] == [2, 2]  # by another recorder: the memory of the first is gone
    batch = pack_with_companion(data, np.arange(1))
    shape = _Shape.of(batch.layout)
    with torch.inference_mode():
        expected = net(shape.batch(shape.laid_out(batch, CPU)))
    assert np.array_equal(np.atleast_2d(found[0]), expected[: 20 if change is new_head else 1].numpy())


def test_the_least_recently_used_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_forwards, "MOST_GRAPHS", 2)
    net, tape = network(), Tape()
    recording(net, tape)
    forwards = net.recorded
    assert forwards is not None

    def run(length: int) -> None:
        data = features([length])
        assert same(infer(net, data).logits, infer(network(), data).logits)

    for length in (20, 20, 40, 40, 20, 70, 70):  # the third takes the place of the second
        run(length)
        assert forwards.recorded <= 2
    assert (tape.recorded, tape.replayed) == (3, 4)
    run(20)
    assert (tape.recorded, tape.replayed) == (3, 5)
    run(40)  # like one that was never seen
    assert (tape.recorded, tape.replayed) == (3, 5)
    run(40)
    assert (tape.recorded, tape.replayed) == (4, 6)


def test_of_too_many_shapes_that_take_turns_some_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every one would be recorded again in every second pass, and let go before it is used."""
    monkeypatch.setattr(recorded_forwards, "MOST_GRAPHS", 2)
    net, tape = network(), Tape()
    recording(net, tape)
    for _ in range(10):
        for length in (20, 40, 70):
            data = features([length])
            assert same(infer(net, data).logits, infer(network(), data).logits)
    assert tape.recorded == 4
    assert tape.replayed >= 4 + 2 * 5
    assert net.recorded is not None
    assert net.recorded.recorded == 2
    net.encoder.layers = copy.deepcopy(net.encoder.layers)  # weights elsewhere: all begins anew
    for _ in range(2):
        infer(net, features([70]))
    assert tape.recorded == 5


@pytest.mark.parametrize(
    "error", [None, torch.OutOfMemoryError("CUDA out of memory"), AttributeError("no such thing"), MemoryError()]
)
def test_a_recording_that_fails_is_the_last(error: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    net, tape = network(), Tape(fails=1, error=error)
    recording(net, tape)
    assert net.recorded is not None
    with caplog.at_level(logging.INFO):
        for length in (20, 20, 40, 40, 20, 40):
            data = features([length])
            assert same(infer(net, data).logits, infer(network(), data).logits)
    assert (tape.recorded, tape.replayed, net.recorded.recorded) == (1, 1, 0)
    (told,) = [record.message for record in caplog.records if "CUDA graphs" in record.message]
    assert str(error or tape.error).partition("\n")[0] + ")" in told


def test_forward_passes_that_wait_are_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    net, tape = network(), Tape(waits=["heads.py:71"])
    recording(net, tape)
    with caplog.at_level(logging.INFO):
        for _ in range(4):
            data = features([20])
            assert same(infer(net, data).logits, infer(network(), data).logits)
    assert (tape.recorded, tape.replayed) == (0, 0)
    (told,) = [record.message for record in caplog.records if "CUDA graphs" in record.message]
    assert "heads.py:71" in told


def test_memory_that_recordings_hold_is_given_back_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, tape = network(), Tape()
    recording(net, tape)
    forwards = net.recorded
    assert forwards is not None
    for _ in range(2):
        infer(net, features([20]))
    whole, calls = Network.forward, []

    def short_of_memory(self: Network, batch: Batch) -> Tensor:
        calls.append(forwards.recorded)
        if forwards.recorded:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, batch)

    monkeypatch.setattr(Network, "forward", short_of_memory)
    data = features([60, 50])
    found = infer(net, data).logits
    assert calls == [1, 0]
    monkeypatch.undo()
    assert same(found, infer(network(), data).logits)


@pytest.mark.parametrize("place", ["laid_out", "empty_like"])
def test_no_memory_for_a_replay_gives_recordings_up(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, tape = network(), Tape()
    recording(net, tape)
    forwards = net.recorded
    assert forwards is not None
    for _ in range(2):
        infer(net, features([20]))
    assert forwards.recorded == 1

    def none_left(*arguments: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    where: object = _Shape if place == "laid_out" else torch
    monkeypatch.setattr(where, place, none_left)
    forwards.bind(net.modules(), CPU)
    assert forwards.replayed(net, pack_with_companion(features([20]), np.arange(1))) is None
    assert forwards.recorded == 0
    monkeypatch.undo()
    for _ in range(3):
        assert same(infer(net, features([20])).logits, infer(network(), features([20])).logits)
    assert tape.recorded == 1


def test_no_memory_at_all_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(self: Network, batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    net = recording(network(), Tape())
    monkeypatch.setattr(Network, "forward", none_left)
    with pytest.raises(torch.OutOfMemoryError):
        infer(net, features([20]))


def test_what_is_handed_out_is_the_callers_own() -> None:
    net, forwards = network(), RecordedForwards(ANY, Tape())
    forwards.bind(net.modules(), CPU)
    first, second = (pack(features([20], seed), np.arange(1)) for seed in (0, 1))
    forwards.replayed(net, first)
    one = forwards.replayed(net, first)
    assert one is not None
    kept = one.clone()
    other = forwards.replayed(net, second)
    assert other is not None
    assert torch.equal(one, kept)
    assert not torch.equal(one, other)


def test_threads_get_their_own_answers() -> None:
    net = recording(network(), Tape())
    data = [features([20], seed) for seed in range(8)]
    expected = [infer(network(), one).logits for one in data]
    infer(net, data[0])
    wrong: list[int] = []

    def ask(i: int) -> None:
        for _ in range(10):
            if not same(infer(net, data[i]).logits, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=partial(ask, i)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_copies_begin_without_recordings() -> None:
    net, data = network(), features([20])
    record_forwards(net)
    assert net.recorded is not None
    net.recorded = RecordedForwards(ANY, Tape())
    for _ in range(2):
        infer(net, data)
    assert net.recorded.recorded == 1
    copied = copy.deepcopy(net)
    assert copied.recorded is not None
    assert copied.recorded is not net.recorded
    assert copied.recorded.recorded == 0
    record_forwards(net)
    again: Network = pickle.loads(pickle.dumps(net))
    assert again.recorded is not None
    assert same(infer(again, data).logits, infer(net, data).logits)


def test_heads_that_look_at_targets_are_not_recorded() -> None:
    config = network().encoder.config
    net = Network(Encoder(config), PretrainingHead(config, next_sentence=False))
    record_forwards(net)
    assert net.recorded is None


def test_nothing_records_on_the_cpu_or_where_it_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert recorder_for(CPU) is None
    monkeypatch.setenv("BERTUNE_CUDA_GRAPHS", "off")
    assert recorder_for(torch.device("cuda", 0)) is None
    net = network()
    record_forwards(net)
    for _ in range(3):
        infer(net, features([20]))
    assert net.recorded is not None
    assert net.recorded.recorded == 0


def test_large_batches_are_not_recorded() -> None:
    net, tape = network(), Tape()
    net.recorded = RecordedForwards(128, tape)
    for count in (4, 5):  # 120 and 150 tokens
        for _ in range(3):
            data = features([30] * count)
            assert same(infer(net, data).logits, infer(network(), data).logits)
    assert (tape.recorded, tape.replayed) == (1, 2)


def test_one_row_a_token_and_one_a_sequence_alike() -> None:
    """128 sequences of a token each: whose row is whose cannot be told, so nothing is recorded."""
    net, tape = network("tokens"), Tape()
    recording(net, tape)
    data = features([1] * 128)
    for _ in range(3):
        assert same(infer(net, data).logits, infer(network("tokens"), data).logits)
    assert tape.recorded == 0


def test_a_network_left_in_training_is_evaluated() -> None:
    for name in ("", "encoder.layers.1.dropout"):
        net = network()
        net.get_submodule(name).train()
        assert same(infer(net, features([20, 9])).logits, infer(network(), features([20, 9])).logits, within=0)
        assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_no_value_is_needed_on_the_host(head: str, family: str) -> None:
    """On the route that CUDA takes but for its attention kernel; else no graph could hold it."""
    net, data = network(head, family), features([9, 20, 5, 31, 2])
    net.encoder.set_compute_dtype(torch.bfloat16)
    batch = pack(data, np.arange(5))
    shape = _Shape.of(batch.layout)
    inputs, waits = shape.laid_out(batch, CPU), Waits()
    with torch.inference_mode(), waits:
        net(shape.batch(inputs))
    assert waits.found == []


def test_targets_are_not_looked_at() -> None:
    net, tape = network(), Tape()
    recording(net, tape)
    for some in ({}, {"label": np.zeros(1, np.int32)}, {"other": np.zeros((1, 7))}):
        infer(net, dataclasses.replace(features([20]), targets=some))
    assert tape.replayed == 2
