"""bertune's side on a GPU: python -m benchmarks.gpu_own JOB bert-base|minilm BATCH; see `benchmarks.gpu`."""

import dataclasses
import sys
import time

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.own import NoCheckpointer
from benchmarks.workers import commands, say
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.features import Features, Ragged
from bertune.hardware import choose_device, choose_dtype, prepare_process
from bertune.inference.evaluation import infer, record_forwards
from bertune.network import Batch, Network
from bertune.options import AdamWOptions
from bertune.tasks.shared.heads import PooledHead
from bertune.training.loop.loop import TrainingBatches, fit
from bertune.training.loop.optimizer import AdamW, Schedule
from bertune.training.loop.state import TrainConfig, TrainingSetup, TrainState
from bertune.training.loop.validation import steps_per_epoch

ROWS = 3668
SERVED = 256
"""Sequences that are asked for one by one."""
VOCABULARY = 30522
SIZES = {
    "bert-base": (768, 12, 12, 3072),
    "minilm": (384, 6, 12, 1536),
    "tiny": (64, 2, 2, 128),
}
"""Hidden size, layers, heads, width inside the feed-forward part. Weights are random: their speed is the same."""


def made_up_rows(rows: int = ROWS) -> tuple[list[list[int]], list[int]]:
    """Token ids of as many pairs as MRPC trains on, of its lengths (mean 53), and labels; the same for both sides."""
    rng = np.random.default_rng(1)
    lengths = np.clip(rng.normal(53, 13, rows), 16, 128).astype(int)
    ids = [rng.integers(1000, VOCABULARY, length).tolist() for length in lengths]
    return ids, rng.integers(0, 2, rows).tolist()


def features() -> Features:
    """The rows as features; the second half of every pair is its segment B."""
    ids, labels = made_up_rows()
    segments = [[0] * (len(row) - len(row) // 2) + [1] * (len(row) // 2) for row in ids]
    index = np.arange(len(ids), dtype=np.int32)
    columns = Ragged.from_lists(ids), Ragged.from_lists(segments)
    return Features(*columns, index, {"label": np.array(labels, np.int32)})


def network(encoder: str) -> Network:
    """The encoder with a classification head of two labels."""
    hidden, layers, heads, inner = SIZES[encoder]
    config = EncoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )
    return Network(Encoder(config), PooledHead(config, 2))


def matrix_rate(device: torch.device, size: int = 8192) -> float:
    """Multiply-adds a second, twice, of a large bfloat16 product of random numbers; the median of ten."""
    x, w = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    rates = []
    for _ in range(13):
        synchronize(device)
        start = time.perf_counter()
        torch.mm(x, w)
        synchronize(device)
        rates.append(2 * size**3 / (time.perf_counter() - start))
    return float(np.median(rates[3:]))


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def loss(logits: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, one term a sequence."""
    target = batch.targets["label"]
    return F.cross_entropy(logits, target, reduction="sum"), torch.tensor(target.numel())


def main() -> None:
    """See the module's docstring."""
    job, encoder, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    device = choose_device("auto")
    prepare_process(device)
    torch.manual_seed(1)
    data, net = features(), network(encoder).to(device)
    weights = sum(p.numel() for p in net.encoder.layers.parameters() if p.ndim > 1)
    rate = matrix_rate(device, 8192 if device.type == "cuda" else 512)
    facts = {"layer_weights": weights, "matrix_rate": rate, "mean_tokens": data.tokens / len(data)}
    {"train": _train, "predict": _predict, "serve": _serve}[job](net, data, batch_size, facts)


def _train(net: Network, data: Features, batch_size: int, facts: dict[str, float]) -> None:
    device = net.device
    net.encoder.embeddings.word.sparse = device.type == "cpu"
    optimizer = AdamW(net.named_parameters(), AdamWOptions())
    net.encoder.set_compute_dtype(choose_dtype("auto", device))
    batches = TrainingBatches(data, device)
    graphs = batches.recorded_updates(net, batch_size)
    parts = TrainingSetup(net, len(data), batches.make, loss, optimizer, None, NoCheckpointer(), graphs=graphs)
    an_epoch = steps_per_epoch(len(data), batch_size)
    plan = TrainConfig(an_epoch, batch_size, 1, 1, Schedule(1e-5, 10**6, 1), None, None, check_every=10**6)
    progress = TrainState()

    def epochs(count: int) -> float:
        nonlocal progress
        synchronize(device)
        start = time.perf_counter()
        steps = progress.step + count * an_epoch
        progress = fit(parts, dataclasses.replace(plan, steps=steps), progress)
        synchronize(device)
        return time.perf_counter() - start

    epochs(2 if device.type == "cuda" else 1)
    say(**facts)
    for count in commands():
        seconds = epochs(count)
        say(
            seconds=seconds,
            examples_per_second=count * len(data) / seconds,
            recorded=0 if graphs is None else graphs.recorded,
            peak_gib=_peak(device),
        )


def _predict(net: Network, data: Features, batch_size: int, facts: dict[str, float]) -> None:
    _answer(net, [data], batch_size, facts)


def _serve(net: Network, data: Features, batch_size: int, facts: dict[str, float]) -> None:
    single = []
    for row in range(SERVED):
        one = np.array([row])
        single.append(Features(data.input_ids.take(one), data.segment_ids.take(one), np.zeros(1, np.int32)))
    _answer(net, single, batch_size, facts)


def _answer(net: Network, asked: list[Features], batch_size: int, facts: dict[str, float]) -> None:
    """One call after the other, each of which waits for its answers."""
    net.encoder.set_compute_dtype(choose_dtype("auto", net.device))
    record_forwards(net)
    for _ in range(3):  # the second time records
        for data in asked:
            infer(net, data, batch_size=batch_size)
    say(**facts)
    for count in commands():
        start = time.perf_counter()
        for _ in range(count):
            for data in asked:
                infer(net, data, batch_size=batch_size)
        seconds = time.perf_counter() - start
        say(
            seconds=seconds,
            examples_per_second=count * sum(map(len, asked)) / seconds,
            recorded=0 if net.recorded is None else net.recorded.recorded,
            peak_gib=_peak(net.device),
        )


def _peak(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0


if __name__ == "__main__":
    main()
