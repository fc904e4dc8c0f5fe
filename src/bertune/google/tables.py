"""Where run_pretraining lays its records out, and when they go: runs beside each other must not remove their tables."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertune.errors import InputError
from bertune.files.atomic_write import unwritable
from bertune.pretraining.token_corpus import corpora_folder


@contextmanager
def tables_of_run(output: Path, *, trains: bool) -> Iterator[Path]:
    """A folder for the records of one run, laid out, that goes when the run is finished or refused.

    A training's folder hangs on its output folder. It stays where the training was stopped, for the command that goes
    on, which else lays the records out anew; a refusal removes what the refused run itself laid out. Every other run
    has a folder of its own until its end, also a training on the output folder of one that is under way.

    Raises:
        InputError: the folder of caches cannot be written.
        FaultError: the disk failed.
    """
    caches = corpora_folder()
    own = hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
    folder = caches / f"run_pretraining-{own}"
    with _locked(folder.with_suffix(".lock")) if trains else _not_locked() as owned:
        if not owned:
            with _new_folder(caches) as passing:
                yield Path(passing)
            return
        before = set(folder.glob("*"))
        try:
            yield folder
        except InputError:
            for path in set(folder.glob("*")) - before:
                shutil.rmtree(path, ignore_errors=True)
            if not before:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _not_locked() -> Iterator[bool]:
    yield False


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file, and remove it in the end. False: another run has it, or the disk knows no locks."""
    with _named_in_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _lock(path)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


def _lock(path: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return None
        if _is_at(path, handle):
            return handle
        os.close(handle)  # who held the lock before removed the file since it was opened here


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _new_folder(parent: Path) -> "tempfile.TemporaryDirectory[str]":
    with _named_in_errors(parent):
        parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix="run_pretraining-", dir=parent, ignore_cleanup_errors=True)


@contextmanager
def _named_in_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(error, f"{folder}: cannot be written: {error.strerror or error}") from None
