"""Tokenization and feature building beside transformers, in pairs a minute: `python -m benchmarks.tokenize`."""

import statistics
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.peer import minilm
from benchmarks.workers import keep, machine
from benchmarks.workloads import mrpc_folder
from bertune.checkpoints.source import open_checkpoint
from bertune.tasks.task import new_task

ROUNDS = 5


def pairs_a_minute(work: Callable[[], object], pairs: int) -> float:
    """One timing."""
    start = time.perf_counter()
    work()
    return pairs / (time.perf_counter() - start) * 60


def main() -> None:
    """Both sides in turn over MRPC's training pairs, five times."""
    path = mrpc_folder() / "train.tsv"
    task = new_task("mrpc")
    examples = list(task.read(path, labelled=True))
    task = task.learn(examples, path=path, settings={})
    texts = [example.text for example in examples], [example.pair for example in examples]
    theirs = AutoTokenizer.from_pretrained(minilm())
    with open_checkpoint("minilm") as checkpoint:
        tokenizer = checkpoint.tokenizer
    own = [
        lambda: task.featurize(examples, tokenizer, 128, purpose="train"),
        lambda: theirs(*texts, truncation=True, max_length=128),
    ]
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS + 1):
        for side, work in zip(rates, own, strict=True):
            rate = pairs_a_minute(work, len(examples))
            if turn:
                side.append(rate)
    mine, peer = statistics.median(rates[0]), statistics.median(rates[1])
    table = Table("", "pairs a minute")
    table.add_row("bertune: tokens, truncation, columns", f"{mine:,.0f}")
    table.add_row("transformers' tokenizer", f"{peer:,.0f}")
    Console().print(table)
    keep("tokenize", {"bertune": mine, "peer": peer, "ratio": mine / peer, "machine": machine()})


if __name__ == "__main__":
    main()
