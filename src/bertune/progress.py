"""What a person sees of a run while it works: a bar, a line an evaluation, curves; quiet where nobody looks."""

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

logger = logging.getLogger(__name__)
console = Console(stderr=True)


@contextmanager
def progress_bar(label: str, total: int, *, done: int = 0) -> Iterator["Bar"]:
    """A bar on a terminal's stderr; nothing elsewhere."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(label, total=total, completed=done, note=""))


class Bar:
    """Moves a progress bar."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, by: int = 1, note: str | None = None) -> None:
        """Move on, and say something beside the bar."""
        if note is None:
            self._progress.update(self._task, advance=by)
        else:
            self._progress.update(self._task, advance=by, note=note)

    def resize(self, total: int) -> None:
        """Take another number for the whole."""
        self._progress.update(self._task, total=total)


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
            logger.warning("%s: no more curves (%s); the run goes on", self._folder, error.strerror)
