"""Whether two recipes differ by more than their seeds: tests on the figures that `bertune train --seeds` left.

Sources: Welch, 1947 (means of samples of unequal variance); Fisher, 1935, and Noreen, 1989 (permutation tests).
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bertune.errors import Problems
from bertune.files.json_files import read_json
from bertune.model.presence import MODEL_FILE

FILE = "seeds.json"
_EXACT = 20_000
"""Ways of dealing out the seeds up to which all of them are tried."""
_DRAWN = 20_000


def have_seeds(folders: Sequence[str | Path]) -> bool:
    """Whether every folder holds the figures of several seeds."""
    return all(len(_seeds_of(Path(folder))) > 1 for folder in folders)


def _seeds_of(folder: Path) -> Mapping[str, Any]:
    """Figures by seed; none without a file of them. A sweep that had time for one repetition has one."""
    found = read_json(folder / FILE).get("seeds") if (folder / FILE).is_file() else None
    return found if isinstance(found, Mapping) else {}


def compare_seeds(folders: Sequence[str | Path], metric: str | None = None) -> dict[str, Any]:
    """Compare the figures of several seeds on validation data, recipe by recipe.

    Args:
        folders: at least two, which `bertune train --seeds` left.
        metric: None for the one that picked the best seed.

    Returns: `metric`; `runs`, each with its `run`, `values`, `mean`, `standard_deviation`; `pairs`, each with the
    `difference` of the second mean from the first, its 95 % interval `low` to `high` and `p_welch` by Welch's t-test,
    and `p_permutation`, the probability of a difference as large where a coin deals the seeds' figures to the recipes.

    Raises:
        InputError: figures on other validation data, or without that metric.
    """
    found = {str(folder): read_json(Path(folder) / FILE) for folder in folders}
    metric = metric or str(next(iter(found.values())).get("metric"))
    problems, values = Problems(), dict[str, list[float]]()
    for name, one in found.items():
        seeds = one.get("seeds")
        figures = [seed.get(metric) for seed in seeds.values()] if isinstance(seeds, Mapping) else []
        if len(figures) < 2 or any(figure is None for figure in figures):
            problems.add(f"{name}: {FILE} holds no {metric} of at least two seeds")
        values[name] = [float(figure) for figure in figures if figure is not None]
    data = {_validated_on(Path(folder)) for folder in folders}
    if len(data) > 1:
        problems.add(f"{' and '.join(found)}: were validated on different rows, so their figures cannot be compared")
    problems.raise_if_any()
    runs = [
        {"run": name, "values": own, "mean": float(np.mean(own)), "standard_deviation": float(np.std(own, ddof=1))}
        for name, own in values.items()
    ]
    pairs = [_pair(one, other) for one, other in combinations(values.items(), 2)]
    return {"metric": metric, "runs": runs, "pairs": pairs}


def _validated_on(folder: Path) -> str:
    data = read_json(folder / MODEL_FILE).get("data", {}).get("validation", {})
    return f"{data.get('sha256')} {data.get('held_out')}"


def _pair(one: tuple[str, list[float]], other: tuple[str, list[float]]) -> dict[str, Any]:
    (first, a), (second, b) = one, other
    difference = float(np.mean(b) - np.mean(a))
    pair: dict[str, Any] = {"first": first, "second": second, "difference": difference}
    if np.ptp(a) == 0 and np.ptp(b) == 0:  # without spread there is no t
        low = high = difference
        p = 1.0 if difference == 0 else 0.0
    else:
        with warnings.catch_warnings():  # that one of the two has no spread, which is no fault of the test
            warnings.simplefilter("ignore", RuntimeWarning)
            result = stats.ttest_ind(b, a, equal_var=False)
        interval = result.confidence_interval(0.95)
        low, high, p = float(interval.low), float(interval.high), float(result.pvalue)
    return pair | {"low": low, "high": high, "p_welch": p, "p_permutation": permutation_p(a, b)}


def permutation_p(a: Sequence[float], b: Sequence[float]) -> float:
    """How often figures dealt out at random differ in their means as much; two-sided.

    All ways of dealing are tried where there are few enough; else a sample of them, from a fixed seed.
    """
    pooled = np.array([*a, *b], np.float64)
    size, total, ways = len(a), float(pooled.sum()), comb(len(pooled), len(a))
    observed = abs(float(np.mean(b) - np.mean(a))) - 1e-12

    def as_large(chosen: np.ndarray[Any, Any]) -> bool:
        part = float(pooled[chosen].sum())
        return abs((total - part) / len(b) - part / size) >= observed

    if ways <= _EXACT:
        return sum(as_large(np.array(chosen)) for chosen in combinations(range(len(pooled)), size)) / ways
    rng = np.random.default_rng(0)
    hits = sum(as_large(rng.permutation(len(pooled))[:size]) for _ in range(_DRAWN))
    return (hits + 1) / (_DRAWN + 1)
