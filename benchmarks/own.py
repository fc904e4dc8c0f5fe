"""bertune's side: a worker that trains or predicts on command, and measures the machine and its rate of products.

python -m benchmarks.own train|predict minilm|bert-base FOLDER bf16|fp32|int8
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine, matrix_rate
from benchmarks.workers import commands, say
from benchmarks.workloads import BATCH, TRAINING_ROWS
from bertune.checkpoints.source import open_checkpoint
from bertune.data.batching import shuffled_batches
from bertune.encoder import int8
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.float32_route import fast_float32, pack_for_prediction
from bertune.features import Features
from bertune.hardware import choose_device, choose_dtype, prepare_process
from bertune.inference.evaluation import infer
from bertune.model.build import build_network
from bertune.network import Batch, Network, pack
from bertune.options import AdamWOptions
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task
from bertune.training.loop.loop import update
from bertune.training.loop.optimizer import AdamW, Schedule
from bertune.training.loop.state import TrainConfig, TrainingSetup, TrainState


class NoCheckpointer:
    """Keeps nothing: only steps are measured."""

    def save_checkpoint(self, optimizer: AdamW, progress: TrainState) -> None:
        """Nothing."""

    def save_best(self, weights: object, metrics: object) -> None:
        """Nothing."""

    def curves(self, values: object, step: int) -> None:
        """Nothing."""


def operations_per_sequence(network: Network, mean_tokens: float) -> float:
    """Operations of the encoder's products that a forward pass needs for an answer that reads the first token alone.

    That is all layers on all tokens, but of the last one only keys and values; the rest of it on the first token. Two
    operations per multiply-add. Attention's own products are left out: 1 to 5 % at these lengths.
    """
    layers = [sum(p.numel() for p in layer.parameters() if p.ndim > 1) for layer in network.encoder.layers]
    keys_and_values = 2 * network.encoder.config.hidden_size**2
    return 2 * ((sum(layers[:-1]) + keys_and_values) * mean_tokens + layers[-1] - keys_and_values)


def network_and_features(encoder: str, folder: Path, job: str) -> tuple[Task[object], Network, Features]:
    """MRPC's task with the encoder asked for; BERT-base has random weights, its speed is the same."""
    path = folder / ("train.tsv" if job == "train" else "dev.tsv")
    task: Task[object] = new_task("mrpc")
    examples = list(task.read(path, labelled=True))
    if job == "train":
        examples = examples[: TRAINING_ROWS[encoder]]
    task = task.fit(examples, path=path, settings={})
    with open_checkpoint("minilm") as checkpoint:
        features = task.featurize(examples, checkpoint.tokenizer, 128, purpose="train")
        network = build_network(task, checkpoint)
    if encoder == "bert-base":
        config = EncoderConfig(vocab_size=30522)
        network = Network(Encoder(config), task.new_head(config))
    return task, network, features


def main() -> None:
    """See the module's docstring."""
    job, encoder, folder, precision = sys.argv[1:5]
    device = choose_device("auto")
    prepare_process(device)
    torch.manual_seed(1)
    task, network, features = network_and_features(encoder, Path(folder), job)
    network.to(device)
    mean_tokens = features.tokens / len(features)
    facts = {
        "machine": machine(),
        "mean_tokens": mean_tokens,
        "operations_per_sequence": operations_per_sequence(network, mean_tokens) * (3 if job == "train" else 1),
        "matrix_rate": matrix_rate(precision, device),
    }
    dtype = choose_dtype("bf16" if precision == "int8" else precision, device)
    with fast_float32(device):
        if job == "train":
            _train(task, network, features, dtype, facts)
        else:
            network.encoder.set_compute_dtype(dtype)
            if precision == "int8":
                int8.quantize(network.encoder, device)
            elif device.type == "cpu":
                pack_for_prediction(network.encoder, device)
            _predict(network, features, facts)


def _train(task: Task[object], network: Network, features: Features, dtype: torch.dtype, facts: dict[str, Any]) -> None:
    device = network.device
    network.encoder.embeddings.word.sparse = device.type == "cpu"
    optimizer = AdamW(network.named_parameters(), AdamWOptions())
    network.encoder.set_compute_dtype(dtype)

    def make_batch(rows: np.ndarray, epoch: int) -> Batch:  # noqa: ARG001
        return pack(features, rows)

    parts = TrainingSetup(
        network,
        len(features),
        make_batch,
        lambda logits, batch: task.loss(logits, batch.targets, batch.layout),
        optimizer,
        None,
        NoCheckpointer(),
        drops_by_example=network.drops_by_key,
    )
    plan = TrainConfig(10**6, BATCH, 1, 1, Schedule(1e-5, 10**6, 1), None, None)
    progress = TrainState()
    batches = shuffled_batches(len(features), BATCH, seed=1, epoch=0)

    def step() -> int:
        rows = batches[progress.step % len(batches)]
        update(parts, plan, rows, progress)
        progress.step += 1
        return int(features.input_ids.lengths[rows].sum())

    for _ in batches:
        step()
    say(**facts)
    for steps in commands():
        start = time.perf_counter()
        tokens = sum(step() for _ in range(steps))
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        say(seconds=seconds, tokens_per_second=tokens / seconds)


def _predict(network: Network, features: Features, facts: dict[str, Any]) -> None:
    infer(network, features.first(128))
    say(**facts)
    for batches in commands():
        some = features.first(batches * BATCH)
        start = time.perf_counter()
        infer(network, some)
        seconds = time.perf_counter() - start
        say(seconds=seconds, tokens_per_second=some.tokens / seconds)


if __name__ == "__main__":
    main()
