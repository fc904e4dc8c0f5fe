"""SIGTERM to one rank ends all of them within seconds, with status 143 and one message, whatever they are at."""

import signal
import time
from pathlib import Path

import pytest

from bertune.distributed.stopping import interruptible, status_stands
from bertune.errors import Interrupted
from tests.nursery import Child, Nursery, command_line
from tests.runs import prepare
from tests.tiny import opinions, write_rows

VERBS = ["train", "pretrain", "evaluate", "predict"]
SOON = 15.0
"""Seconds for a second's work, on a busy machine."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery) -> dict[str, list[object]]:
    """A command of every verb, but for its output."""
    folder = tmp_path_factory.mktemp("commands")
    found: dict[str, list[object]] = {}
    for verb, task in (("train", "text-classification"), ("pretrain", "pretraining")):
        (folder / verb).mkdir()
        options = prepare(folder / verb, task) | {"max_steps": 60, "checkpoint_every": 2}
        *found[verb], _, _ = command_line(options, folder)
    short = [part for part in found["train"] if part != 60]
    short[short.index("--max-steps")] = "--max-steps=2"
    model = folder / "model"
    assert nursery.start(*short, "--output", model).wait() == 0
    data = write_rows(folder / "data.jsonl", opinions(600, seed=5))
    use = ["--model", model, "--device", "cpu", "--batch-size", 4]
    found["evaluate"] = ["evaluate", *use, "--data", data]
    found["predict"] = ["predict", *use, "--input", data, "--rows-per-part", 20]
    return found


def output(verb: str, folder: Path) -> list[object]:
    return [] if verb == "evaluate" else ["--output", folder / ("out.jsonl" if verb == "predict" else "run")]


def told(children: list[Child]) -> str:
    return "\n".join(child.told for child in children)


@pytest.mark.parametrize("verb", VERBS)
def test_while_it_waits_for_another(
    nursery: Nursery, tmp_path: Path, commands: dict[str, list[object]], verb: str
) -> None:
    """Which may be tokenizing for all: PyTorch's waiting lets no signal in until it is over."""
    command = [6, *commands[verb], *output(verb, tmp_path)]
    children = nursery.ranks(3, *command, call="tests.distributed.work:busy_first")
    for child in children:
        child.until("waits")
    time.sleep(1)
    children[1].send(signal.SIGTERM)
    assert [child.wait(5) for child in children[1:]] == [143, 143], told(children)
    assert not children[0].ended()
    assert children[0].wait(SOON) == 143, told(children)
    assert told(children).count("interrupted by SIGTERM") == 1, told(children)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("verb", VERBS)
def test_while_all_compute(
    nursery: Nursery, tmp_path: Path, commands: dict[str, list[object]], verb: str, rank: int
) -> None:
    command = [*commands[verb], *output(verb, tmp_path)]
    children = nursery.ranks(2, *command, call="tests.distributed.work:slowly")
    for child in children:
        child.until("computes\n" * 6)
    children[rank].send(signal.SIGTERM)
    assert [child.wait(SOON) for child in children] == [143, 143], told(children)
    assert told(children).count("interrupted by SIGTERM") == 1, told(children)
    if verb != "evaluate":
        again = nursery.ranks(2, *command, "--resume")
        assert [child.wait() for child in again] == [0, 0], told(again)
    if verb in ("train", "pretrain"):
        assert "are kept in a checkpoint" in told(children)
        assert "going on" in again[0].told or "resum" in again[0].told, again[0].told


def test_at_its_end_a_process_keeps_its_status() -> None:
    """torchrun signals all ranks when one has ended: one that is ending likewise must not die of that."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with status_stands(ours=False):
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with status_stands():
            signal.raise_signal(signal.SIGTERM)  # would end this process
            with pytest.raises(Interrupted), interruptible(lambda: ""):
                signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
