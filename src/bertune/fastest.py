"""Which of several equivalent ways is the fastest on this machine: measured once, then read from the user's cache.

A result is stored by processor, instruction-set level, PyTorch version and number of threads, so that later processes
choose the same way and their results agree to the last bit.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bertune import processor
from bertune.files.atomic_write import write_text
from bertune.files.cache import cache_folder

logger = logging.getLogger(__name__)

MARGIN = 0.05
"""By how much another way must be faster than the preferred one: noise alone must not change the choice."""
ROUNDS = 4
"""Measurements of each way, in turns; the shortest counts."""
_BUDGET = 0.15
"""Seconds after which no further round begins."""

LIBRARY_LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")
"""Variables that hold libraries to an instruction set; they decide about kernels, so they are part of the key."""

_chosen: dict[tuple[str, str], str] = {}


def fastest(question: str, ways: Mapping[str, Callable[[], object]]) -> str:
    """The name of the fastest way.

    Args:
        question: what is being chosen; names the result in the cache.
        ways: functions that each do the same work of a few milliseconds. The first is preferred: another is chosen only
            where it is faster by more than MARGIN.
    """
    preferred = next(iter(ways))
    if len(ways) == 1:
        return preferred
    machine = _machine()
    if (machine, question) not in _chosen:
        stored = _stored(machine)
        seconds = _times(stored.get(question), ways)
        if seconds is None:
            seconds = _measured(ways)
            _store(machine, stored | {question: seconds})
            logger.info("%s: measured %s", question, ", ".join(f"{n} {s * 1e3:.1f} ms" for n, s in seconds.items()))
        best = min(seconds, key=seconds.__getitem__)
        _chosen[machine, question] = best if seconds[best] * (1 + MARGIN) < seconds[preferred] else preferred
    return _chosen[machine, question]


def forget() -> None:
    """Forget what this process has chosen; the stored measurements stay."""
    _chosen.clear()


def _measured(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds that each way takes at best."""
    seconds: dict[str, float] = {}
    begin = time.perf_counter()
    for turn in range(1 + ROUNDS):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            taken = time.perf_counter() - start
            # The first turn prepares: libraries compile kernels and start threads.
            seconds[name] = taken if turn <= 1 else min(seconds[name], taken)
        if turn and time.perf_counter() - begin > _BUDGET:
            break
    return seconds


def _machine() -> str:
    limits = [f"{name}={os.environ[name]}" for name in LIBRARY_LIMITS if name in os.environ]
    parts = [processor.model_name(), processor.level(), torch.__version__, str(torch.get_num_threads()), *limits]
    return ", ".join(parts)


def _file(machine: str) -> Path:
    return cache_folder("fastest") / f"{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def _stored(machine: str) -> dict[str, Any]:
    """All measurements of this machine; none where the file is absent or damaged."""
    try:
        found = json.loads(_file(machine).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and found.get("machine") == machine else {}


def _times(entry: object, ways: Mapping[str, object]) -> dict[str, float] | None:
    """A stored entry as seconds of each way; None where it is absent, damaged, or of other ways."""
    if not isinstance(entry, dict) or entry.keys() != ways.keys():
        return None
    return entry if all(isinstance(value, float) and value > 0 for value in entry.values()) else None


def _store(machine: str, content: Mapping[str, Any]) -> None:
    """Write the file; where the cache cannot be written, the next process measures again."""
    path = _file(machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"machine": machine, **content}, indent=2) + "\n")
    except OSError as error:
        logger.debug("%s: not written (%s)", path, error)
