"""What stops a run from outside, told: signals, disks, memory; with what is kept and how to go on."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from bertune.errors import FaultError, InputError, Interrupted
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.nonfinite import NonFiniteError
from bertune.training.loop.signals import signals_handled
from bertune.training.run_folder.disk_space import free_at, shown


@contextmanager
def disk_errors(path: Path, needed: int) -> Iterator[None]:
    """Faults of the disk inside become messages.

    Args:
        path: what is written.
        needed: its bytes; 0: few.

    Raises:
        FaultError: there was one.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).rpartition("I/O error: ")[2]
        free = free_at(path)
        sizes = [f"{shown(needed)} are needed"] if needed else []
        sizes += [f"{shown(free)} are free there"] if free is not None else []
        details = f" ({', '.join(sizes)})" if sizes else ""
        raise FaultError(f"{path}: cannot be written: {reason}{details}") from error


@contextmanager
def run_errors(folder: Path, verb: str, options_file: str = "run.yaml", *, complete: bool = True) -> Iterator[None]:
    """A whole run, from options to the closing table: whatever stops it says how to go on.

    Args:
        folder: the run's.
        verb: bertune's command for it.
        options_file: written into the folder when the run begins.
        complete: whether that file holds all options of the command, so that it repeats it.

    Raises:
        Interrupted: by a signal.
        FaultError: the disk or the memory gave out.
    """

    def begun() -> bool:
        return os.path.isfile(folder / options_file)  # noqa: PTH113 (unlike Path.is_file it never raises)

    def how() -> str:
        if begun() and complete:
            return f"continue with: bertune {verb} --config {folder / options_file} --resume"
        if begun():
            return f"continue with the same bertune {verb} and --resume"
        return "the run had not begun, the same command starts it again"

    with signals_handled():
        try:
            yield
        except Interrupted as error:
            error.details.append(how())
            raise
        except NonFiniteError as error:
            advice = "try a lower --learning-rate or --precision fp32, and look at those rows"
            raise InputError(error.explain(f"--max-skipped {error.count}", advice)) from error
        except FaultError as error:
            if not begun():
                raise
            kept = "The last checkpoint is kept; once" if _holds_checkpoint(folder) else "Once"
            raise FaultError(f"{error}. {kept} that is mended, {how()}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise FaultError(
                f"no memory left: {_in_short(error)}. Close other programs, or train with a smaller --batch-size, "
                f"a shorter --max-seq-length, --gradient-accumulation or --activation-checkpointing; {how()}"
            ) from error


def _holds_checkpoint(folder: Path) -> bool:
    """Whether a run's folder, or that of one of its seeds, can be seen to hold one."""
    try:
        return any(True for pattern in ("", "seed-*/") for _ in folder.glob(f"{pattern}checkpoints/step-*"))
    except OSError:
        return False


def _in_short(error: BaseException) -> str:
    """The sentence that tells how much was asked for."""
    text = " ".join(str(error).split()) or type(error).__name__
    found = re.search(r"[Tt]ried to allocate [^.]*\.?\d* ?\w+|Unable to allocate [^;]*", text)
    return found[0] if found else text[:200]
