"""The data that benchmarks run on: MRPC where BERTUNE_SHARED has it, else made-up pairs of MRPC's lengths."""

import os
import random
import tempfile
from pathlib import Path

BATCH = 32
TRAINING_ROWS = {"minilm": 320, "bert-base": 96}
"""Rows that both sides train on, whole epochs at a time: grouped by length, the peer's steps differ in size."""

WORDS = (
    "the a of to in and that said for on with is was by at from as it he company has its will be percent shares year "
    "million would government after new been last more than people market state police officials two first reported"
).split()


def mrpc_folder() -> Path:
    """A folder with train.tsv and dev.tsv in MRPC's form."""
    shared = os.environ.get("BERTUNE_SHARED")
    if shared and (Path(shared) / "data/glue/MRPC/train.tsv").is_file():
        return (Path(shared) / "data/glue/MRPC").resolve()
    folder = Path(tempfile.gettempdir()) / "bertune-made-up-mrpc"
    folder.mkdir(exist_ok=True)
    for name, rows, seed in (("train", 3667, 1), ("dev", 408, 2)):
        _write(folder / f"{name}.tsv", rows, random.Random(seed))
    return folder


def _write(path: Path, rows: int, rng: random.Random) -> None:
    """Pairs whose word pieces have MRPC's mean (53 a pair) and spread."""
    lines = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    for row in range(rows):
        texts = [" ".join(rng.choices(WORDS, k=max(8, round(rng.gauss(25, 6))))) + " ." for _ in range(2)]
        lines.append(f"{rng.randint(0, 1)}\t{row}\t{row}\t{texts[0]}\t{texts[1]}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
