"""`bertune COMMAND …`: runs one command, with errors as messages and exit statuses."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator, Sequence

from bertune.cli.general import VERBS, drop_output
from bertune.errors import FaultError, InputError, Interrupted

_COLLECT_AFTER = 50_000
"""Objects made between two searches for garbage: with Python's 700, searches are a tenth of PyTorch's import time."""

SHARED = ("train", "pretrain", "sweep", "evaluate", "predict", "embed")
"""Verbs whose work the processes share that torchrun started."""


def run(arguments: Sequence[str], *, ours: bool) -> int:
    """Run a command.

    Args:
        arguments: its name, then its options.
        ours: whether the process ends with the command.

    Returns:
        The exit status.
    """
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise InputError(f"bertune: no command {verb!r}{_near(verb)}; known: {', '.join(VERBS)}")
        from bertune.cli.logs import start_logging

        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        start_logging()
        from bertune.argument_names import command_line

        with command_line(), _among_ranks(verb, ours=ours):
            status: int | None = importlib.import_module(f"bertune.cli.{verb}").main(rest)
            sys.stdout.flush()
    except InputError as error:
        _tell(f"error: {error}")
        return 2
    except FaultError as error:
        drop_output()
        _tell(f"error: {error}")
        return 1
    except BrokenPipeError:  # nobody reads on
        drop_output()
        return 1
    except OSError as error:
        from bertune.files.atomic_write import is_disk_fault

        if not is_disk_fault(error):
            raise
        drop_output()
        print(f"error: {error.filename or 'standard output'}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except Interrupted as error:
        _tell(str(error))
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status or 0


@contextlib.contextmanager
def _among_ranks(verb: str, *, ours: bool) -> Iterator[None]:
    """Inside, this process works together with those that torchrun started with it; a signal to one stops all.

    ours: whether the process ends with the command.

    Raises:
        InputError: a verb that they cannot share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    from bertune.distributed.stopping import interruptible, status_stands
    from bertune.distributed.world import is_launched, leave, start

    if verb not in SHARED:
        if is_launched():
            raise InputError(f"bertune {verb}: computes in one process; start it without torchrun")
        yield
        return
    start()
    with status_stands(ours=ours), interruptible(lambda: ""):
        yield
        leave()


def _tell(message: str) -> None:
    """Show an error; of several ranks that fail together one does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from bertune.distributed.world import is_first_to_tell

        if not is_first_to_tell():
            return
    print(message, file=sys.stderr, flush=True)


def _near(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def end_despite_trackers(status: int) -> None:
    """End at once where a tracker hangs: what it does when a process ends may hang too."""
    tracking = sys.modules.get("bertune.training.tracking")
    if tracking is not None and tracking.left_to_themselves():
        drop_output()
        sys.stderr.flush()
        os._exit(status)
