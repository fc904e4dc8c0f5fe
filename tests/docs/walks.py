"""What a reader of one training step, or of one prediction, passes through: the functions that run, by file."""

import inspect
import sys
import types
from collections.abc import Callable
from pathlib import Path

import bertune

SOURCE = Path(bertune.__file__).parent


class Walk:
    """Functions of bertune in the order of their first call."""

    def __init__(self) -> None:
        self.codes: list[types.CodeType] = []

    def during(self, act: Callable[[], object]) -> None:
        """Run something, and note which functions of bertune it calls for the first time."""
        known = set(self.codes)

        def note(frame: types.FrameType, event: str, _: object) -> None:
            code = frame.f_code
            if event == "call" and code not in known and Path(code.co_filename).is_relative_to(SOURCE):
                known.add(code)
                self.codes.append(code)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            act()
        finally:
            sys.setprofile(before)

    @property
    def names(self) -> list[str]:
        """`folder/file.py:Class.function` of each."""
        return [
            f"{Path(code.co_filename).relative_to(SOURCE)}:{getattr(code, 'co_qualname', code.co_name)}"
            for code in self.codes
        ]

    @property
    def files(self) -> list[str]:
        """In order."""
        return list(dict.fromkeys(name.partition(":")[0] for name in self.names))

    @property
    def lines(self) -> int:
        """Of the functions together: signature, docstring and body; lambdas and nested functions count as their own."""
        spans: dict[str, set[int]] = {}
        for code in self.codes:
            first = code.co_firstlineno
            spans.setdefault(code.co_filename, set()).update(range(first, first + len(inspect.getsourcelines(code)[0])))
        return sum(len(lines) for lines in spans.values())
