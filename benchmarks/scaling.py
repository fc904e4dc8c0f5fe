"""How cost grows with batch size, length and rows: `python -m benchmarks.scaling [--rows 1000000]`.

Training: microseconds a real token over batch sizes and lengths (minilm, random tokens). Prediction: rows a second
and peak memory over numbers of rows, through `bertune predict` on a tiny encoder, so that the rest is measured.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import save_result
from bertune.checkpoints.source import open_encoder
from bertune.features import Features, Ragged
from bertune.hardware import choose_device, choose_dtype, prepare_process
from bertune.network import Network, pack
from bertune.options import AdamWOptions
from bertune.tasks.shared.heads import PooledHead
from bertune.training.loop.optimizer import AdamW


def microseconds_a_token(batch_size: int, length: int) -> float:
    """Median time of a training step divided by its tokens."""
    encoder, _ = open_encoder("minilm")
    network = Network(encoder, PooledHead(encoder.config, 2))
    encoder.embeddings.word.sparse = True
    optimizer = AdamW(network.named_parameters(), AdamWOptions())
    encoder.set_compute_dtype(choose_dtype("auto", choose_device("cpu")))
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, batch_size * length).astype(np.int32)
    column = Ragged.from_lengths(ids, np.full(batch_size, length))
    zeros = Ragged.from_lengths(np.zeros_like(ids), np.full(batch_size, length))
    batch = pack(Features(column, zeros, np.arange(batch_size, dtype=np.int32)), np.arange(batch_size))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(network(batch), torch.zeros(batch_size, dtype=torch.int64))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-5)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:])) / (batch_size * length) * 1e6


def prediction(rows: int, model: Path) -> tuple[float, float]:
    """Rows a second and peak memory in MiB of a process that predicts that many rows."""
    with tempfile.TemporaryDirectory() as base:
        data = Path(base) / "rows.csv"
        with data.open("w", encoding="utf-8") as file:
            file.write("text\n")
            file.writelines(f"row {row} is about lamps and hubs and parcels\n" for row in range(rows))
        code = (
            "import re; from bertune.cli.main import main; "
            f"main(['predict','--model',{str(model)!r},'--input',{str(data)!r},'--output',{str(Path(base) / 'o')!r}]); "
            # Not getrusage's ru_maxrss, which begins with the peak of the process that started this one.
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        return rows / (time.perf_counter() - start), int(done.stdout) / 1024


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    most = parser.parse_args().rows
    prepare_process(choose_device("cpu"))
    table = Table("batch", "length", "us a real token")
    tokens = {}
    for batch_size, length in [(8, 53), (32, 53), (64, 53), (256, 53), (32, 32), (32, 128), (16, 256), (8, 512)]:
        tokens[f"{batch_size}x{length}"] = microseconds_a_token(batch_size, length)
        table.add_row(str(batch_size), str(length), f"{tokens[f'{batch_size}x{length}']:.1f}")
    Console().print(table)
    with tempfile.TemporaryDirectory() as base:
        model = tiny_model(Path(base))
        found = {rows: prediction(rows, model) for rows in (1_000, 10_000, 100_000, 1_000_000) if rows <= most}
    table = Table("rows", "rows a second", "peak MiB")
    for rows, (rate, memory) in found.items():
        table.add_row(f"{rows:,}", f"{rate:,.0f}", f"{memory:.0f}")
    Console().print(table)
    save_result("scaling", {"us_a_token": tokens, "predict": {str(k): v for k, v in found.items()}})


def tiny_model(folder: Path) -> Path:
    """A trained model with a tiny random encoder."""
    from transformers import BertConfig, BertModel

    import bertune
    from bertune.checkpoints.source import open_checkpoint

    config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    BertModel(config).save_pretrained(folder / "encoder")
    with open_checkpoint("minilm") as checkpoint:
        checkpoint.tokenizer.save(folder / "encoder", max_length=512)
    data = folder / "train.csv"
    data.write_text("text,label\n" + "".join(f"text {i},{i % 2}\n" for i in range(32)), encoding="utf-8")
    bertune.train(
        task="text-classification", encoder=folder / "encoder", train=data, output=folder / "model", max_steps=1
    )
    assert json.loads((folder / "model/bertune.json").read_text())
    return folder / "model"


if __name__ == "__main__":
    main()
