"""Tokenization and feature building beside transformers, in pairs a minute: `python -m benchmarks.tokenize`."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.machine import save_result
from benchmarks.peer import minilm
from benchmarks.workloads import mrpc_folder
from bertune.checkpoints.source import open_checkpoint
from bertune.data.feature_store import FeatureStore
from bertune.data.rows import file_sha256
from bertune.tasks.registry import new_task

ROUNDS = 5


def pairs_a_minute(work: Callable[[], object], pairs: int) -> float:
    """One timing."""
    start = time.perf_counter()
    work()
    return pairs / (time.perf_counter() - start) * 60


def main() -> None:
    """Both sides in turn over MRPC's training pairs, five times, and the same features found kept on disk."""
    with tempfile.TemporaryDirectory() as folder:
        _measure(FeatureStore(Path(folder)))


def _measure(store: FeatureStore) -> None:
    path = mrpc_folder() / "train.tsv"
    task = new_task("mrpc")
    examples = list(task.read(path, labelled=True))
    task = task.fit(examples, path=path, settings={})
    texts = [example.text for example in examples], [example.pair for example in examples]
    theirs = AutoTokenizer.from_pretrained(minilm())
    with open_checkpoint("minilm") as checkpoint:
        tokenizer = checkpoint.tokenizer
    own = [
        lambda: task.featurize(examples, tokenizer, 128, purpose="train"),
        lambda: theirs(*texts, truncation=True, max_length=128),
        lambda: store.find(file_sha256(path)),
    ]
    store.put(file_sha256(path), task.featurize(examples, tokenizer, 128, purpose="train"))
    rates: tuple[list[float], list[float], list[float]] = ([], [], [])
    for turn in range(ROUNDS + 1):
        for side, work in zip(rates, own, strict=True):
            rate = pairs_a_minute(work, len(examples))
            if turn:
                side.append(rate)
    mine, peer, kept = map(statistics.median, rates)
    table = Table("", "pairs a minute")
    table.add_row("bertune: tokens, truncation, columns", f"{mine:,.0f}")
    table.add_row("transformers' tokenizer", f"{peer:,.0f}")
    table.add_row("bertune: kept features, found by the file's hash and checked", f"{kept:,.0f}")
    Console().print(table)
    found = {"bertune": mine, "peer": peer, "ratio": mine / peer, "kept": kept}
    save_result("tokenize", found)


if __name__ == "__main__":
    main()
