"""Every option of a training run: command line, YAML file and saved run.yaml are this one tree."""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from bertune.durations import seconds_of
from bertune.errors import InputError
from bertune.option_values import broken_limits
from bertune.options import LR_SCHEDULES, PRESETS, option, run_option
from bertune.training.trackers import tracker_problems

_MOST_SEEDS = 1000
"""Of a range."""
NOT_WITH_SOUP = ("seeds", "folds", "restarts", "label_margins", "average_last")
"""Options that do not go with `soup`."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of `bertune train`. None stands for the task's own default."""

    checks_limits: ClassVar[bool] = True

    task: str = option(help="what to train for, such as text-classification, or path/to/file.py:Class")
    encoder: str = option(
        help="pretrained encoder to start from: a folder, a checkpoint, a name on the Hugging Face Hub, a "
        "TF-Hub module, or minilm"
    )
    do_lower_case: bool | None = option(None, help="lower-case the text or not (default: as the encoder declares)")
    train: str | list[str] = option(  # noqa: RUF009
        help="training data: files, a folder, or a pattern such as 'parts/*.csv'"
    )
    validation: str | list[str] | None = option(  # noqa: RUF009
        None, help="validation data, in the same forms; the model that does best on it is saved"
    )
    validation_share: float | None = option(
        None,
        help="without --validation: share of the training rows to hold out, stratified by label; 0: none "
        "(default: 0.1)",
    )
    group_column: str | None = option(
        None, help="hold out rows with the same value in this column together (a person, a document)"
    )
    folds: int | None = option(
        None,
        help="N-fold cross-validation: evaluate every row with a model that has not seen it, then train on all rows",
        minimum=2,
    )
    output: str = run_option("output")
    max_seq_length: int | None = option(None, help="longest sequence in tokens, special tokens included", minimum=3)
    batch_size: int | Literal["auto"] | None = option(
        None,
        help="examples per step; auto: the task's default, computed in as many parts as memory requires",
        minimum=1,
    )
    learning_rate: float | None = option(None, help="highest learning rate", above=0)
    epochs: float | None = option(None, help="passes over the training data; fractions are allowed", above=0)
    max_steps: int | None = run_option("max_steps")
    warmup_ratio: float = run_option("warmup_ratio")
    lr_schedule: str | None = option(
        None, help="how the learning rate falls after the warm-up (default: linear)", choices=LR_SCHEDULES
    )
    weight_decay: float = run_option("weight_decay")
    max_grad_norm: float = run_option("max_grad_norm")
    layer_decay: float = option(
        1.0, help="factor between the learning rates of a layer and the one above it; 1: all the same"
    )
    frozen_layers: int | None = option(
        None, help="do not train the embeddings and this many of the lowest layers; 0: only the embeddings", minimum=0
    )
    reinitialize_layers: int = option(0, help="start this many of the highest layers with new weights", minimum=0)
    ema: float | None = option(
        None, help="evaluate and save a moving average of the weights with this decay, such as 0.99; 0: off"
    )
    average_last: int | None = option(
        None, help="evaluate and save the mean of the weights at the last N evaluations, such as 3", minimum=1
    )
    soup: int | Literal["auto"] | None = option(
        None,
        help="make this many runs from the same start and keep the mean of their weights (a model soup), such as 3; "
        "auto: as many as --time-limit has room for",
        minimum=1,
    )
    r_drop: float | None = option(
        None,
        help="R-Drop: weight of the divergence between two passes with different dropout, such as 1 (takes "
        "twice the time); 0: off",
        minimum=0,
    )
    fgm: float | None = option(
        None,
        help="FGM: size of an adversarial step on the word embeddings, such as 0.2 (takes twice the time); 0: off",
        minimum=0,
    )
    freelb: float | None = option(
        None,
        help="FreeLB: largest adversarial change of the word embeddings over several steps, such as 0.2 (takes "
        "--freelb-steps times the time); 0: off",
        minimum=0,
    )
    freelb_steps: int = option(3, help="number of FreeLB steps, one pass each", minimum=1)
    gradient_accumulation: int = run_option("gradient_accumulation")
    activation_checkpointing: bool = run_option("activation_checkpointing")
    patience: int | None = run_option("patience")
    preset: str | None = option(
        None, help="set of options for little time, for most tasks, or for the best model; options that you give take "
"precedence",
        choices=PRESETS,
    )  # fmt: skip
    time_limit: str | None = option(
        None,
        help="time limit for the whole command, such as 90s, 15m or 2h; training is shortened if --epochs do not fit",
    )
    metric: str | None = option(None, help="metric by which the best model is picked")
    seed: int = option(42, help="seed of new weights, data order and dropout", minimum=0)
    seeds: str | None = option(
        None,
        help="train with each of these seeds, such as 1,2,3 or 1-5; report mean and standard deviation, save "
        "the best model",
    )
    restarts: int = option(0, help="if the model collapses, train again with the next seed, at most N times", minimum=0)
    max_skipped: int = run_option("max_skipped")
    calibration: bool = option(
        True,
        help="temperature scaling: fit the scores to the validation rows (at least 50); answers do not change",
    )
    baselines: bool = option(False, help="also report what simple methods achieve on the validation data")
    label_margins: bool = option(
        False,
        help="write margins.csv: for every training row, how far its label was ahead of all others over the epochs",
    )
    track: list[str] | None = option(  # noqa: RUF009
        None,
        help="also log the run to mlflow, wandb or trackio (TensorBoard logs are always written); their "
        "failures never stop the run",
    )
    report: bool = option(True, help="write report.html, report.json and errors.csv into the output folder at the end")
    opinions: bool = option(
        True,
        help="for that report, look for wrong labels also with quick methods, for which the pretrained encoder reads "
        "up to 6,000 rows; without, the report is made faster",
    )
    precision: str = run_option("precision")
    device: str = run_option("device")
    feature_cache: bool = option(True, help="cache the tokens of large files for the next run")
    resume: bool = run_option("resume")
    checkpoint_every: int | None = run_option("checkpoint_every")
    keep_checkpoints: int = run_option("keep_checkpoints")

    def problems(self) -> list[str]:
        """What no run can start with, each option by its flag."""
        found = broken_limits(self)
        if not 0 < self.layer_decay <= 1:
            found.append(f"--layer-decay {self.layer_decay}: must be above 0 and at most 1")
        if self.ema is not None and not 0 <= self.ema < 1:
            found.append(f"--ema {self.ema}: must be at least 0 and below 1, like 0.99")
        if self.ema and self.average_last:
            found.append(f"--ema {self.ema}, --average-last {self.average_last}: one average is kept; leave one out")
        if self.fgm and self.freelb:
            found.append(f"--fgm {self.fgm}, --freelb {self.freelb}: both move the word vectors; leave one out")
        if self.seeds is not None and not self.seed_list:
            found.append(f"--seeds {self.seeds}: at least two different whole numbers are expected, like 1,2,3 or 1-5")
        found += self._soup_problems()
        found += tracker_problems(self.track or ())
        if self.label_margins and (self.seeds is not None or self.folds is not None):
            found.append("--label-margins: is for a single run; leave --seeds and --folds out")
        found += self._fold_problems() if self.folds is not None else self._validation_problems()
        found += self.time_problems()
        return found

    def _soup_problems(self) -> list[str]:
        """What does not go with several runs whose weights are averaged."""
        if self.soup is None:
            return []
        found = []
        if self.soup == "auto" and self.time_limit is None:
            found.append("--soup auto: makes as many runs as --time-limit has room for; name one, or a number of runs")
        if not self.validates and self.folds is None:
            found.append(
                f"--soup {self.soup}: validation data must show that the runs go together; name some with "
                "--validation, or hold some out with --validation-share"
            )
        for name in NOT_WITH_SOUP:
            if value := getattr(self, name):
                flag = f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
                found.append(f"{flag}: does not go with --soup, whose runs are all averaged; leave one out")
        return found

    def time_problems(self) -> list[str]:
        """Why the time limit is none."""
        if self.time_limit is None:
            return []
        try:
            seconds_of(self.time_limit)
        except InputError as error:
            return [str(error)]
        return []

    @property
    def validates(self) -> bool:
        """Whether there is validation data: named, or held out."""
        return self.validation is not None or bool(self.validation_share)

    def _fold_problems(self) -> list[str]:
        """What does not go with cross-validation."""
        found = []
        for name in ("validation", "validation_share"):
            if getattr(self, name):
                flag = "--" + name.replace("_", "-")
                found.append(f"{flag} {getattr(self, name)}: with --folds every row is held out once; leave one out")
        for name in ("patience", "seeds", "baselines", "restarts"):
            if getattr(self, name):
                found.append(
                    f"--{name} {getattr(self, name)}: the folds train as the final model does, on all rows and without "
                    "validation data; leave it or --folds out"
                )
        return found

    def _validation_problems(self) -> list[str]:
        found = []
        share, remedy = self.validation_share, "name some with --validation, or hold some out with --validation-share"
        if share is not None and not 0 <= share < 1:
            found.append(f"--validation-share {share}: must be at least 0 and below 1")
        elif share and self.validation is not None:
            found.append(f"--validation-share {share}: the validation data is named with --validation; leave one out")
        if self.group_column is not None and self.validation is not None:
            found.append(
                f"--group-column {self.group_column}: decides which training rows are held out, but validation data is "
                "named with --validation; leave one out"
            )
        for name in ("seeds", "baselines"):
            if getattr(self, name) and not self.validates:
                found.append(f"--{name}: is about figures on validation data; {remedy}")
        if self.patience is not None and not self.validates:
            found.append(f"--patience {self.patience}: counts evaluations on validation data; {remedy}")
        return found

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The numbers of `seeds`; none where they are not as they must be."""
        seeds: list[int] = []
        for part in (self.seeds or "").split(","):
            found = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part, flags=re.ASCII)
            if found is None:
                return ()
            first, last = int(found[1]), int(found[2] or found[1])
            if not first <= last < first + _MOST_SEEDS:
                return ()
            seeds += range(first, last + 1)
        return tuple(seeds) if len(set(seeds)) == len(seeds) > 1 else ()


def passes_of_update(
    r_drop: float | None, fgm: float | None, freelb: float | None = None, freelb_steps: int | None = None
) -> int:
    """How many forward and backward passes an update makes over its batch with R-Drop, FGM or FreeLB."""
    steps = (freelb_steps or TrainOptions.freelb_steps) if freelb else 1
    return (2 if r_drop else 1) * (2 if fgm else 1) * steps


@dataclass(frozen=True, kw_only=True)
class AdaptOptions:
    """Options of `bertune train` that ask for further pre-training first."""

    adapt: list[str] | None = option(  # noqa: RUF009
        None,
        help="first continue pre-training the encoder on this text, in any form that bertune pretrain reads; "
        "the gain is reported",
    )
    adapt_epochs: float = option(3.0, help="passes over the text of --adapt", above=0)
