"""What a report finds and costs: planted label errors, calibration with and without a temperature, time and size.

python -m benchmarks.report suspects     5 % of labels flipped in the sample intents and in SST-2: how many of the 5 %
                                         most suspect rows are flipped ones, by the model out of fold and with opinions
python -m benchmarks.report calibration  ECE and Brier on MRPC and SST-2 (SQuAD if named), cross-fitted, three seeds
python -m benchmarks.report cost         seconds and bytes of a report on --answered rows, after its predictions

All but `cost` fine-tune minilm; SST-2 and MRPC need the data that BERTUNE_SHARED points to.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import bertune
from benchmarks.distill import rows_of, write
from benchmarks.machine import describe, machine, save_result
from bertune.report.answers import Answered, answer, labelled_rows
from bertune.report.figures import doubtful_labels
from bertune.report.opinions import Judged, judged_together
from bertune.report.options import ReportOptions
from bertune.report.write import write_answered
from bertune.tasks.labelled import Labelled
from bertune.tasks.text_classification import TextExample

SHARE = 0.05
TASKS = {"sst2": "text-classification", "squad": "question-answering"}
SQUAD = {"train": "train", "validation": "dev"}
SAMPLES = Path(bertune.__file__).parent / "samples"
Row = dict[str, str]


def intents() -> list[Row]:
    """The sample intents: all rows."""
    from bertune.tasks.registry import new_task

    read = new_task("text-classification").read
    files = [SAMPLES / "intents" / name for name in ("train.csv", "dev.csv")]
    return [{"text": one.text, "label": one.label} for file in files for one in read(file, labelled=True)]


def flipped(rows: list[Row], seed: int) -> tuple[list[Row], np.ndarray[Any, Any]]:
    """Rows of which SHARE have another label, drawn at random, and which those are."""
    rng = np.random.default_rng(seed)
    labels = sorted({row["label"] for row in rows})
    planted = rng.choice(len(rows), round(SHARE * len(rows)), replace=False)
    changed = [dict(row) for row in rows]
    for index in planted:
        changed[index]["label"] = str(rng.choice([name for name in labels if name != rows[index]["label"]]))
    return changed, planted


def out_of_fold(rows: list[Row], folds: int, epochs: float, folder: Path) -> tuple[Any, Any, list[str]]:
    """Probabilities of every row by a model of the other folds, the given labels' numbers, and their names."""
    labels = sorted({row["label"] for row in rows})
    found = np.zeros((len(rows), len(labels)))
    part = np.random.default_rng(0).permutation(len(rows)) % folds
    for fold in range(folds):
        data = write(folder / f"{fold}.jsonl", [row for row, one in zip(rows, part, strict=True) if one != fold])
        bertune.train(
            task="text-classification", encoder="minilm", train=data, output=folder / f"fold-{fold}", epochs=epochs,
            learning_rate=1e-4, validation_share=0, report=False,
        )  # fmt: skip
        model = bertune.load(folder / f"fold-{fold}")
        own = np.flatnonzero(part == fold)
        for index, one in zip(own, model.predict([rows[i]["text"] for i in own]), strict=True):
            found[index] = [one["scores"][name] for name in labels]
    return found, np.array([labels.index(row["label"]) for row in rows]), labels


def suspects(options: argparse.Namespace) -> dict[str, Any]:
    """The share of planted rows among as many rows that are most suspect."""
    sst2 = Path(os.environ["BERTUNE_SHARED"]) / "data/glue/SST-2"
    sets = {"intents": (intents(), 5, 10.0), "sst2": (rows_of(sst2 / "train.tsv")[: options.rows], 5, 3.0)}
    result: dict[str, Any] = {}
    for name, (rows, folds, epochs) in ((name, sets[name]) for name in options.sets):
        changed, planted = flipped(rows, options.seed)
        with tempfile.TemporaryDirectory() as folder:
            probabilities, given, labels = out_of_fold(changed, folds, epochs, Path(folder))
        start = time.perf_counter()
        examples = [TextExample(row["text"], None, row["label"]) for row in changed]
        judged = Judged(examples, given, labels)
        together = judged_together(judged, probabilities, {"encoder": "minilm"}, None)
        seconds = time.perf_counter() - start
        shares = {}
        for who, found in (("model", probabilities), ("together", together)):
            first = doubtful_labels(found, given)[: len(planted)]
            shares[who] = float(np.isin(first, planted).sum() / len(planted))
        result[name] = {"rows": len(rows), "planted": len(planted), "share": shares, "seconds_of_opinions": seconds}
        print(name, result[name], flush=True)
    return result


def calibration(options: argparse.Namespace) -> dict[str, Any]:
    """ECE and Brier of both data sets, before and after a temperature, cross-fitted."""
    glue = Path(os.environ["BERTUNE_SHARED"]) / "data/glue"
    result: dict[str, Any] = {}
    for name in options.sets:
        runs = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                data = _files(name, glue, Path(folder), options.rows)
                output = Path(folder) / "run"
                bertune.train(
                    task=TASKS.get(name, name), encoder="minilm", **data, output=output,
                    epochs=options.epochs, learning_rate=1e-4, seed=seed, opinions=False,
                )  # fmt: skip
                found = json.loads((output / "report.json").read_text())["calibration"]
            errors = {when: {key: found[when][key] for key in ("ece", "brier")} for when in ("before", "after")}
            runs.append({"temperature": found["temperatures"], "left_out": found["left_out"], **errors})
            print(name, seed, runs[-1], flush=True)
        result[name] = {
            "runs": runs,
            "mean": {
                f"{key} {when}": statistics.mean(run[when][key] for run in runs)
                for key in ("ece", "brier")
                for when in ("before", "after")
            },
        }
        print(name, result[name]["mean"], flush=True)
    return result


def _questions(file: Path, folder: Path, rows: int) -> Path:
    """The first questions of a file, by whole paragraphs."""
    whole = json.loads(file.read_text(encoding="utf-8"))
    paragraphs = [paragraph for article in whole["data"] for paragraph in article["paragraphs"]]
    counts = np.cumsum([len(paragraph["qas"]) for paragraph in paragraphs])
    kept = paragraphs[: int(np.searchsorted(counts, rows)) + 1]
    target = folder / file.name
    target.write_text(json.dumps({"version": "v2.0", "data": [{"title": "", "paragraphs": kept}]}), encoding="utf-8")
    return target


def _files(name: str, glue: Path, folder: Path, rows: int) -> dict[str, Path]:
    if name == "mrpc":
        return {"train": glue / "MRPC/train.tsv", "validation": glue / "MRPC/dev.tsv"}
    if name == "squad":
        return {role: _questions(glue.parent / f"squad/{file}-v2.0.json", folder, rows) for role, file in SQUAD.items()}
    train = write(folder / "train.jsonl", rows_of(glue / "SST-2/train.tsv")[:rows])
    return {"train": train, "validation": write(folder / "dev.jsonl", rows_of(glue / "SST-2/dev.tsv"))}


def cost(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and bytes of a report on the sample intents' rows, repeated with marks that tell them apart.

    Only the report is timed, so every repeated row is given the answer of the row that it repeats.
    """
    rows = intents()
    many = [{**rows[i % len(rows)], "text": f"{rows[i % len(rows)]['text']} {i}"} for i in range(options.answered)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, data = write(folder / "train.jsonl", rows), write(folder / "many.jsonl", many)
        bertune.train(
            task="text-classification", encoder="minilm", train=train, output=folder / "run", max_steps=20,
            report=False,
        )  # fmt: skip
        model = bertune.load(folder / "run")
        how = ReportOptions(data=str(data), baselines=False)
        plain = dataclasses.replace(how, data=str(train))
        once: Answered = answer(model, labelled_rows(folder / "run", model.task, model.record, plain), plain)
        labelled: Labelled = labelled_rows(folder / "run", model.task, model.record, how)
        assert once.logits is not None
        place = [i % len(rows) for i in range(len(many))]
        answered = dataclasses.replace(
            once, examples=labelled.examples, path=data, labelled=labelled,
            logits=[once.logits[i] for i in place], predictions=[once.predictions[i] for i in place],
            features=model.task.featurize(labelled.examples, model.tokenizer, model.max_seq_length, purpose="evaluate"),
        )  # fmt: skip
        seconds = []
        for _ in range(options.repeat):
            start = time.perf_counter()
            report = write_answered(folder / "run", answered, how)
            seconds.append(time.perf_counter() - start)
        result = {"rows": len(many), "errors": report.figures["errors_in_all"], "seconds": seconds,
                  "html_bytes": report.html.stat().st_size, "json_bytes": report.json.stat().st_size}  # fmt: skip
    print(result, flush=True)
    return result


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("suspects", "calibration", "cost"))
    parser.add_argument("--rows", type=int, default=4000, help="of SST-2's training data, of SQuAD's questions")
    parser.add_argument(
        "--sets",
        nargs="+",
        help="of suspects: intents sst2 (default: both); of calibration: mrpc sst2 (default: both) squad",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the planted errors")
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--answered", type=int, default=10_000, help="rows of the report that cost measures")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    options.sets = options.sets or ["intents" if options.what == "suspects" else "mrpc", "sst2"]
    print(describe(machine()), flush=True)
    found = {"suspects": suspects, "calibration": calibration, "cost": cost}[options.what](options)
    save_result(f"report-{options.what}", {"options": vars(options), **found})


if __name__ == "__main__":
    main()
