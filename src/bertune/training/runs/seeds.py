"""`--seeds 1,2,3`: the same training with each seed, mean and spread of its metrics, the best model at the top.

Every seed is a run of its own in OUTPUT/seed-N. `seeds.json` holds the metrics of those that are finished, so that a
resumed run goes on with the one that was cut.
"""

import json
import logging
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bertune.distributed.world import apart, current
from bertune.errors import InputError
from bertune.files.atomic_write import publish, write_text
from bertune.files.json_files import read_json
from bertune.model.record import MODEL_FILE
from bertune.tables import PlainTable, for_people, plain_table
from bertune.training.loop.validation import is_better
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.report import finished

logger = logging.getLogger(__name__)

FILE = "seeds.json"
_STEPS = "steps"
_OF_THE_RUN = ("run.yaml", "checkpoints", "logs", "tries.json", "metrics.json")
"""What stays in a seed's own folder."""


class SeedResult(Protocol):
    """What a run with one seed came to."""

    @property
    def metrics(self) -> dict[str, float]:
        """Of its best model."""
        ...

    @property
    def steps(self) -> int:
        """Updates that it made."""
        ...


TrainSeed = Callable[[int, Path, bool], SeedResult]
"""Seed, folder, whether to go on with what lies there → the run."""


@dataclass(frozen=True)
class Seeds:
    """What several seeds came to.

    metrics: by seed.
    best: seed of the best model.  record: how it was had.  beside: what its metrics.json holds besides both.
    updates: that each run made.
    """

    metrics: dict[int, dict[str, float]]
    best: int
    metric: str
    updates: dict[int, int]
    record: Mapping[str, Any]
    beside: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Updates of the best model's run."""
        return self.updates[self.best]

    def _shared(self) -> list[str]:
        first, *others = self.metrics.values()
        return [name for name in first if all(name in other for other in others)]

    @property
    def mean(self) -> dict[str, float]:
        """Over the seeds."""
        return {name: statistics.mean(one[name] for one in self.metrics.values()) for name in self._shared()}

    @property
    def deviation(self) -> dict[str, float]:
        """The standard deviation of the sample; NaN where a metric of any seed is no number; none of a single seed."""
        if len(self.metrics) == 1:
            return {}
        return {name: float(np.std([one[name] for one in self.metrics.values()], ddof=1)) for name in self._shared()}

    def to_json(self) -> dict[str, Any]:
        """For seeds.json."""
        by_seed = {str(seed): {**metrics, _STEPS: self.updates[seed]} for seed, metrics in self.metrics.items()}
        return {
            "metric": self.metric,
            "best": self.best,
            "steps": self.steps,
            "mean": self.mean,
            "standard_deviation": self.deviation,
            "seeds": by_seed,
        }

    def table(
        self, title: str, baselines: Mapping[str, Mapping[str, float]], named: Callable[[str], str] = str
    ) -> PlainTable:
        """Mean and deviation, a column for each seed, the best marked, and one for each simple method.

        named: what a metric is called.
        """
        heads = [f"seed {seed}{' (best)' if seed == self.best else ''}" for seed in self.metrics]
        mean, deviation, rows = self.mean, self.deviation, []
        for name in for_people(mean):
            values = [one[name] for one in self.metrics.values()]
            others = (f"{found[name]:.4f}" if name in found else "" for found in baselines.values())
            spread = f"{deviation[name]:.4f}" if name in deviation else ""
            rows.append((named(name), f"{mean[name]:.4f}", spread, *(f"{value:.4f}" for value in values), *others))
        return plain_table(title, ("", "mean", "deviation", *heads, *baselines), rows)


def run_seeds(folder: Path, seeds: tuple[int, ...], metric: str, train: TrainSeed, *, resume: bool) -> Seeds:
    """Train with each seed, and put the best one's model at the top of the folder.

    Ranks that torchrun started train whole seeds side by side: for a small task that beats sharing every batch.

    Args:
        folder: of all.
        seeds: at least one.
        metric: decides which is best.
        train: one run.
        resume: whether to leave finished seeds as they are and go on with the one that was cut.

    Raises:
        InputError: a record of seeds that is not as it was written.
    """
    world = current()
    done = world.agree(_read(folder / FILE) if resume else {})
    if resume and world.is_first:
        _clear_away(folder)
    for seed in seeds:
        if seed in done:
            logger.info("seed %d (%d of %d) is done", seed, seeds.index(seed) + 1, len(seeds))
    left = [seed for seed in seeds if seed not in done]
    if world.size > 1:
        logger.info("seeds %s, side by side on %d ranks", ", ".join(map(str, left)), world.size)
    for seed in left[world.rank :: world.size]:  # whole runs, one after the other on every rank
        own = folder / f"seed-{seed}"
        logger.info("seed %d (%d of %d), in %s", seed, seeds.index(seed) + 1, len(seeds), own)
        with apart():
            result = train(seed, own, (own / "run.yaml").is_file())
        done[seed] = result.metrics | {_STEPS: result.steps}
        if world.is_first:
            with disk_errors(folder / FILE, 0):
                by_seed = {str(one): metrics for one, metrics in done.items()}
                write_text(folder / FILE, json.dumps({"seeds": by_seed}, indent=2) + "\n")
    for theirs in world.gather(done):
        done |= theirs
    best = seeds[0]
    for seed in seeds[1:]:
        if is_better(done[seed], metric, done[best][metric]):
            best = seed
    updates = {seed: int(done[seed][_STEPS]) for seed in seeds}
    plain = {seed: {name: x for name, x in done[seed].items() if name != _STEPS} for seed in seeds}
    stored = finished(folder / f"seed-{best}")
    made = Seeds(plain, best, metric, updates, *({}, {}) if stored is None else stored[1:])
    if world.is_first:
        with disk_errors(folder / FILE, 0):
            put_on_top(folder, folder / f"seed-{best}")
            write_text(folder / FILE, json.dumps(made.to_json(), indent=2) + "\n")
    return made


def _clear_away(folder: Path) -> None:
    """Remove what a process left that was killed while it put a model on top."""
    with disk_errors(folder, 0):
        for left in folder.glob(".writing-*"):
            shutil.rmtree(left, ignore_errors=True)


def put_on_top(folder: Path, best: Path) -> None:
    beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        hidden = {path.name for path in best.iterdir() if path.name.startswith(".")}
        shutil.copytree(
            best,
            beside,
            dirs_exist_ok=True,
            ignore=lambda at, _: {*_OF_THE_RUN, *hidden} if Path(at) == best else set(),
        )
        publish(beside, folder, ("model.safetensors", MODEL_FILE))
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _read(path: Path) -> dict[int, dict[str, float]]:
    if not path.is_file():
        return {}
    seeds = read_json(path).get("seeds")
    if not isinstance(seeds, Mapping) or not all(isinstance(one, dict) for one in seeds.values()):
        raise InputError(f"{path}: not as bertune wrote it; remove the folder and train again")
    return {int(seed): metrics for seed, metrics in seeds.items()}
