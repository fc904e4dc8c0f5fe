"""What the programs of google-research/bert share: their common flags, files of results, exit status."""

import contextlib
import logging
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertune.cli.logs import start_logging
from bertune.data.rows import file_sha256
from bertune.distributed.world import current, is_first_to_tell, is_launched, leave, start
from bertune.encoder.encoder import Encoder
from bertune.errors import FaultError, InputError, Interrupted
from bertune.files.atomic_write import is_disk_fault, unwritable
from bertune.google.checkpoints import write_text
from bertune.google.initial_checkpoint import InitialCheckpoint, head_names, load_initial_weights
from bertune.hardware import choose_device, choose_dtype
from bertune.model.folder import save_model
from bertune.model.provenance import Provenance
from bertune.network import Network
from bertune.options import DEVICES, PRECISIONS, option
from bertune.tasks.protocol import Task
from bertune.tokenization.text_encoding import TextEncoding
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.signals import signals_handled
from bertune.training.run_folder.errors import disk_errors

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
    precision: str = option(
        "fp32", help="not in the original: floating-point format of the computation", choices=PRECISIONS
    )
    device: str = option("auto", help="not in the original: device to compute on", choices=DEVICES)
    strict_original: bool = option(False, help="not in the original: keep its behaviour where ours is better")


@dataclass(frozen=True)
class TrainFlags:
    """Flags of every training program."""

    output_dir: str = option(help="folder for checkpoints and results; made when absent, never emptied")
    train_batch_size: int = option(32, help="examples per update")
    learning_rate: float = option(5e-5, help="highest learning rate")
    save_checkpoints_steps: int = option(1000, help="updates from one checkpoint to the next")
    keep_checkpoint_max: int = option(5, help="not a flag of the original: checkpoints that stay; 0: all")
    gradient_accumulation: int = option(1, help="not in the original: parts that a batch is computed in")

    def problems(self) -> list[str]:
        """What no run can start with."""
        least = {"train_batch_size": 1, "save_checkpoints_steps": 1, "keep_checkpoint_max": 0}
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
class Runtime:
    """Where and how a program computes."""

    device: torch.device
    dtype: torch.dtype
    seed: int
    strict: bool

    def place(self, network: Network, *, sparse: bool = True) -> None:
        """Move a network to the device. sparse: gradients of the word table for the words that occur only."""
        network.to(self.device)
        network.encoder.embeddings.word.sparse = sparse and self.device.type == "cpu"


def set_up(flags: RunFlags) -> Runtime:
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
    seed = current().agree(seed)
    torch.manual_seed(seed)
    return Runtime(device, choose_dtype(flags.precision, device), seed, flags.strict_original)


def build(
    start: InitialCheckpoint, heads: Sequence[str], task: Task[Any], runtime: Runtime, *, sparse: bool = True
) -> Network:
    """A network with the task's head, its weights taken over from the start as far as they are there.

    heads: keys of `google.HEADS`.  sparse: as `Runtime.place` takes it.

    Raises:
        InputError: tensors of another shape; nothing fits.
    """
    network = Network(Encoder(start.config), task.new_head(start.config))
    load_initial_weights(network, start, head_names(start, heads, task), strict=runtime.strict)
    runtime.place(network, sparse=sparse)
    return network


def write_results(path: Path, results: Mapping[str, object]) -> None:
    """Write `key = value` lines, sorted by key, and show them; rank 0 does."""
    if not current().is_first:
        return
    lines = [f"{key} = {results[key]!s}" for key in sorted(results)]
    logger.info("***** Eval results *****")
    for line in lines:
        logger.info("  %s", line)
    write_text(path, "".join(f"{line}\n" for line in lines))


def save_model_folder(
    folder: Path,
    network: Network,
    task: Task[Any],
    text: TextEncoding,
    provenance: Mapping[str, Any],
) -> None:
    """Write the trained network as a model folder of bertune, for `bertune predict` and Hugging Face; rank 0 does.

    provenance: `encoder`, where it started; `train`, the file; `rows`; `flags`.

    Raises:
        FaultError: it cannot be written.
    """
    if not current().is_first:
        return
    path = Path(provenance["train"])
    data = {"train": {"file": str(path), "rows": provenance["rows"], "sha256": file_sha256(path)}}
    made_from = Provenance(str(provenance["encoder"]), data, dict(provenance["flags"]))
    weights: dict[str, Tensor] = {name: tensor.float().cpu() for name, tensor in network.state_dict().items()}
    with disk_errors(folder, 0):
        save_model(folder, (network.encoder.config, weights), task, text, made_from, {})
    logger.info("%s: the model for `bertune predict --model %s` and transformers", folder, folder)


def make_folder(path: Path) -> None:
    """Make an output folder and those above it.

    Raises:
        InputError: it cannot be made.
        FaultError: the disk failed.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(error, f"--output_dir {path}: cannot be made ({error.strerror})") from error
    beside = path / "bertune"
    if beside.exists() and not (beside / "bertune.json").is_file() and (beside.is_file() or any(beside.iterdir())):
        raise InputError(f"{beside}: is not a model folder of bertune, which this run would put there; move it away")


class DoneHere(BaseException):
    """Ends the program on ranks other than 0: they have done their share, and rank 0 does the rest."""


def leave_to_first() -> None:
    """Go on as rank 0 alone.

    Raises:
        DoneHere: on the other ranks.
    """
    if not current().is_first:
        raise DoneHere


def _tell(message: str) -> None:
    if is_first_to_tell():
        print(message, file=sys.stderr, flush=True)


def run_program(
    program: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None, *, shared: bool = True
) -> int:
    """Run a program's work. shared: whether the processes of torchrun may share it.

    Returns: the exit status: 0 done, 2 bad input, 1 a fault of the machine, 130 and 143 interrupted.
    """
    start_logging()
    try:
        if shared:
            start()
        elif is_launched():
            raise InputError("this program computes in one process; start it without torchrun")
        with signals_handled(), contextlib.suppress(DoneHere):
            program(list(sys.argv[1:] if argv is None else argv))
        leave(wait=False)
    except InputError as error:
        _tell(f"error: {error}")
        return 2
    except FaultError as error:
        _tell(f"error: {error}")
        return 1
    except Interrupted as error:
        _tell(str(error))
        return error.status
    except OSError as error:
        if not is_disk_fault(error):
            raise
        _tell(f"error: {error.filename or 'files'}: cannot be written or read ({error.strerror})")
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _tell(f"error: no memory left ({error}); take a smaller batch or --gradient_accumulation=2")
        return 1
    return 0
