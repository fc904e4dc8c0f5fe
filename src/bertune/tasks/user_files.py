"""Tasks from a user's own file: `--task path/to/file.py:Class`, run only when its user asks for it."""

import dataclasses
import hashlib
import inspect
import sys
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from bertune.errors import InputError, Problems
from bertune.files.inputs import no_such_file
from bertune.tasks.base import OLD_NAMES, OPTIONAL, BaseTask
from bertune.tasks.protocol import Task

ClassT = TypeVar("ClassT", bound=type)

_MEASURES = ("metrics", "row_metrics")
"""One of these is enough."""
_VALUES = ("name", "options", "metric", "defaults")


@dataclass(frozen=True)
class TaskFile:
    """A file whose code has been run: its name without folders, and its SHA-256."""

    name: str
    sha256: str


_RUN: dict[str, TaskFile] = {}  # by the name of the module that it became


def task_file_of(task: object) -> TaskFile | None:
    """The file that a task's class was read from; None for bertune's own."""
    return _RUN.get(type(task).__module__)


def is_own(task: object) -> bool:
    """Whether a task's class is one of bertune's, not a user's, which may compute anything in its head and loss."""
    return type(task).__module__.startswith("bertune.")


def class_in_file(name: str, *, sha256: str | None = None) -> tuple[str, Any]:
    """Run a task file and take the class out of it.

    Args:
        name: `path/to/file.py:Class`.
        sha256: what the file must have, if anything.

    Returns: `file.py:Class`, the name that the task keeps, and the class with its optional parts filled in.

    Raises:
        InputError: no such file or class, another hash, code that fails, pieces of the protocol missing: all named.
    """
    file, colon, attribute = name.rpartition(":") if ".py:" in name else (name, "", "")
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"--task {name}: {no_such_file(path)}")
    module = _run(path, sha256)
    own = [key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__]
    if not colon or attribute not in own:
        what = f"has no class {attribute!r} of its own" if colon else "needs the name of its class"
        raise InputError(f"--task {name}: {path} {what}; write {file}:CLASS. It has: {', '.join(own) or 'none'}")
    kind = getattr(module, attribute)
    missing = Problems(limit=50)
    missing.extend(f"{path}, class {attribute}: {message}" for message in unfit(kind))
    missing.raise_if_any()
    made = complete(kind)
    setattr(module, attribute, made)  # so that pickle finds by its name what instances are made of
    return f"{path.name}:{attribute}", made


def complete(kind: ClassT) -> ClassT:
    """A task class with `BaseTask` behind it, where it does not inherit from that already.

    Task files from before there was a base class have none; some of them call this as a decorator.
    """
    if issubclass(kind, BaseTask):
        return kind
    parts = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return cast(ClassT, types.new_class(kind.__name__, (kind, BaseTask), exec_body=lambda body: body.update(parts)))


def _run(path: Path, sha256: str | None) -> ModuleType:
    """The file's module; a file that was run before in this process, unchanged, is not run again."""
    try:
        code = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    found = hashlib.sha256(code).hexdigest()
    if sha256 is not None and found != sha256:
        raise InputError(
            f"--trust-task-file {path}: its SHA-256 is {found}, but the model was trained with a file of {sha256}; "
            "give that file, or train again with this one"
        )
    name = f"bertune_task_file_{found[:24]}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        exec(compile(code, str(path), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        where = f", line {line}" if line else ""
        raise InputError(f"{path}{where}: the task file does not run: {type(error).__name__}: {error}") from error
    _RUN[name] = TaskFile(path.name, found)
    return module


def unfit(kind: type[Any]) -> list[str]:
    """Every piece of the Task protocol that a class lacks or has in another form."""
    found: list[str] = []
    if not dataclasses.is_dataclass(kind):
        return ["is not a dataclass; write @dataclass(frozen=True) above it"]
    fields = {field.name for field in dataclasses.fields(kind)}
    if [field.name for field in dataclasses.fields(kind)][:2] != ["name", "options"]:
        found.append("its first two fields must be `name: str` and `options: Options`; it is made with these")
    found.extend(
        f"lacks the field {name!r} ({_about(name)})"
        for name in _VALUES
        if name not in OPTIONAL and name not in ("name", "options") and name not in fields and not hasattr(kind, name)
    )
    for name, wanted in inspect.getmembers(Task, inspect.isfunction):
        if name.startswith("_"):
            continue
        part = getattr(kind, name, None) or next(
            (getattr(kind, old, None) for old, new in OLD_NAMES.items() if new == name), None
        )
        asked = [parameter for parameter in inspect.signature(wanted).parameters if parameter != "self"]
        if part is None:
            if name not in OPTIONAL:
                found.append(f"lacks the method {name}({', '.join(asked)}): {_about(name)}")
        elif not callable(part):
            found.append(f"{name} must be a method {name}({', '.join(asked)})")
        elif _refuses(part, wanted):
            found.append(f"{name} must take ({', '.join(asked)}), by these names")
    if not any(hasattr(kind, name) and getattr(kind, name) is not getattr(BaseTask, name) for name in _MEASURES):
        either = "metrics(logits, features, examples), or row_metrics(examples, predictions)"
        found.append(f"lacks the method {either}: {_about('metrics')}")
    return found + _unfit_options(getattr(kind, "Options", None))


def _unfit_options(options: Any) -> list[str]:
    if options is None:
        return []
    if not (inspect.isclass(options) and dataclasses.is_dataclass(options)):
        return ["Options must be a dataclass"]
    return [
        f'Options.{field.name}: write `{field.name}: … = option(default, help="…")` (from bertune.options)'
        for field in dataclasses.fields(options)
        if not field.metadata.get("help")
    ]


def _refuses(part: Any, wanted: Any) -> bool:
    """Whether a method cannot be called as the protocol's is."""
    parameters = list(inspect.signature(wanted).parameters.values())
    positional = [None for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    named = {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY}
    try:
        inspect.signature(part).bind(*positional, **named)
    except TypeError:
        return True
    return False


def _about(name: str) -> str:
    """The first sentence of the protocol's own explanation."""
    return (inspect.getdoc(getattr(Task, name, None)) or "").partition("\n")[0].rstrip(".")
