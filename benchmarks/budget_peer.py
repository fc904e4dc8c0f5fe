"""transformers' Trainer within a wall clock: dynamic padding, batches of similar lengths, one setting.

In bfloat16 where the processor multiplies it. Started by `benchmarks.budget`. Its updates are planned beforehand, so
that the learning rate reaches zero in time; the clock ends it should the plan have been too long. It evaluates on the
rows for choosing about once an epoch and keeps the best weights in memory. The last line of its output is JSON,
with the metrics of the best and of the last weights on the rows for reporting, which are looked at when the clock has
been stopped.
"""

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import in_bfloat16
from benchmarks.quality import JOBS, encoded_for_transformers

AT_MOST = 10
"""Evaluations of a run."""
WARM = 3
"""Updates that a measurement of their speed leaves out."""


class _Clock:
    """What a run's parts take, in seconds, and whether its time is over.

    began: of `time.time`, when the process was started.
    seconds: that it has.  probe: of updates, after which it ends all the same.
    """

    def __init__(self, began: float, seconds: float, probe: float | None) -> None:
        self._began, self._seconds, self._probe = began, seconds, probe
        self.updates, self._evaluation, self._evaluations = 0, 0.0, 0.0
        self._first = self._warm = self._latest = 0.0

    def begin(self) -> None:
        """Before every update."""
        self._first = self._first or time.time()

    def update(self) -> None:
        """After every update."""
        self.updates, self._latest = self.updates + 1, time.time()
        if self.updates == WARM:
            self._warm = self._latest

    def evaluated(self, seconds: float) -> None:
        """After an evaluation that took so long."""
        self._evaluation, self._evaluations = seconds, self._evaluations + seconds

    @property
    def over(self) -> bool:
        """Whether there is only time left to evaluate and to save."""
        probed = self._probe is not None and time.time() - self._first > self._probe and self.updates > WARM
        return probed or self._began + self._seconds - time.time() < 1.1 * self._evaluation + 1

    def pace(self) -> dict[str, float]:
        """Seconds until the first update, of an update, of an evaluation."""
        before = self._evaluations - self._evaluation  # the last one came after the last update
        warm = self._warm if self.updates > WARM else self._first
        made = self.updates - WARM if self.updates > WARM else self.updates
        each = (self._latest - warm - before) / max(1, made)
        return {"fixed": self._first - self._began, "update": each, "evaluation": self._evaluation}


def metrics_on(model: Any, rows: list[dict[str, Any]], collator: Any, metrics: Any) -> dict[str, float]:
    """Metrics of the model's answers, computed in batches of similar lengths."""
    import numpy as np
    import torch

    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    logits: dict[int, Any] = {}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16()):
        for start in range(0, len(order), 64):
            places = order[start : start + 64]
            batch = collator([rows[i] for i in places])
            batch.pop("labels")
            logits |= dict(zip(places, model(**batch).logits.float().numpy(), strict=True))
    model.train()
    answers = [logits[i] for i in range(len(rows))]
    return dict(metrics(np.stack(answers) if answers[0].ndim == 1 else answers))


def run(said: argparse.Namespace) -> dict[str, Any]:
    """Train, evaluate, and tell how long everything took, in seconds since `began`."""
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    from benchmarks.peer import minilm

    job, name = JOBS[said.job], said.metric
    torch.set_num_threads(said.threads)
    set_seed(said.seed)
    encoded, collator = encoded_for_transformers(job, said.train, said.choose)
    model = encoded.model.from_pretrained(minilm(), **encoded.settings)
    epoch = math.ceil(len(encoded.train) / said.batch_size)
    steps = said.steps or 10_000
    every = max(epoch, math.ceil(steps / AT_MOST))
    kept: dict[str, Any] = {"value": -math.inf}
    clock = _Clock(said.began, said.seconds, said.probe)

    class Keeper(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            clock.begin()

        def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
            clock.update()
            last = clock.updates == steps or clock.over
            if last or clock.updates % every == 0:
                start = time.time()
                found = metrics_on(model, encoded.dev, collator, encoded.metrics)
                if found[name] > kept["value"]:
                    weights = {key: value.clone() for key, value in model.state_dict().items()}
                    kept.update(value=found[name], weights=weights, step=clock.updates)
                clock.evaluated(time.time() - start)
                print(f"step {clock.updates}: {name} {found[name]:.4f}", flush=True)
            control.should_training_stop = last

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=said.batch_size,
        learning_rate=said.rate,
        max_steps=steps,
        warmup_steps=0.1,  # a share of the updates, as warmup_ratio was
        weight_decay=0.01,
        bf16=in_bfloat16(),
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=said.seed,
        disable_tqdm=True,
        train_sampling_strategy="group_by_length",
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=Dataset.from_list(encoded.train), data_collator=collator,
        callbacks=[Keeper()],
    )  # fmt: skip
    trainer.train()
    start = time.time()
    model.save_pretrained(said.output)
    ended = time.time()
    pace = clock.pace() | {"saving": ended - start}
    if said.probe:
        return {"pace": pace}
    found = {}
    for weights in ("last", "best"):
        if weights == "best":
            model.load_state_dict(kept["weights"])
        for name, path in zip(("", "_more"), said.report, strict=False):
            reported, _ = encoded_for_transformers(job, said.train, path)
            found[f"{weights}{name}"] = metrics_on(model, reported.dev, collator, reported.metrics)
    return {
        "seconds": ended - said.began, "steps": clock.updates, "planned": steps, "epochs": clock.updates / epoch,
        "pace": pace,
        "best_step": kept["step"], "chosen_by": kept["value"], **found,
    }  # fmt: skip


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    for name in ("train", "choose", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--report", type=Path, nargs="+", required=True)
    parser.add_argument("--metric", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--began", type=float, required=True, help="of time.time, when the process was started")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="updates; the learning rate reaches zero there")
    parser.add_argument("--probe", type=float, help="seconds of updates, to see how fast they are")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
