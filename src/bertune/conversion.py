"""An encoder from any source, written in another layout; a fine-tuned checkpoint as a model folder."""

import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bertune.checkpoints import google, huggingface
from bertune.checkpoints.families import family_of
from bertune.checkpoints.google_config import config_from_bert_json, config_to_bert_json
from bertune.checkpoints.names import Rename, to_ours, to_theirs
from bertune.checkpoints.source import (
    NO_OPTIONS,
    Checkpoint,
    LoadReport,
    SourceOptions,
    build_encoder,
    open_checkpoint,
)
from bertune.encoder.encoder import Encoder
from bertune.encoder.initialisation import initialise
from bertune.encoder.layout import Layout
from bertune.errors import InputError, Problems
from bertune.files.outputs import link_to_nothing
from bertune.tasks.protocol import Task
from bertune.tokenization.text_encoding import TextEncoding

logger = logging.getLogger(__name__)

_COMPARED = (8, 64)
"""Sequences and their length on which two encoders are compared."""
_GOOGLE_HEADS = {
    "ForSequenceClassification": ("text-classification",),
    "ForQuestionAnswering": ("question-answering",),
    "ForMaskedLM": ("masked-lm",),
    "ForPreTraining": ("masked-lm", "next-sentence"),
}
"""Google's heads for what our tasks are called in Hugging Face's architectures."""


def convert(source: str, folder: Path, *, layout: str = "huggingface", options: SourceOptions = NO_OPTIONS) -> None:
    """Write the encoder of `source` and its vocabulary into a new folder; written beside and renamed.

    Args:
        source: as for `open_encoder`.
        folder: must not exist, or be empty.
        layout: `huggingface` (config.json, model.safetensors, tokenizer files) or `google` (bert_model.ckpt,
            bert_config.json, vocab.txt).
        options: what the source does not say itself.

    Raises:
        InputError: an unreadable source, or a folder that holds something.
    """
    _check_new(folder)
    with open_checkpoint(source, options=options) as checkpoint:
        encoder, report = build_encoder(checkpoint)
        logger.info("%s", report)
        config = encoder.config
        state = {name: tensor for name, tensor in encoder.state_dict().items() if name not in report.new}
        if layout == "google" and not config.is_bert:
            raise InputError(f"--format google: holds BERT's wiring alone, and {source} is of family {config.family}")
        with _staged(folder) as target:
            if layout == "google":
                _log_losses(encoder)
                tokens = checkpoint.tokenizer.tokens(range(checkpoint.tokenizer.vocab_size))
                google.write_google_checkpoint(target, config, state, tokens)
            else:
                architectures = [f"{family_of(config.family).classes}Model"]
                settings = huggingface.config_to_json(config) | {"architectures": architectures}
                tensors = to_theirs(huggingface.stored_names(config, [], "Model")[0], state)
                huggingface.write_huggingface(target, settings, tensors)
                checkpoint.tokenizer.save(target, max_length=config.max_position_embeddings)
    logger.info("%s: written", folder)


def _log_losses(encoder: Encoder) -> None:
    """Warn, with the measured difference, where `bert_config.json` cannot say what the encoder computes."""
    config = encoder.config
    read_back = config_from_bert_json(config_to_bert_json(config), "--format google")
    lost = [
        f"{name} {getattr(config, name)} becomes {getattr(read_back, name)}"
        for name in ("hidden_act", "layer_norm_eps")
        if getattr(config, name) != getattr(read_back, name)
    ]
    if not lost:
        return
    other = Encoder(
        dataclasses.replace(config, hidden_act=read_back.hidden_act, layer_norm_eps=read_back.layer_norm_eps)
    )
    other.load_state_dict(encoder.state_dict())
    length = min(_COMPARED[1], config.max_position_embeddings)
    ids = torch.randint(config.vocab_size, (_COMPARED[0] * length,), generator=torch.Generator().manual_seed(0))
    positions = torch.arange(length).repeat(_COMPARED[0])
    layout = Layout.packed([length] * _COMPARED[0])
    with torch.no_grad():
        ours, theirs = (
            one.eval()(ids, torch.zeros_like(ids), positions, layout).sequence_output for one in (encoder, other)
        )
    logger.warning(
        "bert_config.json cannot express this encoder exactly: %s. On %d sequences of %d random word pieces the last "
        "layer's outputs differ "
        "by up to %.1e, on average by %.1e; they are %.1e on average. --format huggingface keeps everything",
        " and ".join(lost),
        _COMPARED[0],
        length,
        (ours - theirs).abs().max(),
        (ours - theirs).abs().mean(),
        ours.abs().mean(),
    )


@dataclasses.dataclass(frozen=True)
class Finetuned:
    """What a fine-tuned checkpoint does not say of itself.

    task: its task, with the options that predictions shall obey.
    labels: names of the classes in the order of the logits; none: as the checkpoint tells.
    unanswerable: question answering: "" may be an answer (SQuAD 2.0).
    max_seq_length: longest sequence; None: the task's usual one.
    """

    task: Task[Any]
    labels: Sequence[str] = ()
    unanswerable: bool = False
    max_seq_length: int | None = None


def convert_finetuned(source: str, folder: Path, finetuned: Finetuned, *, options: SourceOptions = NO_OPTIONS) -> None:
    """Write a fine-tuned checkpoint, head included, as a model folder that predicts, evaluates and trains on.

    Args:
        source: a checkpoint of google-research/bert as run_classifier or run_squad leaves it, or a Hugging Face model.
        folder: must not exist, or be empty.
        finetuned: task and labels.
        options: what the source does not say itself.

    Raises:
        InputError: an unreadable source, no head of this task in it, labels that do not fit the head.
    """
    from bertune.model.folder import save_model
    from bertune.model.provenance import Provenance

    _check_new(folder)
    with open_checkpoint(source, options=options) as checkpoint:
        encoder, report = build_encoder(checkpoint)
        logger.info("%s", report)
        _check_problem_type(finetuned.task, checkpoint)
        task = _task_of(finetuned, checkpoint, encoder.embeddings.word.weight)
        head = _head(task, checkpoint, encoder.config)
        if report.new:
            _complete(encoder, report, task, source)
        length = finetuned.max_seq_length or min(task.defaults.max_seq_length, encoder.config.max_position_embeddings)
        if not 1 <= length <= encoder.config.max_position_embeddings:
            positions = encoder.config.max_position_embeddings
            raise InputError(f"--max-seq-length {length}: {source} has {positions} positions")
        weights = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        weights |= {f"head.{name}": tensor for name, tensor in head.items()}
        provenance = Provenance(source, {}, {"converted": True, "task": task.name, "max_seq_length": length})
        with _staged(folder) as target:
            save_model(
                target, (encoder.config, weights), task, TextEncoding(checkpoint.tokenizer, length), provenance, {}
            )
    logger.info("%s: written; bertune predict --model %s --input FILE", folder, folder)


_WITHOUT_POOLER = ("ForTokenClassification", "ForQuestionAnswering", "ForMaskedLM")
"""Heads on single tokens, whose models transformers saves without the pooler."""


def _complete(encoder: Encoder, report: LoadReport, task: Task[Any], source: str) -> None:
    """Draw a pooler that the head does not use, for the folder to be whole; the same one every time.

    Raises:
        InputError: something that the head does use is missing.
    """
    unused = all(name.startswith("pooler.") for name in report.new) and not encoder.config.pooler_norm
    if not unused or task.huggingface().architecture not in _WITHOUT_POOLER:
        raise InputError(f"{source}: a fine-tuned model needs {', '.join(report.new)}, which it lacks")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        initialise(encoder.pooler, encoder.config.initializer_range)


_PROBLEMS = {
    "multi_label_classification": ("multi-label-classification",),
    "regression": ("regression", "stsb"),
}
"""`problem_type` in config.json and the tasks that answer as such a model does."""


def _check_problem_type(task: Task[Any], checkpoint: Checkpoint) -> None:
    """Refuse a classifier's head under a task that would read its outputs as something else."""
    said = checkpoint.settings.get("problem_type")
    if task.huggingface().architecture != "ForSequenceClassification" or said is None:
        return
    fitting = _PROBLEMS.get(str(said), ())
    others = {name for names in _PROBLEMS.values() for name in names}
    if (fitting and task.name not in fitting) or (not fitting and task.name in others):
        instead = fitting[0] if fitting else "text-classification"
        raise InputError(
            f"--task {task.name}: {checkpoint.source} was trained with problem_type {said!r}; use --task {instead}"
        )


def _task_of(finetuned: Finetuned, checkpoint: Checkpoint, words: torch.Tensor) -> Task[Any]:
    """The task as if it had learnt what the user, or else the checkpoint, says."""
    from bertune.tasks.shared.huggingface import labels_of

    state = finetuned.task.to_json()
    if "labels" in state:
        labels = tuple(finetuned.labels) or labels_of(checkpoint.settings)
        if not labels:
            raise InputError(
                f"--labels: {checkpoint.source} does not tell its classes; name them in the order of the logits, "
                "as in --labels no,yes"
            )
        if len(set(labels)) != len(labels):
            raise InputError(f"--labels {','.join(labels)}: names a class twice")
        state["labels"] = list(labels)
        if "thresholds" in state:  # transformers' pipelines know one threshold for all
            state["thresholds"] = [0.5] * len(labels)
    elif finetuned.labels:
        raise InputError(f"--labels: task {finetuned.task.name} has no labels")
    if "next_sentence" in state:
        state["next_sentence"] = "next-sentence" in checkpoint.heads
        state["own_vectors"] = _has_own_vectors(checkpoint, words)
    if "has_unanswerable" in state:
        state["has_unanswerable"] = finetuned.unanswerable
    elif finetuned.unanswerable:
        raise InputError(f"--unanswerable: task {finetuned.task.name} always answers")
    return finetuned.task.restored(state)


def _has_own_vectors(checkpoint: Checkpoint, words: torch.Tensor) -> bool:
    """Whether a head for masked words has vectors that are not the encoder's; words: the encoder's."""
    decoder = checkpoint.tensors.get("cls.predictions.decoder.weight")
    tied = checkpoint.settings.get("tie_word_embeddings")
    if decoder is None or tied:
        return False
    return tied is False or not torch.equal(decoder.float(), words)


def _head(task: Task[Any], checkpoint: Checkpoint, config: Any) -> dict[str, torch.Tensor]:
    """The head's tensors by our names.

    Raises:
        InputError: not there, or of another shape than the task's head.
    """
    said = task.huggingface()
    names: list[Rename] = said.names
    if checkpoint.dialect != "Hugging Face":
        lines = [line for kind in _GOOGLE_HEADS.get(said.architecture, ()) for line in google.HEADS[kind]]
        names = [dataclasses.replace(line, ours=line.ours.removeprefix("head.")) for line in lines]
    tensors = dict(checkpoint.tensors)
    beside = tensors.get("cls.predictions.decoder.bias")  # the same vector under its other name
    if beside is not None:
        tensors.setdefault("cls.predictions.bias", beside)
    state, _, _ = to_ours(names, tensors)
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in task.new_head(config).state_dict().items()}
    if not state.keys() >= wanted.keys():
        found = ", ".join(checkpoint.heads) or "none"
        raise InputError(
            f"{checkpoint.source}: holds no head for --task {task.name} (heads found: {found}); leave --task away to "
            "convert the encoder alone"
        )
    problems = Problems()
    for name, shape in wanted.items():
        found_shape = tuple(state[name].shape)
        if found_shape != shape:
            problems.add(
                f"{checkpoint.source}: the head's {name} has shape {found_shape}, but the task needs {shape}; "
                "are there as many --labels as classes?"
            )
    problems.raise_if_any()
    return {name: state[name].float() for name in wanted}


def _check_new(folder: Path) -> None:
    if broken := link_to_nothing(folder):
        raise InputError(broken)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {folder}: exists and is not empty; name a new folder")


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes `folder`'s place once all is written, and vanishes when something fails."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    beside.chmod(0o755)
    try:
        yield beside
        if folder.exists():
            folder.rmdir()
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
