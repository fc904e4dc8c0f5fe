"""Messages for callers from Python: `--max-seq-length 600` reads `max_seq_length 600`, as the argument is called.

Library code names options as a command line has them. What Python callers see is translated where a public function
ends with an error; within a command nothing is.
"""

import functools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

from bertune.errors import FaultError, InputError

ParametersT = ParamSpec("ParametersT")
ResultT = TypeVar("ResultT")

SWITCHES = frozenset(
    "activation_checkpointing baselines drop_unlabelled fix_offsets header json keep_columns label_margins "
    "next_sentence resume skip_bad skip_short_documents standardize unanswerable whole_words do_lower_case".split()
)
"""Options that are on or off: `--drop-unlabelled` is `drop_unlabelled=True`, `--no-header` is `header=False`."""
_COMMAND = r"\b(?:pip install|bertune [a-z]+|git|jq|torchrun|python -m) [^;)`\n]*"
_FLAG = r"(?<![\w-])--(no-)?([a-z][a-z0-9]*(?:[-_][a-z0-9]+)*)(?![\w-])(?P<end>[:,]?)"
_PARTS = re.compile(f"(?P<command>{_COMMAND})|{_FLAG}")
_of_command_line: ContextVar[bool] = ContextVar("bertune_of_command_line", default=False)


@contextmanager
def command_line() -> Iterator[None]:
    """Inside, options are typed as flags, so messages stay as they are."""
    token = _of_command_line.set(True)
    try:
        yield
    finally:
        _of_command_line.reset(token)


def as_arguments(message: str) -> str:
    """A message with the names of arguments instead of flags; commands within it stay as they are typed."""
    return _PARTS.sub(_translated, message)


def _translated(found: re.Match[str]) -> str:
    if found["command"] is not None:
        return found[0]
    off, name, end = bool(found[2]), found[3].replace("-", "_"), found["end"]
    stands_alone = not end and not found.string.startswith(" '", found.end())
    if name in SWITCHES and (off or stands_alone):  # before a colon, a comma or a value the option itself is meant
        return f"{name}={not off}{end}"
    return f"{'no_' if off else ''}{name}{end}"


def python_call(function: Callable[ParametersT, ResultT]) -> Callable[ParametersT, ResultT]:
    """A public function whose errors name its arguments."""

    @functools.wraps(function)
    def call(*given: ParametersT.args, **options: ParametersT.kwargs) -> ResultT:
        try:
            return function(*given, **options)
        except (InputError, FaultError) as error:
            if not _of_command_line.get():
                error.args = (as_arguments(str(error)),)
            raise

    return call
