"""Builds bertune-runtime: setuptools, with the modules of bertune that the runtime needs copied in for the build.

Which ones follows from the imports: all that the runtime's own modules, the tasks and the forms of data reach without
torch. A source distribution carries the copies, so that a wheel can be built from it alone.
"""

import ast
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from setuptools import build_meta  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"
RUNTIME = HERE / "src" / "bertune_runtime"
COPIES = RUNTIME / "_modules"
ABSENT = frozenset({"torch", "safetensors", "transformers", "scipy", "sklearn", "pyarrow", "rich", "yaml", "ray"})
"""Packages that the runtime does without; a module that imports one at its top is left out."""

get_requires_for_build_wheel = build_meta.get_requires_for_build_wheel
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist


def build_wheel(directory: str, settings: Any = None, metadata: str | None = None) -> str:
    """PEP 517."""
    with copied():
        return str(build_meta.build_wheel(directory, settings, metadata))


def build_sdist(directory: str, settings: Any = None) -> str:
    """PEP 517."""
    with copied():
        return str(build_meta.build_sdist(directory, settings))


@contextmanager
def copied() -> Iterator[None]:
    """The modules of bertune under `_modules`, removed afterwards; those of a source distribution stay."""
    if not SOURCE.joinpath("bertune", "__init__.py").is_file():
        yield
        return
    shutil.rmtree(COPIES, ignore_errors=True)
    try:
        for path in needed_files():
            target = COPIES / path.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        yield
    finally:
        shutil.rmtree(COPIES, ignore_errors=True)
        shutil.rmtree(HERE / "build", ignore_errors=True)


def needed_files() -> list[Path]:
    """Files of bertune that the runtime needs."""
    files = {_name(path): path for path in sorted(SOURCE.glob("bertune/**/*.py"))}
    top = {name: _imported(path, top=True) for name, path in files.items()}
    usable = {name for name in files if not _needs_absent(name, top, set())}
    seeds = set().union(*(_imported(path, top=False) for path in RUNTIME.glob("*.py")))
    tasks = {"bertune.tasks.registry", *(name for name in files if name.startswith("bertune.tasks."))}
    waiting = [*seeds, *tasks, *(name for name in files if name.startswith("bertune.data.formats."))]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in found or name not in usable:
            continue
        found.add(name)
        waiting += [*_imported(files[name], top=False), *_parents(name)]
    page = sorted((SOURCE / "bertune" / "serving" / "page").glob("*.*"))
    return [*(files[name] for name in sorted(found)), SOURCE / "bertune" / "py.typed", *page]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def _needs_absent(name: str, top: Mapping[str, set[str]], passed: set[str]) -> bool:
    """Whether importing a module needs a package that the runtime lacks."""
    passed.add(name)
    if any(other.partition(".")[0] in ABSENT for other in top[name]):
        return True
    others = {*top[name], *_parents(name)} & top.keys()
    return any(_needs_absent(other, top, passed) for other in others - passed)


def _imported(path: Path, *, top: bool) -> set[str]:
    """Names that a file imports; of `from a import b` both `a` and `a.b`. top: at its top level alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not (top and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            waiting += ast.iter_child_nodes(node)
    return found
