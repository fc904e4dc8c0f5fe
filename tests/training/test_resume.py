"""A run that is stopped anywhere and resumed ends like one that never was: weights, moments, losses, metrics."""

import functools
import itertools
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertune.errors import InputError, Interrupted
from bertune.network import Batch, Network
from bertune.training.loop import loop, validation
from bertune.training.loop.optimizer import AdamW
from bertune.training.run_folder import checkpoints as checkpoint
from bertune.training.run_folder.folder import RunFolder
from tests import tiny
from tests.runs import KINDS, UPDATES, differences, last_checkpoint, prepare, start

Stop = Callable[[pytest.MonkeyPatch], None]


class KilledError(BaseException):
    """Stands for SIGKILL: nothing is finished or kept after it."""


def _kill() -> None:
    raise KilledError


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def _at_call(owner: Any, name: str, number: int, act: Callable[[], None]) -> Stop:
    """Act when a function or method is called for the `number`-th time, and then call it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        whole, calls = getattr(owner, name), itertools.count(1)

        @functools.wraps(whole)
        def counted(*args: Any, **options: Any) -> Any:
            if next(calls) == number:
                act()
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    return patch


def _in_evaluation(act: Callable[[], None]) -> Stop:
    """Act in the evaluation after the second epoch."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        forward, updates = Network.forward, [0]

        def counted(self: Network, batch: Batch) -> Any:
            updates[0] += self.training
            if updates[0] >= 2 * UPDATES and not self.training:  # every update takes two parts
                updates[0] = -100
                act()
            return forward(self, batch)

        monkeypatch.setattr(Network, "forward", counted)

    return patch


STOPS: dict[str, Stop] = {
    "a signal in the first update": _at_call(loop, "update", 1, _interrupt),
    "a signal within an epoch": _at_call(loop, "update", 5, _terminate),
    "a signal between two parts of a batch": _at_call(AdamW, "accumulate", 8, _terminate),
    "killed between two parts of a batch": _at_call(AdamW, "accumulate", 11, _kill),
    "a signal in an evaluation": _in_evaluation(_interrupt),
    "killed in an evaluation": _in_evaluation(_kill),
    "killed while a checkpoint is written": _at_call(checkpoint, "sync_tree", 3, _kill),
    "a signal while a checkpoint is written": _at_call(checkpoint, "sync_tree", 2, _terminate),
    "a signal at an epoch's end": _at_call(loop, "update", 3, _terminate),
    "killed between the best model and its checkpoint": _at_call(RunFolder, "save_checkpoint", 2, _kill),
}

BY_TURNS = [
    pytest.param(task, stop, precision, marks=[] if (i + j) % 2 == k else [pytest.mark.slow])
    for i, task in enumerate(KINDS)
    for j, stop in enumerate(STOPS)
    for k, precision in enumerate(("fp32", "bf16"))
]
"""All of them; every other one is fast enough for every day."""


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[tuple[float, float]]]:
    """Loss and gradient norm of every update, by its number; twice where it was made twice."""
    found: dict[int, list[tuple[float, float]]] = {}
    tell = loop._log_update

    def told(checkpointer: Any, bar: Any, progress: Any, plan: Any, step: int, loss: float, norm: float) -> None:
        found.setdefault(step, []).append((loss, norm))
        tell(checkpointer, bar, progress, plan, step, loss, norm)

    monkeypatch.setattr(loop, "_log_update", told)
    return found


_whole: dict[tuple[str, str], Path] = {}


@pytest.fixture
def whole(task: str, precision: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A run that was never stopped, and its options."""
    folder = _whole.get((task, precision)) or tmp_path_factory.mktemp("whole")
    options = prepare(folder, task) | {"precision": precision}
    if (task, precision) not in _whole:
        assert start(folder / "run", options) == UPDATES
        _whole[task, precision] = folder
    return folder / "run", options


@pytest.mark.parametrize(("task", "stop", "precision"), BY_TURNS)
def test_a_stopped_run_goes_on_exactly(
    whole: tuple[Path, dict[str, Any]],
    losses: dict[int, list[tuple[float, float]]],
    tmp_path: Path,
    stop: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, options = whole
    output = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        STOPS[stop](patch)
        with pytest.raises((KilledError, Interrupted)):
            start(output, options)
    torch.manual_seed(99)  # a new process would not stand where this one stopped
    assert start(output, options | {"resume": True}) == UPDATES
    assert differences(run, output) == []
    assert sorted(losses) == list(range(1, UPDATES + 1))
    assert all(len(set(found)) == 1 for found in losses.values())  # an update made twice came to the same
    assert not list(output.rglob(".*"))


def _stopped(folder: Path, **more: Any) -> tuple[Path, dict[str, Any]]:
    """A run of text classification, interrupted in its fifth update, with checkpoints after 4 and 5."""
    options = prepare(folder, "text-classification") | more
    with pytest.MonkeyPatch.context() as patch:
        STOPS["a signal within an epoch"](patch)
        with pytest.raises(Interrupted):
            start(folder / "run", options)
    return folder / "run", options


def test_again_and_again(tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification")
    start(tmp_path / "whole", options)
    for attempt in range(UPDATES - 1):
        with pytest.MonkeyPatch.context() as patch:
            STOPS["a signal in the first update"](patch)
            with pytest.raises(Interrupted):
                start(tmp_path / "run", options | {"resume": attempt > 0})
    start(tmp_path / "run", options | {"resume": True})
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_patience_counts_on(tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification") | {"max_steps": 60, "patience": 3, "learning_rate": 1e-9}
    updates = start(tmp_path / "whole", options)
    assert updates < 60
    with pytest.MonkeyPatch.context() as patch:
        _at_call(loop, "update", updates - 1, _terminate)(patch)
        with pytest.raises(Interrupted):
            start(tmp_path / "run", options)
    assert start(tmp_path / "run", options | {"resume": True}) == updates
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_two_checkpoints_stay(tmp_path: Path) -> None:
    run, options = _stopped(tmp_path)
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000004", "step-00000005"]
    start(run, options | {"resume": True, "keep_checkpoints": 1, "checkpoint_every": 1})
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000006.1"]  # 6: before its evaluation


def _flip_a_bit(path: Path) -> None:
    data = bytearray((path / "state.safetensors").read_bytes())
    data[-9] ^= 1
    (path / "state.safetensors").write_bytes(data)


def _cut(path: Path) -> None:
    with (path / "state.safetensors").open("r+b") as file:
        file.truncate(1000)


def _change(checkpoint: Path, before: str, after: str) -> None:
    """Another digit in what stays good JSON."""
    path = checkpoint / "progress.json"
    assert path.read_text().count(before) == 1
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.parametrize(
    "damage",
    [
        _flip_a_bit,
        _cut,
        lambda path: (path / "state.safetensors").unlink(),
        lambda path: (path / "progress.json").unlink(),
        lambda path: (path / "progress.json").write_text("{"),
        lambda path: (path / "progress.json").write_text("[]"),
        lambda path: (path / "progress.json").write_text("7"),
        lambda path: _change(path, '"step": 5', '"step": 4'),
        lambda path: _change(path, '"epoch": 1,', '"epoch": 0,'),
        lambda path: (path / "progress.json").write_bytes(b"\xff\x00"),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage: Callable[[Path], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, options = _stopped(tmp_path)
    start(tmp_path / "whole", options)
    damage(last_checkpoint(run))
    start(run, options | {"resume": True})
    told = [record.getMessage() for record in caplog.records if "looking for the one before" in record.getMessage()]
    assert len(told) == 1
    assert "step-00000005: damaged" in told[0]
    assert differences(tmp_path / "whole", run) == []


def test_nothing_but_damaged_checkpoints(tmp_path: Path) -> None:
    run, options = _stopped(tmp_path)
    for path in (run / "checkpoints").iterdir():
        _flip_a_bit(path)
    before = tiny.files(run)
    with pytest.raises(InputError, match=r"no complete checkpoint.*remove that folder"):
        start(run, options | {"resume": True})
    assert tiny.files(run) == before
    shutil.rmtree(run / "checkpoints")
    start(run, options | {"resume": True})
    start(tmp_path / "whole", options)
    assert differences(tmp_path / "whole", run) == []


@pytest.mark.parametrize("task", ["text-classification", "pretraining"])
@pytest.mark.parametrize("changed", ["train.*", "validation.*", "encoder/model.safetensors", "encoder/vocab.txt"])
def test_other_data_or_another_encoder_is_refused(tmp_path: Path, task: str, changed: str) -> None:
    options = prepare(tmp_path, task)
    with pytest.MonkeyPatch.context() as patch:
        STOPS["a signal within an epoch"](patch)
        with pytest.raises(Interrupted):
            start(tmp_path / "run", options)
    before = tiny.files(tmp_path / "run")
    (file,) = tmp_path.glob(changed)
    if changed.endswith("safetensors"):
        tiny.write_encoder(tmp_path / "encoder", seed=1)
    elif changed.endswith("vocab.txt"):
        file.write_text(file.read_text().replace("film", "hall"))
    else:
        file.write_text(file.read_text().replace("good", "fine", 1))
    with pytest.raises(InputError, match="changed since the run began") as error:
        start(tmp_path / "run", options | {"resume": True})
    names = {"train.*": "train ", "validation.*": "validation "}
    assert names.get(changed, "encoder") in str(error.value)
    assert tiny.files(tmp_path / "run") == before


def test_a_run_without_a_checkpoint_starts_from_the_beginning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = prepare(tmp_path, "text-classification")
    start(tmp_path / "whole", options)
    with pytest.MonkeyPatch.context() as patch:
        _at_call(loop._Update, "compute", 2, _kill)(patch)
        with pytest.raises(KilledError):
            start(tmp_path / "run", options)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    start(tmp_path / "run", options | {"resume": True})
    assert "stopped before its first checkpoint; starting from the beginning" in caplog.text
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_how_often_and_how_many_may_differ(tmp_path: Path) -> None:
    run, options = _stopped(tmp_path)
    start(run, options | {"resume": True, "checkpoint_every": None, "keep_checkpoints": 5})
    start(tmp_path / "whole", options)
    assert differences(tmp_path / "whole", run) == []


def test_python_and_numpy_go_on_too(tmp_path: Path) -> None:
    """A task in a file of the user's may draw from their global generators."""
    text = """
import random
import numpy as np
from bertune.tasks.text_classification import TextClassification

class Noisy(TextClassification):
    def loss(self, logits, targets, layout):
        total, count = super().loss(logits, targets, layout)
        return total * (1 + random.gauss(0, 0.1) + np.random.normal(0, 0.1)), count
"""
    (tmp_path / "noisy.py").write_text(text)
    options = prepare(tmp_path, "text-classification") | {"task": f"{tmp_path / 'noisy.py'}:Noisy"}
    start(tmp_path / "whole", options)
    with pytest.MonkeyPatch.context() as patch:
        STOPS["a signal within an epoch"](patch)
        with pytest.raises(Interrupted):
            start(tmp_path / "run", options)
    start(tmp_path / "run", options | {"resume": True})
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_the_model_folder_between_two_files(tmp_path: Path) -> None:
    """Killed behind any file of the second model: it loads as one of the two, and resuming completes it."""
    import bertune

    options = prepare(tmp_path, "multi-label-classification") | {"report": False}
    start(tmp_path / "whole", options)
    names = {path.name for path in (tmp_path / "whole").iterdir() if path.is_file()} - {"run.yaml"}
    replace, seen = Path.replace, set()
    for number in range(1, len(names) + 1):
        output, moved = tmp_path / f"run{number}", itertools.count(1)

        def counted(self: Path, target: Path, moved: Any = moved, number: int = number) -> Path:
            if self.parent.name == ".saved" and next(moved) == len(names) + number:
                replace(self, target)
                seen.add(self.name)
                raise KilledError
            return replace(self, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "replace", counted)
            patch.setattr(validation, "is_better", lambda *_: True)
            with pytest.raises(KilledError):
                start(output, options)
        bertune.load(output, device="cpu").predict(["the film is good"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(validation, "is_better", lambda *_: True)
            start(output, options | {"resume": True})
        assert not (output / ".saved").exists()
        record = json.loads((output / "bertune.json").read_text())
        assert record["weights_sha256"] == bertune.load(output, device="cpu").record["weights_sha256"]
    assert seen == names
