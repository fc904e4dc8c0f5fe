"""SIGINT and SIGTERM: what a run finishes, keeps and says, and that it goes on exactly by the command that it names."""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertune.errors import Interrupted
from bertune.training.loop.signals import (
    raise_if_requested,
    signals_deferred,
    signals_handled,
    signals_immediate,
    stop_requested,
)
from tests import tiny
from tests.nursery import Nursery, command_line
from tests.runs import differences, last_checkpoint, prepare

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    yield
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before
    assert not stop_requested()


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_raised_where_it_comes(number: signal.Signals, status: int) -> None:
    with pytest.raises(Interrupted) as error, signals_handled():
        signal.raise_signal(number)
    assert (error.value.number, error.value.status) == (number, status)
    assert isinstance(error.value, KeyboardInterrupt)


def test_deferred_to_the_end_of_the_block(capfd: pytest.CaptureFixture[str]) -> None:
    done = []

    def work() -> None:
        with signals_handled(), signals_deferred():
            signal.raise_signal(signal.SIGTERM)
            assert stop_requested()
            done.append(1)

    with pytest.raises(Interrupted, match="interrupted by SIGTERM"):
        work()
    assert done
    assert capfd.readouterr().err == "SIGTERM: finishing this step; once more stops at once\n"


def test_a_second_one_does_not_wait() -> None:
    with signals_handled(), signals_deferred():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted, match=r"interrupted by SIGTERM; 3 of 4"):
            raise_if_requested("3 of 4")
        with pytest.raises(Interrupted), signals_immediate():
            pytest.fail("what must not begin has begun")
        from bertune.training.loop import signals as interruption

        interruption._watch.stop_requested = None


def test_at_once_inside_deferred() -> None:
    with signals_handled(), signals_deferred():
        with pytest.raises(Interrupted), signals_immediate():
            signal.raise_signal(signal.SIGINT)
        from bertune.training.loop import signals as interruption

        interruption._watch.stop_requested = None
        signal.raise_signal(signal.SIGINT)  # waits again
        interruption._watch.stop_requested = None


def test_another_exception_goes_before() -> None:
    def work() -> None:
        with signals_handled(), signals_deferred():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("work")

    with pytest.raises(ValueError, match="work"):
        work()


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with signals_handled():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_train_without_handlers() -> None:
    found = []

    def work() -> None:
        with signals_handled(), signals_deferred(), signals_immediate():
            found.append(stop_requested())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


LONG = {"max_steps": 100_000, "checkpoint_every": None, "gradient_accumulation": 1}


@pytest.mark.parametrize(("number", "status"), SIGNALS)
@pytest.mark.parametrize("task", ["text-classification", "pretraining"])
def test_a_run_stops_within_seconds_and_says_how_to_go_on(
    nursery: Nursery, tmp_path: Path, task: str, number: signal.Signals, status: int
) -> None:
    options = prepare(tmp_path, task) | LONG | ({"evaluate_every": 5} if task == "pretraining" else {})
    child = nursery.start(*command_line(options, tmp_path / "run"))
    child.until("step ")
    sent = time.monotonic()
    child.send(number)
    assert child.wait() == status
    assert time.monotonic() - sent < 5
    *_, last = child.told.splitlines()
    told = rf"interrupted by {number.name}; (\d+) of 100000 steps are kept in a checkpoint; continue with: bertune "
    found = re.match(told, last)
    assert found, child.told
    assert "Traceback" not in child.told
    kept = last_checkpoint(tmp_path / "run")
    assert kept.name.startswith(f"step-{int(found[1]):08d}")
    command = shlex.split(last.partition("continue with: ")[2])
    assert command[0] == "bertune"
    again = nursery.start(*command[1:])
    again.until("step ")
    again.send(number)
    assert again.wait() == status
    assert last_checkpoint(tmp_path / "run") > kept


def _task_file(path: Path, body: str) -> str:
    lines = ["import time", "from bertune.tasks.text_classification import TextClassification", ""]
    lines += ["class Slow(TextClassification):", body]
    path.write_text("\n".join(lines))
    return f"{path}:Slow"


SLOW_LOSS = """
    def loss(self, logits, targets, layout):
        print("losing")
        time.sleep(60 if logits.requires_grad else 0)
        return super().loss(logits, targets, layout)
"""
SLOW_EVALUATION = """
    def metrics(self, logits, features, examples):
        print("measuring", flush=True)
        time.sleep(60)
        return super().metrics(logits, features, examples)
"""
SLOW_READING = """
    def featurize(self, examples, tokenizer, max_length, *, purpose):
        print("featurizing", flush=True)
        time.sleep(60)
        return super().featurize(examples, tokenizer, max_length, purpose=purpose)
"""


def test_a_second_signal_stops_at_once(nursery: Nursery, tmp_path: Path) -> None:
    slow = _task_file(tmp_path / "slow.py", SLOW_LOSS.replace('"losing"', '"losing", flush=True'))
    child = nursery.start(*command_line(prepare(tmp_path, "text-classification") | {"task": slow}, tmp_path / "run"))
    child.until("losing")
    child.send(signal.SIGTERM)
    child.until("finishing this step")
    assert not child.ended()
    sent = time.monotonic()
    child.send(signal.SIGTERM)
    assert child.wait() == 143
    assert time.monotonic() - sent < 5
    assert "Traceback" not in child.told
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_an_evaluation_is_broken_off(nursery: Nursery, tmp_path: Path) -> None:
    quick = _task_file(tmp_path / "quick.py", "    pass")  # a file too: dropout is drawn otherwise for bertune's own
    options = prepare(tmp_path, "text-classification") | {"task": quick}
    assert nursery.start(*command_line(options, tmp_path / "whole")).wait() == 0
    slow = _task_file(tmp_path / "slow.py", SLOW_EVALUATION)
    child = nursery.start(*command_line(options | {"task": slow}, tmp_path / "run"))
    child.until("measuring")
    child.send(signal.SIGINT)
    assert child.wait() == 130
    assert "3 of 6 steps are kept in a checkpoint" in child.told
    text = (tmp_path / "run" / "run.yaml").read_text()
    (tmp_path / "run" / "run.yaml").write_text(text.replace(slow, quick))
    assert nursery.start(*command_line(options, tmp_path / "run"), "--resume").wait() == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_before_the_first_update_nothing_is_written(nursery: Nursery, tmp_path: Path) -> None:
    slow = _task_file(tmp_path / "slow.py", SLOW_READING)
    child = nursery.start(*command_line(prepare(tmp_path, "text-classification") | {"task": slow}, tmp_path / "run"))
    child.until("featurizing")
    before = tiny.files(tmp_path)
    child.send(signal.SIGTERM)
    assert child.wait() == 143
    assert child.told.splitlines()[-1] == (
        "interrupted by SIGTERM; the run had not begun, the same command starts it again"
    )
    assert tiny.files(tmp_path) == before


def test_nohup_holds(nursery: Nursery, tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification") | LONG
    child = nursery.start(*command_line(options, tmp_path / "run"), ignored=[signal.SIGINT])
    child.until("\nstep 3 ")
    child.send(signal.SIGINT)
    child.until("\nstep 12 ")
    child.send(signal.SIGTERM)
    assert child.wait() == 143


def test_the_real_command(tmp_path: Path) -> None:
    """Nothing is forked here: the command as a person starts it."""
    options: dict[str, Any] = prepare(tmp_path, "text-classification") | LONG
    command = [sys.executable, "-m", "bertune", *map(str, command_line(options, tmp_path / "run"))]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("step "):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(10) == 130, rest
    assert "continue with: bertune train --config" in rest
