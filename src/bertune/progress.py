"""What a person sees of a run while it works: a bar or lines of progress, a line an evaluation, curves."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bertune.durations import duration

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

logger = logging.getLogger(__name__)
console = Console(stderr=True)


@contextmanager
def progress_bar(label: str, total: int | None, *, done: int = 0) -> Iterator["Bar"]:
    """Shows how far a piece of work has come: a bar on a terminal, elsewhere a line in the log now and then.

    Args:
        label: of the work, for people.
        total: units of work; None: unknown.
        done: units that are done already.
    """
    if not console.is_terminal:
        yield _Lines(label, total, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _TerminalBar(progress, progress.add_task(label, total=total, completed=done, note=""))


class Bar(Protocol):
    """What shows the progress of some work."""

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """So many more units are done. note: shown beside them."""
        ...

    def resize(self, total: int) -> None:
        """Take another number for the whole."""
        ...


class _TerminalBar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, by: int = 1, note: str | None = None) -> None:
        if note is None:
            self._progress.update(self._task, advance=by)
        else:
            self._progress.update(self._task, advance=by, note=note)

    def resize(self, total: int) -> None:
        self._progress.update(self._task, total=total)


class _Lines:
    """A line in the log at every tenth of the work, LEAST to MOST seconds after the last one."""

    LEAST, MOST = 10.0, 60.0

    def __init__(self, label: str, total: int | None, done: int) -> None:
        self._label, self._total, self._done, self._note = label, total, done, ""
        self._first, self._shown = done, done
        self._begun = self._last = time.monotonic()

    def advance(self, by: int = 1, note: str | None = None) -> None:
        self._done += by
        self._note = self._note if note is None else note
        now = time.monotonic()
        if now - self._last < self.LEAST:
            return
        tenth = self._total is None or (self._done - self._shown) * 10 >= self._total
        if (tenth or now - self._last >= self.MOST) and self._done != self._total:
            self._last, self._shown = now, self._done
            logger.info("%s", self._line(now - self._begun))

    def resize(self, total: int) -> None:
        self._total = total

    def _line(self, seconds: float) -> str:
        rate = (self._done - self._first) / seconds
        if self._total is None:
            return f"{self._label}: {self._done} so far, {rate:.1f} a second"
        left = duration((self._total - self._done) / rate)
        note = f", {self._note}" if self._note else ""
        return f"{self._label}: {self._done} of {self._total} ({self._done / self._total:.0%}){note}, about {left} left"


def load_curves() -> None:
    """Load what writes curves, which takes a while, before processes are forked that will need it."""
    import tensorboard.compat.proto.event_pb2
    import tensorboard.compat.proto.summary_pb2  # noqa: F401


class Curves:
    """TensorBoard's curves of a run, in the records of its own writer, but without its thread.

    The folder must be there. Curves are no reason to stop a run: where they cannot be written, that is said once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None
        self._failed = False

    def add(self, values: Mapping[str, float], step: int) -> None:
        """One point on every named curve."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        points = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        with self._write_errors():
            if self._file is None and not self._failed:
                self._file = self._new_file()
            self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def flush(self) -> None:
        """Hand what was added to the system."""
        with self._write_errors():
            if self._file is not None:
                self._file.flush()

    def close(self) -> None:
        """Write what is left."""
        with self._write_errors():
            if self._file is not None:
                self._file.close()

    def _new_file(self) -> BinaryIO:
        """A new file; its first record tells its version."""
        from tensorboard.compat.proto.event_pb2 import Event

        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self._file = (self._folder / name).open("wb")
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        return self._file

    def _write(self, event: "Event") -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._file is not None:
            RecordWriter(self._file).write(event.SerializeToString())

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._file, self._failed = None, True
            logger.warning("%s: curves are no longer written (%s); the run continues", self._folder, error.strerror)
