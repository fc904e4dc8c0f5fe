"""What a sweep says at its end: tables, sweep.json, trials.csv, sweep.svg, and the files of a trained model."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from bertune.durations import duration
from bertune.errors import counted
from bertune.files.atomic_write import write_text
from bertune.files.yaml_files import write_yaml
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
    """Seconds that a sweep took, that it had, and that the winner's repetitions trained and evaluated."""

    seconds: float
    limit: float
    repeated: float


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found.

    trials: in the order in which they were begun: number, setting, value (None where there is none), seconds, reason.
    winner: the best trial's setting, and `value`, the figure that won.
    seeds: the winner with fresh seeds; None where no time was left for two of them.
    seconds, limit: that the sweep took, and that it had.
    overhead: share of the time that was neither training nor evaluating nor writing in a trial or a repetition: data,
        probe, starts of processes, trials that were stopped.
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
        overhead = 1 - (worked + times.repeated) / max(times.seconds, 1e-9)
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
                "standard_deviation": self.seeds.deviation[self.metric],
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
            mean, deviation = self.seeds.mean[self.metric], self.seeds.deviation[self.metric]
            lines = [
                ("in the sweep", f"{self.value:.4f}"),
                (f"mean of {len(self.seeds.metrics)} fresh seeds", f"{mean:.4f} ± {deviation:.4f}"),
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
        if seeds is not None:
            tree["seeds"] = ",".join(map(str, seeds.metrics))
        write_yaml(folder / "run.yaml", tree)
    if seeds is None:
        found = finished(folder)
        assert found is not None, "the trial's model folder has its metrics"
        write_metrics(folder, *found)
        return
    record = {**seeds.record, "seed": seeds.best, "seeds": list(seeds.metrics)}
    write_metrics(
        folder, seeds.metrics[seeds.best], record, {"mean": seeds.mean, "standard_deviation": seeds.deviation}
    )


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


_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 640, 320, 64, 40, 44


def svg(result: SweepResult) -> str:
    """The value of every trial over the time, the best so far as a line, and the mean of the winner's repetitions."""
    ranked = [trial for trial in result.trials if trial["value"] is not None]
    ends, at = [], 0.0
    for trial in result.trials:
        at += trial["seconds"]
        ends.append((trial, at))
    points = [(end, float(trial["value"]), trial) for trial, end in ends if trial in ranked]
    values = [value for _, value, _ in points]
    mean = result.seeds.mean[result.metric] if result.seeds is not None else None
    low, high = min([*values, *([mean] if mean is not None else [])]), max(values)
    span = (high - low) or max(abs(high), 1.0) * 0.1
    low, high = low - 0.08 * span, high + 0.08 * span
    longest = max(at, 1e-9)

    def x(seconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 20) * seconds / longest

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    better = min if lower_is_better(result.metric) else max
    line, best = [], None
    for seconds, value, _ in points:
        best = value if best is None else better(best, value)
        line.append(f"{x(seconds):.1f},{y(best):.1f}")
    title = f"{result.metric} of {counted(len(points), 'trial')} over {duration(at)}"
    parts = [_head(title), *_axes((low, high), longest, y)]
    parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="#3465a4" stroke-width="1.5"/>')
    for seconds, value, trial in points:
        setting = ", ".join(f"{name} {shown(one)}" for name, one in trial["setting"].items())
        text = escape(f"trial {trial['trial']}: {value:.4f}; {setting}")
        parts.append(
            f'<circle cx="{x(seconds):.1f}" cy="{y(value):.1f}" r="4" fill="#3465a4" fill-opacity="0.7">'
            f"<title>{text}</title></circle>"
        )
    if mean is not None:
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 20}" y1="{y(mean):.1f}" y2="{y(mean):.1f}" stroke="#c4630b" '
            f'stroke-dasharray="5 4"><title>mean of the winner on fresh seeds: {mean:.4f}</title></line>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _head(title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>\n'
        f'<text x="{_LEFT}" y="22" font-size="14">{escape(title)}</text>'
    )


def _axes(limits: Sequence[float], longest: float, y: Any) -> list[str]:
    low, high = limits
    bottom = _HEIGHT - _BOTTOM
    parts = [f'<path d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - 20}" fill="none" stroke="#888"/>']
    for step in range(5):
        value = low + (high - low) * step / 4
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for step in range(5):
        seconds = longest * step / 4
        at = _LEFT + (_WIDTH - _LEFT - 20) * step / 4
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{duration(seconds)}</text>')
    return parts
