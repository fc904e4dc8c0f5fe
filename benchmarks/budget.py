"""bertune's `--preset best` beside transformers' Trainer, both within the same wall clock, at the same time.

python -m benchmarks.quality budget --task mrpc|conll --seconds 300 --seeds 1,2,3 [--cores-each 1] [--rows 2000]
                                    [--settings 1e-4,1e-4@16] [--autogluon PYTHON] [--within SECONDS] [--look]

Each side has its own cores and as many threads; the cores are swapped from seed to seed. The clock runs from the start
of a process to its end, loading libraries and writing the model included; bertune gets `--time-limit` and nothing else
that depends on the time. The Trainer's speed is measured beforehand, outside of its time, and its updates fill it. Both
train on the first rows, choose by the same rows that follow them (with --rows 0: the last tenth), and are judged on the
whole development set, which neither has seen. MRPC's has 408 rows only, so that chance moves a figure by 2 points:
there both are also judged on the rest of the training file, 1,268 rows that neither has seen.

The Trainer runs with every setting, a rate and a batch size (32 unless it is said), with the first at the same time as
bertune, with the others beside one another. Of all, with its best or its last weights, the one counts whose mean on the
development set is highest: it is chosen by the very figures that it is judged by, in its favour.

With --autogluon, the Python of an environment that has autogluon.multimodal, AutoGluon's predictor is given the same
encoder, rows and time, and nothing else.

What is done is kept in benchmarks/results/budget.jsonl, and not done again on the same processor: name another --ledger
for another version. Nothing is begun after --within.
"""

import argparse
import dataclasses
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import ROOT, machine, save_result
from benchmarks.quality import JOBS, LENGTH, shortened
from bertune.tasks.registry import new_task
from bertune.tasks.tagging.examples import word_chunks
from bertune.tasks.tagging.metrics import entity_metrics

METRICS = {"mrpc": "accuracy", "conll": "f1", "stsb": "spearman"}
SETTINGS = {"mrpc": "1e-4,1e-4@16", "conll": "2e-4,1e-4@16", "stsb": "1e-4,1e-4@16"}
"""Of the Trainer; bertune's own preset takes 1e-4 and 16 for minilm."""
LEDGER = ROOT / "benchmarks" / "results" / "budget.jsonl"
FILLED = 0.97
"""Share of the time that the Trainer's plan fills."""
LATE = 1.05
"""Times the limit, past which a side's run does not count."""
Setting = tuple[float, int]
"""Of the Trainer: its rate, and rows in a batch."""


@dataclass(frozen=True)
class Run:
    """One run of one side. rate, batch_size: of the Trainer, for whose speed, measured alone, there is no rate."""

    side: str
    seed: int
    rate: float | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class Budget:
    """What all runs share.

    files: to train on, to choose by, to be judged on.  more: to be judged on too, where there are so few of those.
    autogluon: its environment's Python.
    """

    task: str
    seconds: float
    rows: int
    threads: int
    files: tuple[Path, Path, Path]
    ledger: Path
    more: Path | None = None
    autogluon: Path | None = None

    @property
    def judging(self) -> dict[str, Path]:
        """The files that models are judged on, by what their figures' names end with."""
        return {"": self.files[2]} | ({"_more": self.more} if self.more else {})

    @property
    def key(self) -> dict[str, Any]:
        """What runs must have in common to be compared."""
        return {name: getattr(self, name) for name in ("task", "seconds", "rows", "threads")}

    def done(self) -> dict[Run, dict[str, Any]]:
        """What the ledger has of this budget, from this kind of processor, judged on all of its files."""
        text = self.ledger.read_text(encoding="utf-8") if self.ledger.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        here = machine()["cpu"]
        same = [
            line
            for line in lines
            if line["machine"]["cpu"] == here
            and all(line.get(name) == value for name, value in self.key.items())
            and (line["side"] == "speed" or all(f"best{name}" in line["found"] for name in self.judging))
        ]
        return {Run(*(line[one.name] for one in dataclasses.fields(Run))): line["found"] for line in same}


def files(task: str, rows: int, folder: Path) -> tuple[Path, Path, Path]:
    """Files to train on, to choose by and to be judged on."""
    data, job = Path(os.environ["BERTUNE_SHARED"], "data"), JOBS[task]
    train, dev = (data / job.train).resolve(), (data / job.dev).resolve()
    if not rows:
        whole = len(train.read_text(encoding="utf-8-sig").splitlines()) - 1
        if train.suffix != ".tsv":
            whole = train.read_text(encoding="utf-8-sig").count("\n\n")
        rows = whole - whole // 10
        return shortened(train, rows, folder), shortened(train, whole, folder, skip=rows), dev
    return shortened(train, rows, folder), shortened(train, to_choose_by(rows), folder, skip=rows), dev


def to_choose_by(rows: int) -> int:
    """How many of the rows that follow those to train on are chosen by."""
    return max(50, rows // 5)


def further(task: str, rows: int, folder: Path) -> Path | None:
    """Rows of the training file that are neither trained on nor chosen by, where the development set is small."""
    if task != "mrpc" or not rows:
        return None
    train = Path(os.environ["BERTUNE_SHARED"], "data", JOBS[task].train).resolve()
    return shortened(train, 100_000, folder, skip=rows + to_choose_by(rows))


def command(budget: Budget, run: Run, folder: Path, pace: dict[str, float] | None) -> list[str]:
    """What is started; the Trainer's is told when, as its last value."""
    train, choose, _ = map(str, budget.files)
    judging = [str(path) for path in budget.judging.values()]
    if run.side == "bertune":
        return [
            sys.executable, "-m", "bertune", "train", "--task", JOBS[budget.task].task, "--encoder", "minilm",
            "--train", train, "--validation", choose, "--output", str(folder / "model"), "--preset", "best",
            "--time-limit", f"{budget.seconds:g}s", "--max-seq-length", str(LENGTH), "--seed", str(run.seed), "--json",
        ]  # fmt: skip
    if run.side == "autogluon":
        from benchmarks.peer import minilm

        return [
            str(budget.autogluon), "-m", "benchmarks.budget_autogluon", "--train", f"{train}.json",
            "--choose", f"{choose}.json", "--report", *(f"{path}.json" for path in judging),
            "--output", str(folder / "model"), "--encoder", minilm(), "--metric", METRICS[budget.task],
            "--seconds", f"{budget.seconds:g}", "--seed", str(run.seed),
            "--threads", str(budget.threads), "--began", repr(time.time()),
        ]  # fmt: skip
    made = [
        sys.executable, "-m", "benchmarks.budget_peer", budget.task, "--train", train, "--choose", choose,
        "--report", *judging, "--output", str(folder / "model"), "--metric", METRICS[budget.task],
        "--seconds", f"{budget.seconds:g}", "--rate", str(run.rate or 5e-5), "--seed", str(run.seed),
        "--batch-size", str(run.batch_size), "--threads", str(budget.threads),
    ]  # fmt: skip
    if pace is None:
        made += ["--probe", f"{min(30.0, 0.2 * budget.seconds):g}"]
    else:
        made += ["--steps", str(planned_steps(budget, run, pace))]
    return [*made, "--began", repr(time.time())]


def planned_steps(budget: Budget, run: Run, pace: dict[str, float]) -> int:
    """Updates of the Trainer that fill the time, with an evaluation an epoch, at most ten."""
    text = budget.files[0].read_text(encoding="utf-8-sig")
    rows = text.count("\n\n") if budget.files[0].suffix != ".tsv" else text.count("\n") - 1
    epoch = max(1, rows // (run.batch_size or rows))
    left = FILLED * budget.seconds - pace["fixed"] - pace["saving"]
    each = pace["update"] + pace["evaluation"] / epoch
    return max(1, int(max(left / each, (left - 10 * pace["evaluation"]) / pace["update"])))


def paced(budget: Budget, batch_size: int) -> dict[str, float]:
    """Seconds of the parts of a Trainer's run: of whole runs the median; before there are any, the slower probe's."""
    done = {run: one for run, one in budget.done().items() if run.batch_size == batch_size}
    whole = [one["pace"] for run, one in done.items() if run.side == "transformers"]
    probes = [one["pace"] for run, one in done.items() if run.side == "speed"]
    summed = statistics.median if whole else max
    found = {part: float(summed(one[part] for one in whole or probes)) for part in probes[0]}
    parts = ", ".join(f"{part} {seconds:.2f} s" for part, seconds in found.items())
    print(f"the Trainer, {batch_size} at once: {parts}", flush=True)
    return found


def start(budget: Budget, run: Run, cores: Sequence[int], folder: Path, pace: dict[str, float] | None) -> Any:
    """The process of a run on its cores, its output in a file, and when it began."""
    held = ["taskset", "-c", ",".join(map(str, cores))]
    environment = os.environ | {"OMP_NUM_THREADS": str(budget.threads), "TOKENIZERS_PARALLELISM": "false"}
    folder.mkdir()
    with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
        began = time.monotonic()
        process = subprocess.Popen(
            held + command(budget, run, folder, pace), stdout=out, stderr=log, env=environment, cwd=ROOT
        )
    return process, began


def together(budget: Budget, runs: Sequence[Run], cores: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Run some at the same time, each on its cores; what they found goes into the ledger."""
    paces = [paced(budget, run.batch_size) if run.rate and run.batch_size else None for run in runs]
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name, str(i)) for i in range(len(runs))]
        going = [start(budget, *one) for one in zip(runs, cores, folders, paces, strict=False)]
        ended: dict[int, float] = {}
        while len(ended) < len(going):
            time.sleep(0.02)
            for i, (process, began) in enumerate(going):
                if i not in ended and process.poll() is not None:
                    ended[i] = time.monotonic() - began
                    if process.returncode:
                        sys.exit(f"{runs[i]}: {(folders[i] / 'log').read_text(encoding='utf-8')[-2000:]}")
        found = []
        for i, run in enumerate(runs):
            one = last_line(folders[i])
            if run.side == "bertune":
                one = judged(budget, folders[i] / "model") | {"seconds": ended[i], "steps": one["steps"]}
            elif run.side == "autogluon":
                one = {"seconds": one["seconds"], "steps": None} | scored(budget, one["answers"])
            found.append(one)
            line = {**budget.key, **dataclasses.asdict(run), "cores": list(cores[i]), "found": one}
            with budget.ledger.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line | {"machine": machine()}) + "\n")
    return found


def last_line(folder: Path) -> dict[str, Any]:
    """What a process said at its end."""
    return dict(json.loads((folder / "out").read_text(encoding="utf-8").splitlines()[-1]))


def judged(budget: Budget, model: Path) -> dict[str, Any]:
    """bertune's model on the rows for reporting."""
    found = {}
    for name, path in budget.judging.items():
        made = subprocess.run(
            [sys.executable, "-m", "bertune", "evaluate", "--model", model, "--data", path, "--json"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        found[f"best{name}"] = json.loads(made.stdout)
    return found


def write_plain(budget: Budget) -> None:
    """Every file's rows beside it as JSON, for AutoGluon: text, pair and label, or text and its entities' places."""
    for path in {*budget.files, *budget.judging.values()}:
        rows = []
        for one in new_task(JOBS[budget.task].task).read(path, labelled=True):
            if budget.task == "conll":
                places = [(c.label, one.words[c.first][0], one.words[c.end - 1][1]) for c in word_chunks(one)[0]]
                names = ("entity_group", "start", "end")
                rows.append({"text": one.text, "label": [dict(zip(names, place, strict=True)) for place in places]})
            else:
                rows.append({"text": one.text, "pair": one.pair, "label": str(one.label)})
        Path(f"{path}.json").write_text(json.dumps(rows), encoding="utf-8")


def scored(budget: Budget, answers: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """AutoGluon's answers for the rows for reporting, by the project's own metrics."""
    found: dict[str, Any] = {}
    for (name, path), told in zip(budget.judging.items(), answers, strict=True):
        rows = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
        if budget.task == "conll":
            gold = [[(one["entity_group"], (one["start"], one["end"])) for one in row["label"]] for row in rows]
            given = [[(label, (start, end)) for label, start, end in row] for row in told]
            found[f"best{name}"] = dict(entity_metrics(gold, given))
        else:
            right = statistics.mean(row["label"] == one for row, one in zip(rows, told, strict=True))
            found[f"best{name}"] = {"accuracy": right}
    return found


def slots(
    done: set[Run], seeds: Sequence[int], settings: Sequence[Setting], *, autogluon: bool
) -> Iterator[tuple[list[Run], bool]]:
    """What is still to be run at the same time, and whether the cores are swapped."""
    for i, seed in enumerate(seeds):
        pair = [Run("bertune", seed), Run("transformers", seed, *settings[0])]
        if not done.issuperset(pair):
            yield pair, bool(i % 2)
    others = [Run("transformers", seed, *setting) for setting in settings[1:] for seed in seeds]
    others += [Run("autogluon", seed) for seed in seeds if autogluon]
    others = [run for run in others if run not in done]
    for at in range(0, len(others), 2):
        yield others[at : at + 2], False


def summary(budget: Budget, seeds: Sequence[int], settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Print a table for each file that is judged on. Returns: means and differences in points."""
    done = budget.done()
    seeds = [seed for seed in seeds if Run("bertune", seed) in done and Run("transformers", seed, *settings[0]) in done]
    if not seeds:
        return []
    walls = {run: one["seconds"] for run, one in done.items() if "seconds" in one and run.seed in seeds}
    late = [f"{run}: {wall:.1f} s" for run, wall in walls.items() if wall > LATE * budget.seconds]
    facts = {
        "late": late,
        "walls": {f"{titled(run)} {run.seed}": round(wall, 1) for run, wall in walls.items()},
    }
    found = [table(budget, seeds, settings, name, path) | facts for name, path in budget.judging.items()]
    print("\nwall clock " + ", ".join(f"{titled(run)} {run.seed} {wall:.0f} s" for run, wall in walls.items()))
    if late:
        print("PAST THE LIMIT: " + "; ".join(late))
    return found


def titled(run: Run) -> str:
    """A side as tables and records name it."""
    if run.side == "transformers":
        return f"Trainer {run.rate:g} {run.batch_size}"
    return run.side


def table(budget: Budget, seeds: Sequence[int], settings: Sequence[Setting], name: str, path: Path) -> dict[str, Any]:
    """Print what all sides reached on a file. Returns: means, and the difference in points."""
    done, metric = budget.done(), METRICS[budget.task]
    columns = {
        "bertune, preset best": {seed: 100 * done[Run("bertune", seed)][f"best{name}"][metric] for seed in seeds}
    }
    others = {
        f"Trainer {rate:g}, {size} at once, {weights} weights": ("transformers", rate, size, weights)
        for (rate, size), weights in itertools.product(settings, ("best", "last"))
    }
    for title, (side, rate, size, weights) in ({**others, "AutoGluon": ("autogluon", None, None, "best")}).items():
        found = {seed: done.get(Run(side, seed, rate, size)) for seed in seeds}
        values = {seed: 100 * one[f"{weights}{name}"][metric] for seed, one in found.items() if one is not None}
        if len(values) == len(seeds):
            columns[title] = values
    means = {title: statistics.mean(values.values()) for title, values in columns.items()}
    own = next(iter(columns))
    peer = max((title for title in columns if title.startswith("Trainer")), key=lambda title: means[title])
    print(f"\n{budget.task}, {path.name}, {metric}, {budget.seconds:g} s, {budget.rows or 'all'} rows, "
          f"{budget.threads} core(s) each")  # fmt: skip
    print("| | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean |")
    print("|---" * (len(seeds) + 2) + "|")
    for title, values in columns.items():
        mark = " (its best setting)" if title == peer else ""
        print(f"| {title}{mark} | " + " | ".join(f"{values[s]:.1f}" for s in seeds) + f" | {means[title]:.1f} |")
    print(f"difference {means[own] - means[peer]:+.1f} points")
    return {
        **budget.key, "judged_on": path.name, "metric": metric, "seeds": seeds, "columns": columns, "means": means,
        "peer": peer, "difference": means[own] - means[peer],
    }  # fmt: skip


def as_setting(text: str) -> Setting:
    """A setting as it is written on the command line: 1e-4 or 1e-4@16."""
    rate, _, batch_size = text.partition("@")
    return float(rate), int(batch_size or 32)


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=METRICS, required=True)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--cores-each", type=int, default=1)
    parser.add_argument("--rows", type=int, default=2000, help="to train on; 0: all but the last tenth")
    parser.add_argument("--settings", help="of the Trainer: RATE or RATE@BATCH_SIZE, with commas between them")
    parser.add_argument("--autogluon", type=Path, help="Python of an environment with autogluon.multimodal")
    parser.add_argument("--within", type=float, default=86400, help="begin nothing after so many seconds")
    parser.add_argument("--ledger", type=Path, default=LEDGER)
    parser.add_argument("--look", action="store_true", help="keep nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """See the module's docstring."""
    said, began = arguments(argv), time.monotonic()
    if "BERTUNE_SHARED" not in os.environ:
        sys.exit("set BERTUNE_SHARED to the folder whose data/ holds the data sets")
    cores, each = sorted(os.sched_getaffinity(0)), said.cores_each
    if said.autogluon and said.task == "stsb":
        sys.exit("--autogluon: its predictor is set up for mrpc and conll")
    if len(cores) < 2 * each:
        sys.exit(f"--cores-each {each}: two sides need {2 * each} cores, and there are {len(cores)}")
    seeds = [int(seed) for seed in said.seeds.split(",")]
    settings = [as_setting(text) for text in (said.settings or SETTINGS[said.task]).split(",")]
    with tempfile.TemporaryDirectory() as name:
        ledger = Path(name, "ledger") if said.look else said.ledger
        data = files(said.task, said.rows, Path(name))
        budget = Budget(said.task, said.seconds, said.rows, each, data, ledger)
        more = further(said.task, said.rows, Path(name))
        budget = dataclasses.replace(budget, more=more, autogluon=said.autogluon)
        if said.autogluon:
            write_plain(budget)
        sets = [cores[:each], cores[each : 2 * each]]
        for batch_size in dict.fromkeys(size for _, size in settings):
            probes = [Run("speed", seed, None, batch_size) for seed in (0, 1)]
            if not budget.done().keys() >= set(probes):
                together(budget, probes, sets)
        for runs, swapped in slots(set(budget.done()), seeds, settings, autogluon=bool(said.autogluon)):
            if time.monotonic() - began > said.within:
                break
            found = together(budget, runs, sets[::-1] if swapped else sets)
            for run, one in zip(runs, found, strict=True):
                print(run, json.dumps({key: one[key] for key in ("seconds", "steps", "best")}), flush=True)
        results = summary(budget, seeds, settings)
    for result in results if not said.look else ():
        save_result("budget", result)
