"""`train --adapt TEXT`: further pre-training on text of the task's kind, then fine-tuning, and what that brought.

Three runs in one folder: `without/`, fine-tuned from the encoder as it is, which also shows that options and data are
in order; `adapted/`, the encoder pre-trained on (Gururangan et al., 2020, "Don't stop pretraining"); and at the top the
model fine-tuned from that. Both models are compared on the same validation rows.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.argument_names import python_call
from bertune.data.documents import find_files
from bertune.durations import Clock
from bertune.errors import InputError, Interrupted, Problems
from bertune.evaluation.compare import CompareSettings, compare
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.model.presence import MODEL_FILE
from bertune.option_values import checked_values
from bertune.pretraining.options import PretrainOptions
from bertune.pretraining.pretrain import run as pretrain
from bertune.tasks.options import PAIR
from bertune.tasks.protocol import lower_is_better
from bertune.tasks.registry import new_task, options_of
from bertune.training.options import AdaptOptions, TrainOptions
from bertune.training.presets import with_preset
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.report import finished
from bertune.training.time_limit import TimeLimit
from bertune.training.train import run as train
from bertune.training.train import time_limit

logger = logging.getLogger(__name__)

WITHOUT, ADAPTED, FILE = "without", "adapted", "adaptation.json"


@dataclass(frozen=True)
class Adaptation:
    """What further pre-training brought.

    result: of the run from the adapted encoder.
    before, after: the metric without and with it, on the same rows.
    gain: how much better it became.  low, high: 95 % interval of the gain, over the rows.
    losses: `masked_lm_loss` on held-out text, before and after pre-training, where it was measured.
    """

    result: TrainResult
    metric: str
    before: float
    after: float
    gain: float
    low: float
    high: float
    losses: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """For adaptation.json and --json."""
        return {name: value for name, value in vars(self).items() if name != "result"}

    def verdict(self) -> str:
        """In words."""
        figures = f"{self.metric} {self.before:.4f} without, {self.after:.4f} with further pre-training"
        if self.gain <= 0:
            return f"adapting did not help: {figures}; the model without it is in {self.result.output / WITHOUT}"
        chance = " (the difference may be chance)" if self.low <= 0 <= self.high else ""
        return f"adapting brought {self.gain:+.4f}{chance}: {figures}"


@python_call
def adapt(text: str | Path | list[str | Path], *, adapt_epochs: float = 3.0, **options: Any) -> Adaptation:
    """Pre-train an encoder on text, fine-tune it, and compare with fine-tuning alone.

    Args:
        text: files or patterns, as `bertune.pretrain` reads them.
        adapt_epochs: passes over the text.
        options: of `bertune.train`.

    Raises:
        InputError: bad options or data.
    """
    several = [str(one) for one in text] if isinstance(text, list) else [str(text)]
    own = {field.name for field in dataclasses.fields(options_of(str(options.get("task"))))}
    task_options = {name: value for name, value in options.items() if name in own}
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()
             if name not in own}  # fmt: skip
    began = time.monotonic()
    values = with_preset(checked_values(TrainOptions, plain), task_options)
    asked = AdaptOptions(adapt=several, adapt_epochs=adapt_epochs)
    return run(asked, TrainOptions(**values), task_options, began=began)


def run(
    adaptation: AdaptOptions, options: TrainOptions, task_options: Mapping[str, Any], *, began: float | None = None
) -> Adaptation:
    """The three runs, which share a time limit evenly, and their comparison.

    began: of `time.monotonic`, when a time limit begins; None: now.

    Raises:
        InputError: bad options or data; nothing has been written then.
        FaultError, Interrupted: as the runs raise them; `resume` goes on.
    """
    output = Path(options.output)
    with run_errors(output, "train", f"{WITHOUT}/run.yaml", complete=False):
        _check(options, list(adaptation.adapt or ()))
        clock = time_limit(options, began)
        before = dataclasses.replace(options, output=str(output / WITHOUT))
        _once(before, task_options, None if clock is None else clock.part(3))
        kept = 0.0 if clock is None else _seconds_of_comparison(options, output)
        length = options.max_seq_length or new_task(options.task, task_options).defaults.max_seq_length
        known = PretrainOptions(
            encoder=options.encoder, train=list(adaptation.adapt or ()), output=str(output / ADAPTED),
            epochs=adaptation.adapt_epochs, max_seq_length=length, seed=options.seed, precision=options.precision,
            device=options.device, do_lower_case=options.do_lower_case,
        )  # fmt: skip
        limit = None if clock is None else TimeLimit(str(options.time_limit), clock.part(2, kept=kept))
        metrics = _pretrained(known, limit, resume=options.resume)
        part = None if clock is None else clock.part(1, kept=kept)
        as_before = {**task_options, **_pooling_of(output / WITHOUT)}
        result = _once(dataclasses.replace(options, encoder=str(output / ADAPTED)), as_before, part)
        made = _compared(options, output, result, metrics)
        with disk_errors(output, 0):
            described = {"text": adaptation.adapt, "epochs": adaptation.adapt_epochs, **made.to_json()}
            write_text(output / FILE, json.dumps(described, indent=2) + "\n")
    (logger.info if made.gain > 0 else logger.warning)("%s", made.verdict())
    return made


def _check(options: TrainOptions, text: list[str]) -> None:
    """Raises InputError: text that is not there; options that do not go with it; another run in the folder."""
    problems, output = Problems(), Path(options.output)
    if options.validation is None and options.validation_share == 0:
        problems.add(
            "--adapt: what it brings is measured on validation data; name some, or leave --validation-share 0 out"
        )
    try:
        find_files(text, "--adapt")
    except InputError as error:
        problems.add(str(error))
    if options.folds is not None:
        problems.add("--folds: does not go with --adapt, which makes three runs; leave one out")
    if not options.resume and any((output / name).exists() for name in (WITHOUT, ADAPTED)):
        problems.add(
            f"--output {output}: holds another run; name a new folder, remove it, or continue it with --resume"
        )
    problems.raise_if_any()


def _begun(folder: Path) -> bool:
    return (folder / "run.yaml").is_file()


@contextmanager
def _part() -> Iterator[None]:
    """A run that is a part: how to go on with it alone is left out of the message when it is stopped."""
    try:
        yield
    except Interrupted as error:
        del error.details[-1:]
        raise


def _once(options: TrainOptions, task_options: Mapping[str, Any], clock: Clock | None) -> TrainResult:
    """One fine-tuning; one that is finished is not made again."""
    with _part():
        resume = options.resume and _begun(Path(options.output))
        return train(dataclasses.replace(options, resume=resume), task_options, clock=clock)


def _pooling_of(folder: Path) -> dict[str, Any]:
    """What `--pooling auto` came to in a model: the adapted encoder's folder does not say how the first one pooled."""
    found = read_json(folder / MODEL_FILE)["task"]["options"].get("pooling")
    return {"pooling": PAIR} if found == PAIR else {}


def _pretrained(options: PretrainOptions, limit: TimeLimit | None, *, resume: bool) -> Mapping[str, float]:
    """The metrics of the pre-training; one that is finished is not made again."""
    folder = Path(options.output)
    if resume and (found := finished(folder)) is not None:
        return found[0]
    with _part():
        return pretrain(dataclasses.replace(options, resume=resume and _begun(folder)), limit=limit).metrics


def _how(options: TrainOptions) -> CompareSettings:
    return CompareSettings(metric=options.metric, precision=options.precision, device=options.device,
                           trust_task_file=options.task.rpartition(":")[0] or None)  # fmt: skip


def _seconds_of_comparison(options: TrainOptions, output: Path) -> float:
    """What comparing two models will take: twice what one of them takes to load and to answer, and a little more."""
    start = time.monotonic()
    compare([output / WITHOUT], None, dataclasses.replace(_how(options), fewest=1))
    return 2.2 * (time.monotonic() - start)


def _compared(options: TrainOptions, output: Path, result: TrainResult, metrics: Mapping[str, float]) -> Adaptation:
    """Both models on the validation rows."""
    found = compare([output / WITHOUT, output], None, _how(options))
    (first, second), (pair,) = found["runs"], found["pairs"]
    low, high, sign = pair["low"], pair["high"], 1
    if lower_is_better(found["metric"]):
        low, high, sign = -high, -low, -1
    name = "masked_lm_loss"
    losses = (metrics[f"before_{name}"], metrics[name]) if f"before_{name}" in metrics else None
    gain = sign * (second["value"] - first["value"])
    return Adaptation(result, found["metric"], first["value"], second["value"], gain, low, high, losses)
