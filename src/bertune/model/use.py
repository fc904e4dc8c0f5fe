"""A fine-tuned model: encoder, head and task; saved, loaded, asked."""

import copy
import hashlib
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bertune.argument_names import python_call
from bertune.checkpoints import huggingface
from bertune.checkpoints.names import to_ours
from bertune.data import in_memory
from bertune.data.rows import file_sha256
from bertune.distributed.world import current
from bertune.encoder import int8
from bertune.encoder.encoder import Encoder
from bertune.encoder.float32_route import fast_float32, pack_for_prediction
from bertune.errors import InputError, Problems
from bertune.features import Features
from bertune.files.atomic_write import SAVED
from bertune.files.json_files import read_json
from bertune.hardware import choose_device, choose_dtype, leaves_host_free, prepare_process
from bertune.inference.evaluation import infer, record_forwards
from bertune.model.agreement import Agreement
from bertune.model.calibration import at_temperatures, loss_of, temperatures_of
from bertune.model.folder import network_names
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.predicting import label_names, predict, predict_examples
from bertune.model.predictions import Predictions
from bertune.model.presence import MODEL_FILE, require_model
from bertune.model.record import read_record
from bertune.network import Network, batch_loss
from bertune.option_values import whole_number
from bertune.progress import progress_bar
from bertune.tasks.feature_cache import featurized
from bertune.tasks.labelled import read_hashed, read_labelled
from bertune.tasks.protocol import FillsMasks, Logits, Prediction, Task
from bertune.tasks.user_files import task_file_of
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

CHECKED = 64
"""Sequences on which 8-bit products are checked."""
LEAST_AGREEMENT = 0.95
"""Share of equal answers below which they are not used."""


@dataclass
class Model:
    """A network with what it takes to use it: its task, its tokenizer, its length."""

    network: Network
    task: Task[Any]
    tokenizer: Tokenizer
    max_seq_length: int
    record: Mapping[str, Any]
    """What bertune.json says of the model's making."""
    reference: Network | None = None
    """The same network before its products were turned into 8 bits; the first answers are checked against it."""
    keeps_checking: bool = False
    """Whether the check goes on until it has seen CHECKED sequences, for a service, whose first call is of one item."""
    checked: Agreement = field(default_factory=Agreement)
    """What the checks have found so far."""

    @python_call
    def predict(self, items: Iterable[Any] | Path, *, batch_size: int = 256) -> Predictions:
        """Answers to texts, pairs of texts, or whatever the task takes; one each, in order.

        Args:
            items: for text classification strings or pairs of strings, from any iterable; or a table (a frame of
                pandas or polars, an Arrow table, a Dataset, a mapping of columns), read as a file of these columns is;
                or the path of a file, as a `Path`.
            batch_size: largest number of sequences in a batch.

        Raises:
            InputError: an item that the task cannot take.
        """
        return predict(self, items, batch_size=batch_size)

    def predict_examples(self, examples: Iterable[Any], *, batch_size: int = 256) -> Generator[Prediction, None, None]:
        """Answers as a stream, in order, in constant memory."""
        return predict_examples(self, examples, batch_size=batch_size)

    def compute_logits(self, features: Features, *, batch_size: int = 256) -> Logits:
        """One array a sequence, in the features' order. Shape: (outputs,) or (tokens, outputs) each, float32."""
        batch_size = whole_number("compute_logits: batch_size", batch_size)
        with fast_float32(self.network.device):
            self.check_int8(features)
            return infer(self.network, features, batch_size=batch_size).logits

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the logits, as in config.json's `id2label`; empty for a task without labels.

        For entities these are the tags (`B-PERSON`, …).
        """
        return label_names(self.task)

    @property
    def precision(self) -> str:
        """The numbers that the encoder's matrices are computed in."""
        return str(self.network.encoder.compute_dtype).removeprefix("torch.")

    @property
    def version(self) -> str:
        """First 12 digits of the weights' SHA-256, as the model folder has it; else of its parameters."""
        recorded = self.record.get("weights_sha256")
        if isinstance(recorded, str):
            return recorded[:12]
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    @property
    def host_is_free(self) -> bool:
        """Whether the CPU has time for other things while the device computes."""
        return leaves_host_free(self.network.device)

    def check_int8(self, features: Features) -> None:
        """With 8-bit products, compare the first sequences' answers with those in full; on disagreement go back."""
        if self.reference is None or not len(features):
            return
        some = features.first(CHECKED - self.checked.sequences)
        self.checked.add(infer(self.network, some).logits, infer(self.reference, some).logits)
        complete = not self.keeps_checking or self.checked.sequences >= CHECKED
        if self.checked.disagreeing > (1 - LEAST_AGREEMENT) * (self.checked.sequences if complete else CHECKED):
            logger.warning("int8: %s; going back to full products", self.checked)
            self.network, self.reference = self.reference, None
        elif complete:
            logger.info("int8: %s", self.checked)
            self.reference = None

    @python_call
    def fill_mask(self, text: str, *, top_k: int = 5) -> list[Prediction]:
        """The best words for every [MASK] in a text, for a model of `bertune pretrain`.

        Returns: `{"mask", "token", "score", "text"}` each: which mask, from 0, then a word for it, best first, its
        probability, and the text with the word in that mask's place.

        Raises:
            InputError: a text without [MASK], a model for another task, an impossible `top_k`.
        """
        if not isinstance(self.task, FillsMasks):
            raise InputError(f"fill_mask: this model's task is {self.task.name}; it takes one of `bertune pretrain`")
        top_k = whole_number("fill_mask: top_k", top_k)
        task = self.task.with_options(replace(self.task.options, top_k=top_k))
        return self.task.candidates(text, replace(self, task=task).predict([text])[0])

    @python_call
    def evaluate(self, path: object, *, batch_size: int = 256, feature_cache: bool = True) -> dict[str, float]:
        """Metrics on labelled data, its mean loss and `examples_per_second` among them; as `evaluation` finds them.

        Raises:
            InputError: unreadable data, or labels that the model does not know.
        """
        return self.evaluation(path, batch_size=batch_size, feature_cache=feature_cache).metrics

    @python_call
    def evaluation(self, path: object, *, batch_size: int = 256, feature_cache: bool = True) -> "Evaluated":
        """Metrics on labelled data, and what they depend on.

        Args:
            path: the file of the data; or a table in memory, as for `predict`.
            batch_size: largest number of sequences in a batch.
            feature_cache: keep the tokens of a large file for the next time.

        Raises:
            InputError: unreadable data, or labels that the model does not know.
        """
        batch_size = whole_number("evaluate: batch_size", batch_size)
        if not isinstance(path, str | Path):
            with in_memory.as_file(in_memory.labelled_table(path, "evaluate")) as file:
                return self.evaluation(file, batch_size=batch_size, feature_cache=False)
        path = Path(path)
        source, examples = read_hashed(self.task, path) if feature_cache else (None, read_labelled(self.task, path))
        problems = Problems()
        problems.extend(self.task.problems(examples, path))
        problems.raise_if_any()
        check_pairs(trained_on_pairs(self.record), examples, path)
        text = TextEncoding(self.tokenizer, self.max_seq_length)
        features = featurized(self.task, examples, text, purpose="evaluate", source=source)
        self.check_int8(features)
        return evaluate(self.network, self.task, features, examples, batch_size=batch_size)


class Evaluated(NamedTuple):
    """What evaluating a model found.

    task: as these examples tuned it, where that was asked for.
    settings: what the metrics depend on besides the answers, by name (`Task.metric_settings`).
    logits: divided by `temperatures`, where there are any, and so are the metrics'.
    """

    metrics: dict[str, float]
    task: Task[Any]
    logits: Logits
    settings: Mapping[str, str]
    temperatures: tuple[float, ...] = ()


def evaluate(
    network: Network,
    task: Task[Any],
    features: Features,
    examples: Sequence[Any],
    *,
    batch_size: int = 256,
    tune: bool = False,
    calibrate: bool = False,
) -> Evaluated:
    """A task's metrics, mean loss and speed on featurized examples.

    tune: let the task tune its thresholds on these examples first.
    calibrate: before that, fit temperatures to them, where the task can; the logits are then divided by these.
    """
    with progress_bar("evaluating", len(features)) as bar, fast_float32(network.device):
        result = infer(
            network, features, batch_size=batch_size, loss=batch_loss(task.loss), advance=bar.advance, world=current()
        )
    logits: Logits = result.logits
    loss = result.loss
    temperatures = temperatures_of(task, logits, features, examples, tune=tune) if calibrate else None
    if temperatures is not None and (temperatures != 1).any():
        logits = at_temperatures(logits, temperatures)
        loss = loss_of(task, logits, features)
    used = task.tuned(logits, features, examples) if tune else task
    metrics = used.metrics(logits, features, examples)
    if loss is not None:
        metrics["loss"] = loss
    metrics["examples_per_second"] = len(examples) / max(result.seconds, 1e-9)
    tempered = () if temperatures is None else tuple(temperatures.tolist())
    return Evaluated(metrics, used, logits, used.metric_settings(examples), tempered)


@python_call
def load(
    folder: str | Path, *, device: str = "auto", precision: str = "auto", trust_task_file: str | Path | None = None
) -> Model:
    """A model that `bertune train` left in a folder.

    Args:
        folder: the run's output folder.
        device: auto, cpu, cuda or mps.
        precision: auto, bf16, fp16, fp32, or int8 (8-bit products on CPUs that have them).
        trust_task_file: the file that the model's task was read from (`--task FILE.py:Class`); its code is run.

    Raises:
        InputError: no model there, or one that is incomplete or damaged.
    """
    folder = Path(folder)
    described = _record_of_weights(folder)
    if not described.is_file():
        require_model(folder)
    record, task, max_seq_length = read_record(described, trust_task_file)
    found = huggingface.read_huggingface(folder)
    positions = found.config.max_position_embeddings
    if not 1 <= max_seq_length <= positions:
        raise InputError(
            f"{folder / 'bertune.json'}: max_seq_length {max_seq_length}; must lie between 1 and {positions}"
        )
    with torch.device("meta"):
        network = Network(Encoder(found.config), task.new_head(found.config))
    names = network_names(task, found.config, stored=False)
    state, _, _ = to_ours(names, found.tensors)
    problems = Problems()
    theirs = {name.ours: name.theirs for name in names}
    absent = [their for ours in network.state_dict() if ours not in state for their in theirs[ours]]
    problems.extend(f"{folder / 'model.safetensors'}: the tensor {name!r} is missing" for name in absent)
    problems.extend(
        f"{folder / 'model.safetensors'}: {name} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in network.state_dict().items()
        if name in state and state[name].shape != tensor.shape
    )
    problems.raise_if_any()
    _check_hash(folder / "model.safetensors", record)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    target = choose_device(device)
    prepare_process(target)
    network.encoder.set_compute_dtype(choose_dtype("auto" if precision == "int8" else precision, target))
    network.to(target).eval()
    model = Model(network, task, Tokenizer.from_folder(folder), max_seq_length, record)
    if precision == "int8" and _takes_int8(network, target):
        model.reference = copy.deepcopy(network)
        int8.quantize(network.encoder, target)
    elif target.type == "cpu":
        pack_for_prediction(network.encoder, target)
    elif task_file_of(task) is None:  # what Python decides in a user's head, a recording would decide once for all
        record_forwards(network)
    return model


def _takes_int8(network: Network, device: torch.device) -> bool:
    """Whether `--precision int8` computes in 8 bits; said where it does not, or does without VNNI."""
    if device.type != "cpu" or int8.has_dot_products() or not int8.supported():
        return True  # where it cannot, `int8.quantize` says why
    full = str(network.encoder.compute_dtype).removeprefix("torch.")
    if int8.is_faster(network.encoder.compute_dtype):
        logger.info("--precision int8: this CPU has no 8-bit dot products (VNNI), but 8 bits are faster than %s", full)
        return True
    logger.warning(
        "--precision int8: this CPU has no 8-bit dot products (VNNI), and 8 bits are not faster; predicting in %s", full
    )
    return False


def _record_of_weights(folder: Path) -> Path:
    """bertune.json; where saving was cut off behind the weights, the one that was still to be moved."""
    waiting, weights = folder / SAVED / MODEL_FILE, folder / "model.safetensors"
    if waiting.is_file() and weights.is_file():
        record = read_json(waiting)
        if record.get("weights_sha256") == file_sha256(weights):
            return waiting
    return folder / MODEL_FILE


def _check_hash(weights: Path, record: Mapping[str, Any]) -> None:
    expected = record.get("weights_sha256")
    if expected is not None and (found := file_sha256(weights)) != expected:
        raise InputError(
            f"{weights}: its SHA-256 is {found}, but bertune.json says {expected}; the file was damaged or replaced "
            "(to use other weights on purpose, remove weights_sha256 from bertune.json)"
        )
