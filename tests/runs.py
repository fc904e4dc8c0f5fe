"""Small runs of every task, and whether two of them ended alike to the last bit."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bertune.pretraining.pretrain import pretrain
from bertune.training.train import train
from tests import tiny
from tests.conformance import SAMPLES

UPDATES = 6
"""Of each of these runs: two epochs of three."""


def _rows(name: str, count: int) -> list[str]:
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines(keepends=True)
    return lines[: count + (not name.endswith("jsonl"))]


def _mrpc(path: Path, count: int) -> None:
    rows = ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"]
    rows += [f"{i % 2}\t1\t2\tthe film is {'good' if i % 3 else 'bad'}\tthe film is good" for i in range(count)]
    path.write_text("\n".join(rows) + "\n")


def _sentences(path: Path, count: int) -> None:
    blocks = (SAMPLES / "entities/train.conll").read_text(encoding="utf-8").split("\n\n")
    path.write_text("\n\n".join(blocks[:count]) + "\n")


def _questions(path: Path, count: int) -> None:
    made = []
    for i in range(count):
        answer = {"text": "good" if i % 2 else "bad", "answer_start": 8}
        context = f"film is {answer['text']}, the film {'abc'[i % 3]}"
        answers = [] if i % 4 == 3 else [answer]
        made.append({"id": str(i), "question": "is the film", "answers": answers, "is_impossible": not answers})
        made[-1] = {"context": context, "qas": [made[-1]]}
    tiny.write_json(path, {"version": "v2.0", "data": [{"title": "films", "paragraphs": made}]})


def _documents(path: Path, count: int) -> None:
    """Lines of equal length, so that as many sequences come of them."""
    chance = random.Random(count)
    words = ("good", "bad", "film", "the", "is")
    path.write_text("\n\n".join(" ".join(chance.choices(words, k=13)) for _ in range(count)) + "\n")


@dataclass(frozen=True)
class Kind:
    """A task with data of its own. write: so many rows into a file.  options: what its runs take besides."""

    suffix: str
    write: Callable[[Path, int], None]
    options: dict[str, Any] = field(default_factory=dict)


def _sample(name: str) -> Callable[[Path, int], None]:
    def write(path: Path, count: int) -> None:
        path.write_text("".join(_rows(name, count)), encoding="utf-8")

    return write


def _opinions(path: Path, count: int) -> None:
    tiny.write_rows(path, tiny.opinions(count))


KINDS = {
    "text-classification": Kind("csv", _opinions),
    "mrpc": Kind("tsv", _mrpc),
    "regression": Kind("csv", _sample("similarity/train.csv")),
    "multi-label-classification": Kind("csv", _sample("topics/train.csv")),
    "multiple-choice": Kind("jsonl", _sample("choices/train.jsonl")),
    "token-classification": Kind("conll", _sentences),
    "question-answering": Kind("json", _questions),
    "embedding": Kind("csv", _sample("similarity/train.csv")),
    "pretraining": Kind("txt", _documents, {"lines": "documents", "max_seq_length": 16}),
}


def prepare(folder: Path, task: str) -> dict[str, Any]:
    """Data and a tiny encoder for a task; the options of a run on them, all but the output."""
    kind = KINDS[task]
    folder.mkdir(parents=True, exist_ok=True)
    tiny.write_encoder(folder / "encoder")
    data = {role: folder / f"{role}.{kind.suffix}" for role in ("train", "validation")}
    kind.write(data["train"], 12)
    kind.write(data["validation"], 6)
    options: dict[str, Any] = {
        "encoder": folder / "encoder",
        **data,
        "max_seq_length": 32,
        "batch_size": 4,
        "max_steps": UPDATES,
        "learning_rate": 1e-2,
        "gradient_accumulation": 2,
        "checkpoint_every": 2,
        "device": "cpu",
    }
    if task == "pretraining":
        return options | {"cache": folder / "cache", "evaluate_every": 3} | kind.options
    return options | {"task": task} | kind.options


def start(output: Path, options: Mapping[str, Any]) -> int:
    """A run in this process. Returns: its updates."""
    launch = train if "task" in options else pretrain
    return launch(output=output, **options).steps


def last_checkpoint(output: Path) -> Path:
    """The newest checkpoint of a run."""
    return max((output / "checkpoints").glob("step-*"))


def final_state(output: Path) -> dict[str, torch.Tensor]:
    """Weights, moments and random generators at the end of a run."""
    state: dict[str, torch.Tensor] = load_file(last_checkpoint(output) / "state.safetensors")
    return state


def differences(one: Path, other: Path) -> list[str]:
    """What two finished runs do not share bit for bit; times are left out."""
    found = []
    a, b = final_state(one), final_state(other)
    found += sorted(name for name in a.keys() | b.keys() if name not in a or not torch.equal(a[name], b[name]))
    if not tiny.same_weights(one, other):
        found.append("model.safetensors")
    for name, read in (("progress", _progress), ("metrics.json", _metrics), ("bertune.json", _learnt)):
        if read(one) != read(other):
            found.append(f"{name}: {read(one)} and {read(other)}")
    return found


def _progress(output: Path) -> Any:
    told = json.loads((last_checkpoint(output) / "progress.json").read_text())["progress"]
    return _untimed({**told, "best_metrics": _untimed(told["best_metrics"])})


def _metrics(output: Path) -> Any:
    return _untimed(json.loads((output / "metrics.json").read_text()))


def _learnt(output: Path) -> Any:
    record = json.loads((output / "bertune.json").read_text())
    return record["task"], record["weights_sha256"]


def _untimed(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if "second" not in name and name != "record"}
