"""Peak memory of fine-tuning BERT-base on 32 sequences of 128 tokens: `python -m benchmarks.memory`.

Plainly, in four parts of 8, and with activations computed twice; each in a process of its own.
"""

import subprocess
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.machine import save_result

PROGRAM = """
import resource, sys, numpy as np, torch
from bertune.features import Features, Ragged
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.network import Network, pack
from bertune.hardware import choose_device, choose_dtype
from bertune.tasks.shared.heads import PooledHead
from bertune.options import AdamWOptions
from bertune.training.loop.optimizer import AdamW
parts, twice = int(sys.argv[1]), sys.argv[2] == "twice"
config = EncoderConfig(vocab_size=30522)
network = Network(Encoder(config), PooledHead(config, 2))
network.encoder.embeddings.word.sparse = True
network.encoder.activation_checkpointing = twice
optimizer = AdamW(network.named_parameters(), AdamWOptions())
network.encoder.set_compute_dtype(choose_dtype("auto", choose_device("cpu")))
ids = np.random.default_rng(0).integers(1000, 30000, 32 * 128).astype(np.int32)
column, zeros = (Ragged.from_lengths(values, np.full(32, 128)) for values in (ids, np.zeros_like(ids)))
features = Features(column, zeros, np.arange(32, dtype=np.int32))
for _ in range(2):
    for rows in np.array_split(np.arange(32), parts):
        logits = network(pack(features, rows))
        torch.nn.functional.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.int64)).backward()
        if parts > 1:
            optimizer.accumulate()
    optimizer.step(1e-5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    """Measure, print, keep."""
    results = {}
    for name, parts, twice in (("plain", 1, ""), ("4 parts of 8", 4, ""), ("activations twice", 1, "twice")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(parts), twice], check=True, capture_output=True, text=True
        )
        results[name] = int(done.stdout) / 2**20
    table = Table("BERT-base, 32 x 128 tokens", "peak GiB")
    for name, value in results.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    save_result("memory", results)


if __name__ == "__main__":
    main()
