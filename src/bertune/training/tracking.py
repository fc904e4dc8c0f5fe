"""Keeping a run in trackers without letting them touch it: a thread each, a bounded queue, one warning."""

import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    """A tracker in a thread of its own. Whatever it does, no call here raises, or waits but for `close`."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name, self._tracker = name, tracker
        self._jobs: queue.Queue[_Job | None] = queue.Queue(WAITING)
        self._failed = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._work, name=f"{_THREADS}{name}", daemon=True)

    def start(self, run: RunStart, note: Callable[[str, str], None]) -> None:
        """Begin a run. note: is told the tracker's name and what it calls the run."""

        def begin(tracker: Tracker) -> None:
            found = tracker.start(run)
            if found is not None:
                note(self._name, found)

        self._thread.start()
        self._add(begin)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve."""
        self._add(lambda tracker: tracker.log(values, step))

    def close(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool, seconds: float) -> None:
        """End the run, and wait for that at most so many seconds."""
        if not self._thread.is_alive():
            return
        until = time.monotonic() + seconds
        self._add(lambda tracker: tracker.finish(metrics, files, failed=failed), wait=seconds)
        self._add(None, wait=max(0.0, until - time.monotonic()))
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive() and not self._failed:
            self._failed = True
            logger.warning("--track %s: has not finished after %.0f s; left to itself", self._name, seconds)
        elif self._dropped and not self._failed:
            logger.warning("--track %s: was slow, so %d points were left out", self._name, self._dropped)

    def _add(self, job: _Job | None, wait: float = 0.0) -> None:
        if self._failed:
            return
        try:
            self._jobs.put(job, block=wait > 0, timeout=wait or None)
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._failed:
                return
            try:
                job(self._tracker)
            except Exception as error:
                if not self._failed:
                    self._failed = True
                    reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                    logger.warning("--track %s: off from here on (%s); the run goes on", self._name, reason)
                return


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
            thread = TrackerThread(name, (self.make or new_tracker)(name))
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
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.close(metrics, files, failed=failed, seconds=seconds)

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


@contextmanager
def tracked(names: Sequence[str], folder: Path, options: Mapping[str, Any]) -> Iterator[Tracking]:
    """Track what is trained within; a run that ends by an exception is ended as one that failed."""
    tracking = Tracking(names, folder, options)
    try:
        yield tracking
    except BaseException:
        tracking.abort()
        raise
