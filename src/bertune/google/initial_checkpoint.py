"""Where a program of google-research/bert starts: config, vocabulary, and the variables of `--init_checkpoint`."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.checkpoints import google
from bertune.checkpoints.google_config import read_bert_config
from bertune.checkpoints.names import Rename, for_layers, to_ours
from bertune.checkpoints.source import SourceError, open_checkpoint
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.network import Network
from bertune.options import option
from bertune.tasks.protocol import Task
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.tokenization.casing import casing_from_names
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

_UNCASED = ("uncased_L-24_H-1024_A-16", "uncased_L-12_H-768_A-12", "multilingual_L-12_H-768_A-12")
_LOWER = (*_UNCASED, "chinese_L-12_H-768_A-12")
_CASED = ("cased_L-12_H-768_A-12", "cased_L-24_H-1024_A-16", "multi_cased_L-12_H-768_A-12")


@dataclass(frozen=True)
class ModelFlags:
    """Which model: run_classifier's and run_squad's flags."""

    bert_config_file: str = option(help="bert_config.json of the checkpoint: its sizes")
    vocab_file: str = option(help="vocab.txt of the checkpoint")
    init_checkpoint: str | None = option(
        None, help="where the weights start: a checkpoint's prefix, or anything that bertune calls an encoder"
    )
    do_lower_case: bool = option(True, help="lower-case the text; true for uncased checkpoints, false for cased ones")


@dataclass(frozen=True)
class InitialCheckpoint:
    """An encoder to start from.

    source: what was named, or that nothing was.
    tensors: under their foreign names; none for new weights.
    names: how to read the encoder's.
    settings: of a Hugging Face folder.
    is_google: whether heads too go by the original's names.
    """

    source: str
    config: EncoderConfig
    tokenizer: Tokenizer | None
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    names: Sequence[Rename] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_google: bool = True

    @property
    def words(self) -> Tokenizer:
        """The tokenizer, where the program needs one."""
        if self.tokenizer is None:
            raise InputError(f"{self.source}: has no vocabulary; name one with --vocab_file")
        return self.tokenizer


def implied_by_source(provided: Mapping[str, Any]) -> set[str]:
    """Flags that need not be given because the named source brings config and vocabulary itself."""
    source = provided.get("init_checkpoint")
    return set() if source is None or _is_bare(source) else {"bert_config_file", "vocab_file"}


def _is_bare(source: str) -> bool:
    """Whether a source is a TensorFlow checkpoint, there or not, for which config and vocabulary must be named."""
    path = Path(source).expanduser()
    return google.is_google_checkpoint(path) or (".ckpt" in path.name and not path.exists())


def open_initial_checkpoint(flags: ModelFlags, *, strict: bool, with_vocabulary: bool = True) -> InitialCheckpoint:
    """Read what a program starts from.

    Args:
        flags: config, vocabulary and checkpoint.
        strict: as the original: a checkpoint of which nothing fits is no error.
        with_vocabulary: read the vocabulary, and check the casing.

    Raises:
        InputError: something is missing, damaged, or does not fit.
    """
    problems = Problems()
    files = {"bert_config_file": flags.bert_config_file, "vocab_file": flags.vocab_file if with_vocabulary else ""}
    for name, value in files.items():
        if value and not Path(value).is_file():
            problems.add(f"--{name} {value}: no such file; it lies beside the checkpoint in Google's archives")
    if with_vocabulary:
        problems.extend(casing_problems(flags.init_checkpoint, flags.do_lower_case))
    problems.raise_if_any()
    words = None
    if files["vocab_file"]:
        words = Tokenizer.from_vocab(Path(flags.vocab_file), do_lower_case=flags.do_lower_case)
    config = read_bert_config(Path(flags.bert_config_file)) if flags.bert_config_file else None
    source = flags.init_checkpoint
    if source is None:
        if config is None:
            raise InputError("--bert_config_file: must be given where there is no --init_checkpoint")
        logger.warning("no --init_checkpoint: all weights are new")
        start = InitialCheckpoint("new weights", config, words)
    else:
        try:
            if config is not None and _is_bare(source):
                start = _open_google(source, config, words, flags, strict)
            else:
                start = _open_source(source, config, words)
        except InputError as error:
            if "--bert_config_file" in str(error):
                raise
            text = error.text if isinstance(error, SourceError) else str(error)
            raise InputError(f"--init_checkpoint {text}") from error
    named = f"--vocab_file {files['vocab_file']}" if words is not None else start.source
    own = start.tokenizer.do_lower_case if start.tokenizer is not None and words is None else None
    if with_vocabulary and own is not None and own != flags.do_lower_case:
        logger.warning(
            "--do_lower_case=%s is not used: %s brings its own vocabulary, which %s",
            flags.do_lower_case,
            named,
            "lower-cases" if own else "keeps capitals",
        )
    if start.tokenizer is not None and start.tokenizer.vocab_size > start.config.vocab_size:
        raise InputError(
            f"{named}: has {start.tokenizer.vocab_size} entries, but the model's vocab_size is "
            f"{start.config.vocab_size}; take the vocabulary of this checkpoint"
        )
    return start


def check_positions(max_seq_length: int, config: EncoderConfig) -> None:
    """The original's check of the length against the model's positions.

    Raises:
        InputError: it is longer.
    """
    if max_seq_length > config.max_position_embeddings:
        raise InputError(
            f"--max_seq_length={max_seq_length}: the model has only {config.max_position_embeddings} positions; "
            "take at most that"
        )


def casing_problems(checkpoint: str | None, lower: bool) -> list[str]:
    """The original's check of do_lower_case against the names of its first checkpoints; later names only warn."""
    match = re.match(r"^.*?([A-Za-z0-9_-]+)/bert_model\.ckpt", checkpoint or "")
    if match is None:
        return []
    name = match[1]
    known = True if name in _LOWER else False if name in _CASED else None
    if known is not None and known != lower:
        kind = "lower-cased" if known else "cased"
        return [f"--do_lower_case={lower}: {name} is a {kind} checkpoint; pass --do_lower_case={known}"]
    guessed = casing_from_names([name]).lower
    if known is None and guessed is not None and guessed != lower:
        logger.warning("--do_lower_case=%s, but %s sounds like a checkpoint for %s", lower, name, guessed)
    return []


def _open_google(
    source: str, config: EncoderConfig, words: Tokenizer | None, flags: ModelFlags, strict: bool
) -> InitialCheckpoint:
    """A checkpoint's variables under the original's names, as many as there are."""
    prefix = google.find_checkpoint(Path(source).expanduser())
    bundle = TensorBundle(prefix)
    names = for_layers(google.ENCODER, config.num_hidden_layers)
    if not any(name.startswith("bert/") for name in bundle.names()) and not strict:
        # Checkpoints of the Model Garden have other names, which this reads; anything else it refuses.
        vocab = Path(flags.vocab_file) if flags.vocab_file else None
        found = google.read_google_checkpoint(prefix, config_file=Path(flags.bert_config_file), vocab_file=vocab)
        return InitialCheckpoint(source, config, words, found.tensors, names)
    heads = [line for lines in google.HEADS.values() for line in lines]
    wanted = {name for line in [*names, *heads] for name in line.theirs}
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(bundle.read(name), np.float32))
        for name in bundle.names()
        if name in wanted
    }
    return InitialCheckpoint(source, config, words, tensors, names)


def _open_source(source: str, config: EncoderConfig | None, words: Tokenizer | None) -> InitialCheckpoint:
    """Any other source; it brings its own config, which a --bert_config_file must not contradict."""
    with open_checkpoint(source) as checkpoint:
        if config is not None:
            sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
            problems = Problems()
            problems.extend(
                f"--bert_config_file: {size} is {getattr(config, size)}, but {source} has "
                f"{getattr(checkpoint.config, size)}"
                for size in sizes
                if getattr(config, size) != getattr(checkpoint.config, size)
            )
            problems.raise_if_any()
        return InitialCheckpoint(
            source,
            checkpoint.config,
            checkpoint.tokenizer if words is None else words,
            checkpoint.tensors,
            checkpoint.names,
            checkpoint.settings,
            checkpoint.dialect != "Hugging Face",
        )


def google_names(config: EncoderConfig, head: Sequence[str]) -> list[Rename]:
    """Names of a network's weights, ours and the original's. head: keys of `google.HEADS`."""
    encoder = for_layers(google.ENCODER, config.num_hidden_layers)
    return [*(replace(line, ours=f"encoder.{line.ours}", optional=False) for line in encoder), *_heads(head)]


def _heads(heads: Sequence[str]) -> list[Rename]:
    """Names of heads within a network."""
    lines = [line for name in heads for line in google.HEADS[name]]
    return [replace(line, ours=f"head.{line.ours.removeprefix('head.')}") for line in lines]


def head_names(start: InitialCheckpoint, heads: Sequence[str], task: Task[Any] | None) -> list[Rename]:
    """How to read a network's head from a start that has one for this very task."""
    if start.is_google:
        return _heads(heads)
    if task is None or not task.keeps_head(start.settings):
        return []
    names = for_layers(task.huggingface().names, start.config.num_hidden_layers)
    return [replace(line, ours=f"head.{line.ours}") for line in names]


def load_initial_weights(network: Network, start: InitialCheckpoint, head: Sequence[Rename], *, strict: bool) -> None:
    """Load what the start has for the network; the rest stays new, which the log says.

    Raises:
        InputError: a tensor of another shape; or nothing fits, unless `strict`.
    """
    if not start.tensors and start.source == "new weights":
        return
    encoder = [replace(line, ours=f"encoder.{line.ours}") for line in start.names]
    state, _, _ = to_ours([*encoder, *head], start.tensors)
    check_shapes(network, state, {line.ours: line.theirs for line in [*encoder, *head]}, start.source)
    loaded = [name for name in state if name.startswith("encoder.")]
    if not loaded:
        text = f"--init_checkpoint {start.source}: holds none of the encoder's variables; is it a BERT checkpoint?"
        if not strict:
            raise InputError(text)
        logger.warning("%s The original goes on with new weights, and so does this run", text)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    new = [name for name in network.state_dict() if name not in state]
    shown = ", ".join(new[:8]) + (f" and {len(new) - 8} more" if len(new) > 8 else "")
    logger.info("%d tensors *INIT_FROM_CKPT* %s%s", len(state), start.source, f"; new: {shown}" if new else "")
    lost = [name for name in new if name.startswith("encoder.") and not name.startswith("encoder.pooler")]
    if lost and loaded:
        logger.warning("%s lacks %d tensors of the encoder; they start new", start.source, len(lost))


def check_shapes(
    network: Network, state: Mapping[str, Tensor], theirs: Mapping[str, tuple[str, ...]], where: str
) -> None:
    """Compare tensors with the network's own.

    Raises:
        InputError: every one of another shape, by its foreign name.
    """
    problems = Problems()
    own = network.state_dict()
    problems.extend(
        f"{where}: {' + '.join(theirs[name])} has shape {list(tensor.shape)}, but this run needs "
        f"{list(own[name].shape)} (another bert_config_file, or other labels?)"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    )
    problems.raise_if_any()
