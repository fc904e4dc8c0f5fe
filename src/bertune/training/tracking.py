"""Keeping a run in trackers without letting them touch it: a thread each, a bounded queue, one warning."""

import json
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from bertune.distributed.world import current
from bertune.errors import InputError
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.training.trackers import TENSORBOARD, RunStart, Tracker, named, new_tracker

logger = logging.getLogger(__name__)

WAITING = 1000
"""Points that may wait for a slow tracker; further ones are left out."""
FINISH_SECONDS = 30.0
"""That a tracker may take for what is left when the run is done."""
ABORT_SECONDS = 5.0
"""The same when the run was stopped or failed."""
CURVES_SHARE = 0.5
"""Of that time: points that wait longer are left out, for the metrics and the report to arrive."""
IDS_FILE = "trackers.json"
"""In the run's folder: what each tracker called the run, to go on with it."""

_THREADS = "tracker "
"""What the names of their threads begin with."""

_Job = Callable[[Tracker], None]


class _Stdout:
    """stdout, but what a tracker prints goes to stderr: with `--json`, stdout is one JSON object."""

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        """Of any thread."""
        of_tracker = threading.current_thread().name.startswith(_THREADS)
        return int((sys.stderr if of_tracker else self._stdout).write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


class TrackerThread:
    """A tracker in a thread of its own. Whatever it does, no call here raises, or waits but for `wait`.

    make: the tracker; called in the thread.
    """

    def __init__(self, name: str, make: Callable[[], Tracker]) -> None:
        self._name, self._make = name, make
        self._jobs: queue.SimpleQueue[tuple[_Job, bool] | None] = queue.SimpleQueue()
        self._failed = self._started = False
        self._dropped = 0
        self._curves_until = math.inf
        self._thread = threading.Thread(target=self._work, name=f"{_THREADS}{name}", daemon=True)

    def start(self, run: RunStart, note: Callable[[str, str], None]) -> None:
        """Begin a run. note: is told the tracker's name and what it calls the run."""

        def begin(tracker: Tracker) -> None:
            found = tracker.start(run)
            if found is not None:
                note(self._name, found)

        self._jobs.put((begin, False))
        try:
            self._thread.start()
            self._started = True
        except RuntimeError as error:  # the system gives no further thread
            self._off(error)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve; left out where too many wait already."""
        if self._failed:
            return
        if self._jobs.qsize() >= WAITING:
            self._dropped += 1
            return
        self._jobs.put((lambda tracker: tracker.log(values, step), True))

    def end(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool, seconds: float) -> None:
        """End the run once its points are told, of which those that wait longer than CURVES_SHARE of this are left out.

        So a slow tracker still gets the metrics and the report.
        """
        self._curves_until = time.monotonic() + CURVES_SHARE * seconds
        self._jobs.put((lambda tracker: tracker.finish(metrics, files, failed=failed), False))
        self._jobs.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait until the run has ended, at most so long. Returns: whether the thread is done."""
        if self._started:
            self._thread.join(max(0.0, seconds))
        alive = self._started and self._thread.is_alive()
        if alive and not self._failed:
            self._failed = True
            logger.warning("--track %s: has not finished in time; left to itself", self._name)
        elif self._dropped and not self._failed:
            logger.warning("--track %s: was slow, so %d points were left out", self._name, self._dropped)
        return not alive

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (waiting := self._jobs.get()) is not None and not self._failed:
                job, is_point = waiting
                if is_point and time.monotonic() > self._curves_until:
                    self._dropped += 1
                else:
                    job(tracker)
        except BaseException as error:  # a SystemExit too, with which a thread would end without a word
            self._off(error)

    def _off(self, error: BaseException) -> None:
        if self._failed:
            return
        self._failed = True
        try:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        except Exception:  # an error that cannot say what it is
            reason = type(error).__name__
        logger.warning("--track %s: off from here on (%s); the run continues", self._name, reason)


@dataclass
class Tracking:
    """A run in any number of trackers. Only the first rank tracks.

    folder: of the run.  options: its parameters.  make: a tracker by its name; None: `new_tracker`.
    """

    names: Sequence[str]
    folder: Path
    options: Mapping[str, Any]
    make: Callable[[str], Tracker] | None = None
    _threads: list[TrackerThread] = field(default_factory=list)

    def start(self) -> None:
        """Begin the run, or go on with the one that an earlier process began."""
        if self._threads or not current().is_first:
            return
        if self.names and not isinstance(sys.stdout, _Stdout):
            sys.stdout = _Stdout(sys.stdout)  # stays: a tracker that hangs may print at any time
        known = self._known()
        run = RunStart(self.folder.name, self.folder, self.options)
        for name in dict.fromkeys(name for name in self.names if name != TENSORBOARD):
            thread = TrackerThread(name, partial(self.make or new_tracker, name))
            thread.start(named(run, known.get(name)), self._note)
            self._threads.append(thread)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve."""
        for thread in self._threads:
            thread.log(values, step)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path] = ()) -> None:
        """End a run that is done. files: kept with it where the tracker can; those that are not there are left out."""
        self._close(metrics, [file for file in files if file.is_file()], failed=False, seconds=FINISH_SECONDS)

    def abort(self) -> None:
        """End a run that was stopped or failed."""
        self._close({}, [], failed=True, seconds=ABORT_SECONDS)

    def _close(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool, seconds: float) -> None:
        """End all at once: trackers that hang take the time of one together."""
        threads, self._threads = self._threads, []
        until = time.monotonic() + seconds
        for thread in threads:
            thread.end(metrics, files, failed=failed, seconds=seconds)
        for thread in threads:
            if not thread.wait(until - time.monotonic()):
                _left.append(thread)

    def _known(self) -> dict[str, str]:
        try:
            found = read_json(self.folder / IDS_FILE)
        except InputError:
            return {}
        return {name: str(value) for name, value in found.items()}

    def _note(self, name: str, identity: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _NOTING:
            write_text(self.folder / IDS_FILE, json.dumps({**self._known(), name: identity}, indent=1) + "\n")


_NOTING = threading.Lock()
_left: list[TrackerThread] = []


def left_to_themselves() -> bool:
    """Whether trackers of this process hang: what they do when it ends, such as waiting for their service, may too."""
    return bool(_left)


@contextmanager
def tracked(names: Sequence[str], folder: Path, options: Mapping[str, Any]) -> Iterator[Tracking]:
    """Track what is trained within; a run that ends by an exception is ended as one that failed."""
    tracking = Tracking(names, folder, options)
    try:
        yield tracking
    except BaseException:
        tracking.abort()
        raise
