"""Imports run downwards through the folders of bertune, and never in a circle (the order: ORDER below).

Late imports inside functions count; imports for type checkers alone (`if TYPE_CHECKING:`) do not.
"""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"
ORDER = """
    __main__ google cli serving sklearn spacy sweep distill adaptation pretraining training export
    report prediction conversion
    embedding conformance checking evaluation model tasks inference cuda checkpoints network data tokenization features
    encoder tensorflow_formats fastest files hardware distributed processor options option_values progress durations
    tables argument_names errors samples
""".split()
"""Folders and files of src/bertune from the top down: each may import those that follow it, and itself."""

EXCEPTIONS: set[tuple[str, str]] = set()
"""Imports that are known to break a rule. The list only ever becomes shorter."""

Arrows = Mapping[str, set[str]]


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Names that a file imports; of `from a import b` both `a` and `a.b`, as either may be the module."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for other in node.orelse:
                yield from imported(other, package)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            for alias in node.names:
                yield from (module, f"{module}.{alias.name}")
        else:
            yield from imported(node, package)


def arrows_of(source: Path) -> dict[str, set[str]]:
    """Which module of a source folder imports which others there."""
    files = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    found = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        names = set(imported(ast.parse(path.read_text(encoding="utf-8")), package)) & set(files)
        deepest = {name for name in names if not any(other.startswith(f"{name}.") for other in names)}
        found[module] = (deepest | {name for name in names if name == "bertune"}) - {module}
    return found


def without(arrows: Arrows, exceptions: Iterable[tuple[str, str]]) -> dict[str, set[str]]:
    dropped = set(exceptions)
    return {module: {other for other in others if (module, other) not in dropped} for module, others in arrows.items()}


def room(module: str) -> str:
    """The folder or file of src/bertune that a module lies in."""
    return [*module.split("."), "samples"][1]  # bertune itself holds the version alone


def upward(arrows: Arrows) -> list[str]:
    """Imports from a lower room into a higher one."""
    rank = {name: place for place, name in enumerate(ORDER)}
    return [
        f"{module} imports {other}: {room(module)} lies below {room(other)}"
        for module, others in sorted(arrows.items())
        for other in sorted(others)
        if module != "bertune" and rank[room(module)] > rank[room(other)]
    ]


def circle(arrows: Arrows) -> list[str]:
    """One circle of modules, the first repeated at its end; empty where there is none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(arrows.get(module, ())):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(arrows) if (found := walk(module, []))), [])


def between_children(arrows: Arrows, package: str) -> dict[str, set[str]]:
    """The arrows between what lies directly in a package: files, and folders taken as one."""

    def child(module: str) -> str | None:
        return module[len(package) + 1 :].partition(".")[0] if module.startswith(f"{package}.") else None

    found: dict[str, set[str]] = defaultdict(set)
    for module, others in arrows.items():
        mine = child(module)
        for other in others:
            theirs = child(other)
            if mine and theirs and mine != theirs:
                found[mine].add(theirs)
    return found


ALL = arrows_of(SOURCE)
KEPT = without(ALL, EXCEPTIONS)
PACKAGES = sorted({module.rpartition(".")[0] for module in ALL if "." in module})


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in ALL} <= set(ORDER)


def test_imports_run_downwards() -> None:
    assert not upward(KEPT)


def test_files_import_one_another_in_no_circle() -> None:
    assert not circle(KEPT)


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_import_one_another_in_no_circle(package: str) -> None:
    assert not circle(between_children(KEPT, package))


def test_exceptions_are_still_needed() -> None:
    imports = {(module, other) for module, others in ALL.items() for other in others}
    assert imports >= EXCEPTIONS


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def test_broken_arrows_are_found_and_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "bertune/tasks/a.py": "def late():\n    from bertune.training.loop import fit\n",
            "bertune/tasks/b.py": "from bertune.tasks import c\n",
            "bertune/tasks/c.py": "import bertune.tasks.b\n",
            "bertune/training/loop.py": "from bertune.errors import x\n",
            "bertune/errors.py": "import typing\nif typing.TYPE_CHECKING:\n    from bertune.tasks.a import late\n",
        },
    )
    arrows = arrows_of(tmp_path)
    assert upward(arrows) == ["bertune.tasks.a imports bertune.training.loop: tasks lies below training"]
    assert circle(arrows) == ["bertune.tasks.b", "bertune.tasks.c", "bertune.tasks.b"]


def test_circles_between_folders_are_found_where_no_file_is_in_one(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "bertune/training/loop/one.py": "from bertune.training.runs.two import x\n",
            "bertune/training/loop/three.py": "",
            "bertune/training/runs/two.py": "",
            "bertune/training/runs/four.py": "from bertune.training.loop import three\n",
        },
    )
    arrows = arrows_of(tmp_path)
    assert not circle(arrows)
    assert circle(between_children(arrows, "bertune.training")) == ["loop", "runs", "loop"]
