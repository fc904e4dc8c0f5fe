"""What a sweep says at its end: tables, sweep.json, trials.csv, sweep.svg, and the files of a trained model."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.durations import duration
from bertune.errors import counted
from bertune.files.atomic_write import write_text
from bertune.files.yaml_files import write_yaml
from bertune.report import charts
from bertune.tables import PlainTable, plain_table
from bertune.tasks.protocol import lower_is_better
from bertune.training.options import TrainOptions
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.report import finished, write_metrics
from bertune.training.runs.seeds import Seeds

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_SHOWN = 10


@dataclass(frozen=True)
class Times:
    """Seconds that a sweep took, that it had, and that the winner's repetitions trained and evaluated.

    ranks: processes that ran trials side by side.
    """

    seconds: float
    limit: float
    repeated: float
    ranks: int = 1


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    trials: in the order in which they were begun: number, setting, value (None where there is none), seconds, reason.
    winner: the best trial's setting, and `value`, the figure that won.
    seeds: the winner with fresh seeds; None where no time was left for any.
    seconds, limit: that the sweep took, and that it had.
    overhead: share of the time (of all ranks' time) that was neither training nor evaluating nor writing in a trial or
        a repetition: data, probe, starts of processes, trials that were stopped.
    """

    metric: str
    trials: list[dict[str, Any]]
    number: int
    winner: dict[str, Any]
    value: float
    seeds: Seeds | None
    seconds: float
    limit: float
    overhead: float

    @classmethod
    def of(cls, study: "Study", metric: str, best: "FrozenTrial", seeds: Seeds | None, times: Times) -> "SweepResult":
        """From the journal and the final runs."""
        trials = [
            {
                "trial": trial.number,
                "setting": dict(trial.params),
                "value": trial.value if trial.state.name == "COMPLETE" else None,
                "seconds": trial.user_attrs["seconds"],
                "reason": trial.user_attrs.get("reason", ""),
            }
            for trial in study.get_trials(deepcopy=False)
            if "seconds" in trial.user_attrs
        ]
        assert best.value is not None
        worked = sum(trial.user_attrs.get("worked", 0.0) for trial in study.get_trials(deepcopy=False))
        overhead = 1 - (worked + times.repeated) / max(times.seconds * times.ranks, 1e-9)
        winner = dict(best.params)
        return cls(metric, trials, best.number, winner, best.value, seeds, times.seconds, times.limit, overhead)

    @property
    def optimism(self) -> float | None:
        """By how much the figure that won is better than the mean of its repetitions."""
        if self.seeds is None:
            return None
        difference = self.value - self.seeds.mean[self.metric]
        return -difference if lower_is_better(self.metric) else difference

    def to_json(self) -> dict[str, Any]:
        """For sweep.json and --json."""
        final = None
        if self.seeds is not None:
            final = {
                "seeds": {str(seed): metrics[self.metric] for seed, metrics in self.seeds.metrics.items()},
                "mean": self.seeds.mean[self.metric],
                "standard_deviation": self.seeds.deviation.get(self.metric),
                "optimism": self.optimism,
            }
        return {
            "metric": self.metric,
            "winner": {"trial": self.number, "setting": self.winner, "value": self.value},
            "final": final,
            "seconds": round(self.seconds, 2),
            "time_limit_seconds": self.limit,
            "overhead": round(self.overhead, 4),
            "trials": self.trials,
        }

    def ranked(self) -> list[dict[str, Any]]:
        """Trials with a value, the best first."""
        found = [trial for trial in self.trials if trial["value"] is not None]
        return sorted(found, key=lambda trial: trial["value"], reverse=not lower_is_better(self.metric))

    def tables(self) -> list[PlainTable]:
        """The best trials, and what became of the winner."""
        names = sorted({name for trial in self.trials for name in trial["setting"]})
        rows = (
            (trial["trial"], f"{trial['value']:.4f}", *(shown(trial["setting"].get(name)) for name in names),
             duration(trial["seconds"]))
            for trial in self.ranked()[:_SHOWN]
        )  # fmt: skip
        others = len(self.trials) - len(self.ranked())
        title = f"{counted(len(self.trials), 'trial')} in {duration(self.seconds)}, {self.overhead:.1%} of it overhead"
        title += f", {others} of them without a value" if others else ""
        tables = [plain_table(title, ("trial", self.metric, *map(_words, names), "time"), rows)]
        if self.seeds is not None:
            mean, deviation = self.seeds.mean[self.metric], self.seeds.deviation.get(self.metric)
            repeated = (
                ("with one fresh seed; no time was left for more", f"{mean:.4f}")
                if deviation is None
                else (f"mean of {len(self.seeds.metrics)} fresh seeds", f"{mean:.4f} ± {deviation:.4f}")
            )
            lines = [
                ("in the sweep", f"{self.value:.4f}"),
                repeated,
                ("luck of the sweep", f"{self.optimism:+.4f}"),
            ]
            tables.append(plain_table(f"the winner, trial {self.number}: {self.metric}", ("", ""), lines))
        return tables


def shown(value: Any) -> str:
    """A setting's value for people."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")


def write_results(folder: Path, result: SweepResult, options: TrainOptions) -> None:
    """sweep.json, trials.csv and sweep.svg, and metrics.json and run.yaml as `bertune train` leaves them.

    Args:
        folder: of the sweep, the best model in it already.
        result: of the sweep.
        options: those of the winner's run.
    """
    seeds = result.seeds
    with disk_errors(folder, 0):
        write_text(folder / "sweep.json", json.dumps(result.to_json(), indent=2) + "\n")
        write_text(folder / "trials.csv", _csv(result))
        write_text(folder / "sweep.svg", svg(result))
        tree = dataclasses.asdict(options)
        if seeds is not None and len(seeds.metrics) == 1:
            tree["seed"] = seeds.best
        elif seeds is not None:
            tree["seeds"] = ",".join(map(str, seeds.metrics))
        write_yaml(folder / "run.yaml", tree)
    if seeds is None:
        found = finished(folder)
        assert found is not None, "the trial's model folder has its metrics"
        write_metrics(folder, *found)
        return
    record = {**seeds.record, "seed": seeds.best, "seeds": list(seeds.metrics)}
    spread = {"mean": seeds.mean, "standard_deviation": seeds.deviation} if seeds.deviation else {}
    write_metrics(folder, seeds.metrics[seeds.best], record, spread)


def _csv(result: SweepResult) -> str:
    names = sorted({name for trial in result.trials for name in trial["setting"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", result.metric, "seconds", "reason", *names])
    for trial in result.trials:
        value = "" if trial["value"] is None else trial["value"]
        setting: Mapping[str, Any] = trial["setting"]
        writer.writerow(
            [trial["trial"], value, trial["seconds"], trial["reason"], *(setting.get(n, "") for n in names)]
        )
    return out.getvalue()


def svg(result: SweepResult) -> str:
    """The value of every trial over the time, the best so far as a line, and the mean of the winner's repetitions."""
    better = min if lower_is_better(result.metric) else max
    points: list[tuple[float, float, str]] = []
    line: list[charts.Point] = []
    seconds = 0.0
    for trial in result.trials:
        seconds += trial["seconds"]
        if trial["value"] is None:
            continue
        value = float(trial["value"])
        setting = ", ".join(f"{name} {shown(one)}" for name, one in trial["setting"].items())
        points.append((seconds, value, f"trial {trial['trial']}: {value:.4f}; {setting}"))
        line.append((seconds, better(value, line[-1][1]) if line else value))
    level = None
    if result.seeds is not None:
        mean = result.seeds.mean[result.metric]
        level = (mean, f"mean of the winner on fresh seeds: {mean:.4f}")
    title = f"{result.metric} of {counted(len(points), 'trial')} over {duration(seconds)}"
    drawn = charts.progress(title, ("seconds", result.metric), points, line, level)
    return charts.standalone(drawn)
