"""Public functions that take or return tensors say of what shape."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bertune

SOURCE = Path(bertune.__file__).parent
ROOMS = ("distill", "encoder", "inference network.py", "tasks", "training")


def takes_tensors(function: ast.FunctionDef) -> bool:
    """Whether a tensor, or a collection of them, is among the arguments or what is returned."""
    arguments = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    hints = [function.returns, *(argument.annotation for argument in arguments)]
    nodes = [node for hint in hints if hint is not None for node in ast.walk(hint)]
    return any(getattr(node, "id", getattr(node, "attr", getattr(node, "value", None))) == "Tensor" for node in nodes)


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Functions and methods of a file without those of private names, and those inside of functions."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.FunctionDef):
                yield node
            else:
                yield from public_functions(node)


def without_shape(text: str) -> list[str]:
    functions = [function for function in public_functions(ast.parse(text)) if takes_tensors(function)]
    return [function.name for function in functions if "Shape:" not in (ast.get_docstring(function) or "")]


@pytest.mark.parametrize("room", ROOMS)
def test_shapes_of_tensors_are_said(room: str) -> None:
    places = [SOURCE / name for name in room.split()]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    counted = sum(takes_tensors(one) for path in files for one in public_functions(ast.parse(path.read_text("utf-8"))))
    assert counted >= 4, "the test looks in the wrong place"
    assert [
        f"{path.relative_to(SOURCE)}: {name}" for path in files for name in without_shape(path.read_text("utf-8"))
    ] == []


@pytest.mark.parametrize(
    ("signature", "missing"),
    [
        ("def f(x: Tensor) -> int", ["f"]),
        ("def f(x: int) -> torch.Tensor", ["f"]),
        ("def f(*, xs: Mapping[str, Tensor] | None) -> None", ["f"]),
        ('def f() -> "Tensor"', ["f"]),
        ("def f(x: int) -> int", []),
        ("def _f(x: Tensor) -> int", []),
    ],
)
def test_what_counts_as_a_function_of_tensors(signature: str, missing: list[str]) -> None:
    assert without_shape(f'{signature}:\n    """What for."""') == missing
    assert without_shape(f'{signature}:\n    """What for. Shape: ()."""') == []
    assert without_shape(f"class C:\n    {signature}:\n        ...") == missing
