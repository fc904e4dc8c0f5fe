"""Peak memory of pre-training against the size of its text: `python -m benchmarks.pretrain_memory [MEGABYTES ...]`.

Generated text of 10 and of 200 megabytes; each run tokenizes it, holds a part out, evaluates and trains a tiny encoder
from scratch, in a process of its own. Anonymous memory is what the run holds itself; pages of the mapped shards, which
the system takes back when it needs them, are counted apart.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import save_result

WORDS = 6000
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "max_position_embeddings": 128,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
}


def write_text(path: Path, megabytes: int, words: list[str]) -> None:
    """Sentences of words by Zipf's law, ten sentences a document."""
    chance = np.random.default_rng(0)
    share = 1 / np.arange(1, len(words) + 1)
    share /= share.sum()
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < megabytes << 20:
            drawn = chance.choice(len(words), size=(500, 10, 14), p=share)
            text = "".join(
                "".join(" ".join(words[index] for index in sentence) + ".\n" for sentence in document) + "\n"
                for document in drawn
            )
            written += file.write(text)


def write_start(folder: Path) -> list[str]:
    """A vocabulary of made-up words and a config for it; the words."""
    chance = np.random.default_rng(1)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = sorted({"".join(chance.choice(syllables, chance.integers(1, 4))) for _ in range(2 * WORDS)})[:WORDS]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (folder / "bert_config.json").write_text(json.dumps(SIZES | {"vocab_size": len(tokens)}), encoding="utf-8")
    return words


def measure(folder: Path, text: Path, name: str) -> dict[str, float]:
    """Run `bertune pretrain` on a text and watch its memory: peaks in MiB, seconds."""
    command = [sys.executable, "-m", "bertune", "pretrain", "--train", str(text), "--output", str(folder / name)]
    command += ["--encoder-config", str(folder / "bert_config.json"), "--vocab", str(folder / "vocab.txt")]
    command += ["--cache", str(folder / f"cache-{name}"), "--max-steps", "20", "--max-validation-sequences", "200"]
    command += ["--validation-share", "0.01", "--lines", "sentences", "--next-sentence", "--device", "cpu"]
    peaks = {"RssAnon": 0, "RssFile": 0, "VmHWM": 0}
    start = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
            except OSError:
                break
            for line in lines:
                key, _, value = line.partition(":")
                if key in peaks:
                    peaks[key] = max(peaks[key], int(value.split()[0]))
            time.sleep(0.05)
        told = process.stderr.read() if process.stderr is not None else ""
    if process.returncode:
        raise SystemExit(told)
    return {name: value / 1024 for name, value in peaks.items()} | {"seconds": time.perf_counter() - start}


def main() -> None:
    """Measure, print, keep."""
    sizes = [int(argument) for argument in sys.argv[1:]] or [10, 200]
    results = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = write_start(folder)
        for size in sizes:
            text = folder / "text.txt"
            write_text(text, size, words)
            results[f"{size} MB"] = measure(folder, text, str(size))
    table = Table("text", "anonymous MiB", "mapped files MiB", "peak resident MiB", "seconds")
    for name, found in results.items():
        table.add_row(name, *(f"{found[key]:.0f}" for key in ("RssAnon", "RssFile", "VmHWM", "seconds")))
    Console().print(table)
    save_result("pretrain_memory", results)


if __name__ == "__main__":
    main()
