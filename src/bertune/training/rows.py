"""Where training sequences stand in the file that the user gave."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_NAMED = 64


def name_rows(path: Path, examples: Sequence[Any], chosen: npt.NDArray[np.integer]) -> str:
    """`train.csv, lines 3, 8, 12`, ascending; places of questions in SQuAD's files as reading names them.

    Args:
        path: the file.
        examples: read from it.
        chosen: places of the examples to name, the same perhaps more than once.
    """
    index = np.unique(chosen)
    named = [examples[i] for i in index]
    if all(getattr(example, "where", None) for example in named):
        return _joined([example.where for example in named])
    places = sorted({getattr(example, "place", 0) for example in named})
    unit = "row" if path.suffix == ".parquet" else "line"
    if not all(places):  # a task of the user's own, whose examples do not say
        unit, places = "example", [int(i) + 1 for i in index]
    return f"{path}, {unit}{'s' if len(places) > 1 else ''} {_joined(places)}"


def _joined(names: Sequence[object]) -> str:
    more = f", … and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(str, names[:_NAMED])) + more
