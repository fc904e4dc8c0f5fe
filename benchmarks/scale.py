"""Processes beside one process: training and prediction with minilm over gloo, and Ray beside the plain engine.

    python -m benchmarks.scale                       training, prediction, Ray
    python -m benchmarks.scale --only predict        one of them
    python -m benchmarks.scale --rows 10000000       memory and speed of so many rows with a tiny encoder

Both sides run in turn on the same cores: one process with all of them, ranks with their share. What starting takes is
left out of prediction by the difference between a long and a short input.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, machine
from bertune.prediction.bulk import ROWS_OF_A_FILE

SAMPLED_EVERY = 0.25
"""Seconds between two looks at a process's memory."""
CORES = len(os.sched_getaffinity(0))
TEXT = "the parcel that i ordered on monday has not arrived and nobody answers my letters about it"


def command(ranks: int, *arguments: object) -> list[str]:
    start = (
        ["-m", "bertune"]
        if ranks == 1
        else ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "-m", "bertune"]
    )
    return [sys.executable, *start, *map(str, arguments)]


def run(ranks: int, *arguments: object) -> float:
    """Seconds that a command takes."""
    threads = {"OMP_NUM_THREADS": str(CORES if ranks == 1 else max(1, CORES // ranks))}
    begin = time.perf_counter()
    done = subprocess.run(
        command(ranks, *arguments), env=os.environ | threads, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return time.perf_counter() - begin


def write_rows(path: Path, count: int) -> Path:
    words = TEXT.split()
    with path.open("w", encoding="utf-8") as file:
        file.write("id,text,label\n")
        for i in range(count):
            file.write(f"{i},{' '.join((words * 4)[: 34 + 7 * i % 29])},{'ab'[i % 2]}\n")  # 53 tokens, as MRPC has
    return path


def training(folder: Path) -> dict[str, float]:
    data = write_rows(folder / "train.csv", 960)
    options = [
        "--task",
        "text-classification",
        "--encoder",
        "minilm",
        "--train",
        data,
        "--epochs",
        1,
        "--batch-size",
        32,
    ]
    found: dict[str, float] = {}
    for turn in range(2):
        for ranks in (1, CORES):
            output = folder / f"run-{turn}-{ranks}"
            run(ranks, "train", *options, "--output", output)
            told = json.loads((output / "metrics.json").read_text(encoding="utf-8"))
            name = f"train, {ranks} process{'es' * (ranks > 1)} (examples/s)"
            found[name] = max(found.get(name, 0.0), told["train_examples_per_second"])
    return found


def prediction(folder: Path, *, ray: bool, rows: int = 6000) -> dict[str, float]:
    model = folder / "model"
    if not model.exists():
        data = write_rows(folder / "few.csv", 64)
        options = ["--task", "text-classification", "--encoder", "minilm", "--train", data, "--max-steps", 1]
        run(1, "train", *options, "--output", model)
    long, short = write_rows(folder / "long.csv", rows), write_rows(folder / "short.csv", CORES * 64)
    ways = (
        {"1 process": (1, []), "Ray": (1, ["--engine", "ray"])}
        if ray
        else {"1 process": (1, []), f"{CORES} processes": (CORES, [])}
    )
    found = {}
    for name, (ranks, more) in ways.items():
        seconds = [
            run(ranks, "predict", "--model", model, "--input", data, "--output", folder / "out.jsonl", *more)
            for data in (long, short)
        ]
        found[f"predict, {name} (rows/s)"] = (rows - CORES * 64) / (seconds[0] - seconds[1])
    return found


def memory(folder: Path, rows: int) -> dict[str, float]:
    """A tiny encoder over so many rows: rows a second with starting, and the process's memory over time."""
    from tests.tiny import write_encoder

    encoder, data = write_encoder(folder / "encoder"), folder / "rows.jsonl"
    with data.open("w", encoding="utf-8") as file:
        words = TEXT.split()
        for i in range(rows):
            file.write(json.dumps({"id": i, "text": " ".join(words[i % 7 : i % 7 + 4 + i % 11])}) + "\n")
    few = write_rows(folder / "few.csv", 64)
    options = ["--task", "text-classification", "--encoder", encoder, "--train", few, "--max-steps", 1]
    run(1, "train", *options, "--max-seq-length", 32, "--output", folder / "tiny")
    predict = command(1, "predict", "--model", folder / "tiny", "--input", data, "--output", folder / "out.jsonl")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    resident: list[float] = []
    joining: list[float] = []
    process = subprocess.Popen(predict, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
    parts = -(-rows // ROWS_OF_A_FILE)
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        megabytes = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")]
        resident += megabytes
        # The last part's record is written when all rows are answered; the parts go once the file is whole.
        if joining or (folder / f"out.jsonl.parts/_parts/part-{parts - 1:05d}.json").is_file():
            joining += megabytes
        time.sleep(SAMPLED_EVERY)
    seconds = time.perf_counter() - begin
    assert process.returncode == 0
    with (folder / "out.jsonl").open("rb") as file:
        assert sum(1 for _ in file) == rows
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    computed = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {f"{rows} rows (rows/s)": rows / seconds, "rows a second of a core's work": rows / computed}
    for tenth in (1, 2, 4, 6, 8):
        found[f"memory after {tenth} tenths of the time (MiB)"] = resident[len(resident) * tenth // 10]
    found |= {"largest memory while parts are joined (MiB)": max(joining, default=0.0)}
    found |= {"joining (s, at least)": len(joining) * SAMPLED_EVERY}
    return found | {"largest memory (MiB)": max(resident)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("train", "predict", "ray"))
    parser.add_argument("--rows", type=int, help="measure memory over so many rows instead")
    said = parser.parse_args()
    print(describe(machine()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, float] = {}
        if said.rows:
            found |= memory(folder, said.rows)
        else:
            if said.only in (None, "train"):
                found |= training(folder)
            if said.only in (None, "predict"):
                found |= prediction(folder, ray=False)
            if said.only in (None, "ray"):
                found |= prediction(folder, ray=True)
    for label, value in found.items():
        print(f"{label:<45} {value:10.1f}")


if __name__ == "__main__":
    main()
