"""What the programs of google-research/bert share: their common flags, training, files of results, exit status."""

import logging
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertune.checkpoints.names import Rename
from bertune.cli.logs import start_logging
from bertune.data.features import Batch
from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.google.checkpoints import OutputFolder, load_weights, newest, seed_at, write_text
from bertune.google.stream import Buffered, Rows, Shuffled, Stream
from bertune.model import Making, save_model
from bertune.network import BatchLoss, Network
from bertune.options import DEVICES, PRECISIONS, option
from bertune.precision import choose_device, choose_dtype, fast_float32
from bertune.tasks.task import Task
from bertune.tokenization import Tokenizer
from bertune.training.loop import fit
from bertune.training.optimizer import GOOGLE_ADAMW, AdamW, Schedule
from bertune.training.parts import Parts, Plan, Progress

logger = logging.getLogger(__name__)

DEFAULT_SEED = 42


@dataclass(frozen=True)
class RunFlags:
    """Flags of every program: the original's for TPUs, and ours."""

    use_tpu: bool = option(False, help="accepted; training runs on the device that is here")
    tpu_name: str | None = option(None, help="accepted, without effect")
    tpu_zone: str | None = option(None, help="accepted, without effect")
    gcp_project: str | None = option(None, help="accepted, without effect")
    master: str | None = option(None, help="accepted, without effect")
    num_tpu_cores: int = option(8, help="accepted, without effect")
    iterations_per_loop: int = option(1000, help="accepted, without effect")
    require_tpu: bool = option(False, help="not in the original: fail where --use_tpu cannot be followed")
    seed: int | None = option(None, help=f"not in the original: governs new weights, order and dropout; {DEFAULT_SEED}")
    precision: str = option("fp32", help="not in the original: numbers to compute in", choices=PRECISIONS)
    device: str = option("auto", help="not in the original: where to compute", choices=DEVICES)
    strict_original: bool = option(False, help="not in the original: keep its behaviour where ours is better")


@dataclass(frozen=True)
class TrainFlags:
    """Flags of every training program."""

    output_dir: str = option(help="folder for checkpoints and results; made when absent, never emptied")
    train_batch_size: int = option(32, help="examples an update")
    eval_batch_size: int = option(8, help="examples of an evaluation batch")
    learning_rate: float = option(5e-5, help="highest learning rate")
    save_checkpoints_steps: int = option(1000, help="updates from one checkpoint to the next")
    keep_checkpoint_max: int = option(5, help="not a flag of the original: checkpoints that stay; 0: all")
    gradient_accumulation: int = option(1, help="not in the original: parts that a batch is computed in")

    def problems(self) -> list[str]:
        """What no run can start with."""
        least = {"train_batch_size": 1, "eval_batch_size": 1, "save_checkpoints_steps": 1, "keep_checkpoint_max": 0}
        least |= {"gradient_accumulation": 1}
        found = [
            f"--{name}={getattr(self, name)}: must be at least {low}"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        if not 0 < self.learning_rate < float("inf"):
            found.append(f"--learning_rate={self.learning_rate}: must be above 0")
        path = Path(self.output_dir)
        if path.exists() and not path.is_dir():
            found.append(f"--output_dir {path}: is a file; name a folder")
        return found


@dataclass(frozen=True)
class EpochFlags:
    """How long the fine-tuning programs train."""

    num_train_epochs: float = option(3.0, help="passes over the training data; fractions are allowed")
    warmup_proportion: float = option(0.1, help="share of the updates over which the learning rate rises")

    def problems(self) -> list[str]:
        """What no run can start with."""
        found = []
        if not 0 < self.num_train_epochs < float("inf"):
            found.append(f"--num_train_epochs={self.num_train_epochs}: must be above 0")
        if not 0 <= self.warmup_proportion <= 1:
            found.append(f"--warmup_proportion={self.warmup_proportion}: must lie between 0 and 1")
        return found


@dataclass(frozen=True)
class Setting:
    """Where and how a program computes."""

    device: torch.device
    dtype: torch.dtype
    seed: int
    strict: bool

    def place(self, network: Network, *, sparse: bool = True) -> None:
        """Move a network to the device. sparse: gradients of the word table for the words that occur only."""
        network.to(self.device)
        network.encoder.embeddings.word.sparse = sparse and self.device.type == "cpu"


def set_up(flags: RunFlags) -> Setting:
    """Choose device and numbers, seed what is random, and say what became of TPU flags.

    Raises:
        InputError: `--require_tpu`; a device or precision that is not here.
    """
    device = choose_device(flags.device)
    if flags.require_tpu:
        raise InputError("--require_tpu: bertune runs on CPUs and GPUs; leave the flag out to train on what is here")
    if flags.use_tpu:
        logger.warning("--use_tpu: there is no TPU for PyTorch here; this run computes on %s", device)
    seed = flags.seed
    if seed is None:
        seed = secrets.randbelow(2**31) if flags.strict_original else DEFAULT_SEED
    if seed < 0:
        raise InputError(f"--seed={seed}: must be at least 0")
    torch.manual_seed(seed)
    return Setting(device, choose_dtype(flags.precision, device), seed, flags.strict_original)


@dataclass(frozen=True)
class Training:
    """The numbers of a training phase. steps, warmup: updates."""

    steps: int
    warmup: int
    flags: TrainFlags


def steps_of(examples: int, flags: TrainFlags, epochs: EpochFlags) -> Training:
    """The original's arithmetic: both numbers are cut down to whole ones.

    Raises:
        InputError: not even one step.
    """
    steps = int(examples / flags.train_batch_size * epochs.num_train_epochs)
    if steps < 1:
        raise InputError(
            f"--train_batch_size={flags.train_batch_size}, --num_train_epochs={epochs.num_train_epochs}: {examples} "
            "examples make no whole update; take a smaller batch or more epochs"
        )
    return Training(steps, int(steps * epochs.warmup_proportion), flags)


@dataclass(frozen=True)
class Trainee:
    """What is trained. names: of all its weights, ours and the original's.  make_batch: rows → batch."""

    network: Network
    names: Sequence[Rename]
    sequences: int
    make_batch: Callable[[Rows], Batch]
    loss: BatchLoss


def train(setting: Setting, trainee: Trainee, training: Training) -> int:
    """Train up to the last step, on from the newest checkpoint of the output folder where there is one.

    Returns: the global step.
    """
    flags, network = training.flags, trainee.network
    folder = Path(flags.output_dir)
    prefix = newest(folder)
    step = load_weights(network, trainee.names, prefix) if prefix else 0
    if prefix and step >= training.steps:
        logger.warning("%s is at step %d of %d already: nothing to train", prefix, step, training.steps)
        return step
    optimizer = AdamW(network.named_parameters(), GOOGLE_ADAMW)
    keeper = OutputFolder(folder, network, trainee.names, keep=flags.keep_checkpoint_max, seed=setting.seed)
    progress = Progress()
    if prefix:
        progress = keeper.restore(optimizer, prefix, step)
        logger.info("going on from %s, step %d", prefix, step)
    network.encoder.set_compute_dtype(setting.dtype)
    if not prefix:
        keeper.save_checkpoint(optimizer, progress)
    logger.info("seed %d (the original has none, so its runs differ); --seed takes another", setting.seed)
    stream = _stream(setting, trainee.sequences, flags.train_batch_size, step)

    def make_batch(places: Rows, at: int) -> Batch:
        return trainee.make_batch(stream.rows(at)[places])

    # An epoch of the loop is one batch here: the stream knows the real ones.
    parts = Parts(network, flags.train_batch_size, make_batch, trainee.loss, optimizer, None, keeper)
    plan = Plan(
        steps=training.steps,
        batch_size=flags.train_batch_size,
        accumulation=flags.gradient_accumulation,
        seed=setting.seed,
        schedule=Schedule(flags.learning_rate, training.steps, training.warmup, google=True),
        patience=None,
        metric=None,
        check_every=flags.save_checkpoints_steps,
    )
    logger.info("training: %d steps, %d of them warm-up, on %s", training.steps, training.warmup, setting.device)
    with fast_float32(setting.device):
        progress = fit(parts, plan, progress)
    keeper.close()
    rate = progress.examples / max(progress.seconds, 1e-9)
    logger.info("trained to step %d, %.1f examples/s", progress.step, rate)
    masters = {name: tensor.clone() for name, tensor in optimizer.masters().items()}
    network.encoder.set_compute_dtype(torch.float32)
    network.load_state_dict(masters, strict=False)
    return progress.step


def _stream(setting: Setting, sequences: int, batch_size: int, first: int) -> Stream:
    """The order of training. first: the step that the run begins with."""
    if setting.strict:
        return Buffered(sequences, batch_size, seed_at(setting.seed, first), first)
    logger.info("training data are shuffled as a whole (the original: within 100 records)")
    return Shuffled(sequences, batch_size, setting.seed)


def newest_or_start(network: Network, names: Sequence[Rename], folder: Path) -> int:
    """Load the newest checkpoint of the output folder, where there is one; else the start's weights stay.

    Returns: the global step.
    """
    prefix = newest(folder)
    if prefix is None:
        logger.warning("%s holds no checkpoint: using --init_checkpoint as it is, and new weights for the rest", folder)
        return 0
    logger.info("restoring %s", prefix)
    return load_weights(network, names, prefix)


def write_results(path: Path, results: Mapping[str, object]) -> None:
    """Write `key = value` lines, sorted by key, and show them."""
    lines = [f"{key} = {results[key]!s}" for key in sorted(results)]
    logger.info("***** Eval results *****")
    for line in lines:
        logger.info("  %s", line)
    write_text(path, "".join(f"{line}\n" for line in lines))


def save_beside(
    folder: Path,
    network: Network,
    task: Task[Any],
    text: tuple[Tokenizer, int],
    facts: Mapping[str, Any],
    metrics: Mapping[str, float],
) -> None:
    """Write the trained network as a model folder of bertune, for `bertune predict` and Hugging Face.

    facts: `encoder`, where it started; `train`, the file; `rows`; `flags`.
    """
    path = Path(facts["train"])
    data = {"train": {"file": str(path), "rows": facts["rows"], "sha256": file_sha256(path)}}
    making = Making(str(facts["encoder"]), data, dict(facts["flags"]))
    weights: dict[str, Tensor] = {name: tensor.float().cpu() for name, tensor in network.state_dict().items()}
    save_model(folder, (network.encoder.config, weights), task, text, making, metrics)
    logger.info("%s: the model for `bertune predict --model %s` and transformers", folder, folder)


def make_folder(path: Path) -> None:
    """Make an output folder and those above it.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output_dir {path}: cannot be made ({error.strerror})") from error
    beside = path / "bertune"
    if beside.exists() and not (beside / "bertune.json").is_file() and (beside.is_file() or any(beside.iterdir())):
        raise InputError(f"{beside}: is not a model folder of bertune, which this run would put there; move it away")


def run_program(program: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a program's work. Returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    start_logging()
    try:
        program(list(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the newest checkpoint", file=sys.stderr)
        return 130
    return 0
