"""Checkpoints of google-research/bert: their names, `bert_config.json`, where the files lie; read and written.

Names and rules: modeling.py and the released archives of google-research/bert. A dense layer's `kernel` is (in, out)
and transposed on its way; `output_weights` are (out, in) as ours are. Checkpoints of the TensorFlow Model Garden (TF2),
which come with the same `bert_config.json`, are read too.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertune.checkpoints.google_config import config_from_bert_json, config_to_bert_json, read_bert_config
from bertune.checkpoints.google_files import find_checkpoint, is_google_checkpoint
from bertune.checkpoints.google_scopes import canonical_names
from bertune.checkpoints.keras_names import flat, keras_heads, keras_names, stored_objects
from bertune.checkpoints.names import Rename, for_layers, to_theirs
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.tensorflow_formats.tensor_bundle import TensorBundle, staged, write_bundle
from bertune.tokenization.casing import Casing, casing_of
from bertune.tokenization.vocabulary_files import read_vocabulary

__all__ = [
    "CONFIG_FILES",
    "ENCODER",
    "HEADS",
    "GoogleCheckpoint",
    "check_shapes",
    "config_from_bert_json",
    "config_to_bert_json",
    "find_checkpoint",
    "is_google_checkpoint",
    "read_google_checkpoint",
    "write_google_checkpoint",
]

_LOG = logging.getLogger(__name__)
CONFIG_FILES = ("bert_config.json", "config.json")
"""Names of the config beside a checkpoint, best first."""
_LAYER = "bert/encoder/layer_{i}/"


def _dense(ours: str, *theirs: str, optional: bool = False) -> list[Rename]:
    """A dense layer; several of theirs are joined in one of ours."""
    return [
        Rename(f"{ours}.weight", tuple(f"{name}/kernel" for name in theirs), transpose=True, optional=optional),
        Rename(f"{ours}.bias", tuple(f"{name}/bias" for name in theirs), optional=optional),
    ]


def _norm(ours: str, theirs: str) -> list[Rename]:
    """A layer normalisation."""
    return [Rename(f"{ours}.weight", (f"{theirs}/gamma",)), Rename(f"{ours}.bias", (f"{theirs}/beta",))]


def _output(ours: str, theirs: str) -> list[Rename]:
    """A head's last layer."""
    return [Rename(f"{ours}.weight", (f"{theirs}output_weights",)), Rename(f"{ours}.bias", (f"{theirs}output_bias",))]


ENCODER: list[Rename] = [
    Rename("embeddings.word.weight", ("bert/embeddings/word_embeddings",)),
    Rename("embeddings.position.weight", ("bert/embeddings/position_embeddings",)),
    Rename("embeddings.segment.weight", ("bert/embeddings/token_type_embeddings",)),
    *_norm("embeddings.norm", "bert/embeddings/LayerNorm"),
    *_dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention/self/{part}" for part in ("query", "key", "value"))),
    *_dense("layers.{i}.attention.output", f"{_LAYER}attention/output/dense"),
    *_norm("layers.{i}.attention_norm", f"{_LAYER}attention/output/LayerNorm"),
    *_dense("layers.{i}.feed_forward.up", f"{_LAYER}intermediate/dense"),
    *_dense("layers.{i}.feed_forward.down", f"{_LAYER}output/dense"),
    *_norm("layers.{i}.feed_forward_norm", f"{_LAYER}output/LayerNorm"),
    *_dense("pooler", "bert/pooler/dense", optional=True),
]
"""The encoder; `{i}` stands for the layer."""

HEADS: dict[str, list[Rename]] = {
    "masked-lm": [
        *_dense("masked_lm.transform", "cls/predictions/transform/dense"),
        *_norm("masked_lm.norm", "cls/predictions/transform/LayerNorm"),
        Rename("masked_lm.output_bias", ("cls/predictions/output_bias",)),
    ],
    "next-sentence": _output("next_sentence", "cls/seq_relationship/"),
    "question-answering": _output("head", "cls/squad/"),
    "text-classification": _output("head", ""),
}
"""The original's heads. The last two are fine-tuned ones: a checkpoint holds one of them at most."""

_SIZES: dict[str, tuple[str | int | None, ...]] = {
    "embeddings.word.weight": ("vocab_size", "hidden_size"),
    "embeddings.position.weight": ("max_position_embeddings", "hidden_size"),
    "embeddings.segment.weight": ("type_vocab_size", "hidden_size"),
    "layers.{i}.feed_forward.up.weight": ("hidden_size", "intermediate_size"),
    "layers.{i}.feed_forward.up.bias": ("intermediate_size",),
    "layers.{i}.feed_forward.down.weight": ("intermediate_size", "hidden_size"),
    "masked_lm.output_bias": ("vocab_size",),
    "next_sentence.weight": (2, "hidden_size"),
    "next_sentence.bias": (2,),
    "head.weight": (None, "hidden_size"),
    "head.bias": (None,),
}
"""Shapes as Google stores them, by our name: keys of the config, numbers, None for any. The rest: hidden_size only."""

_SLOT = re.compile(r"/(adam_[mv]|Adam(_1)?|lamb_[mv]|LAMB(_1)?)$|^(global_step|beta[12]_power)$")
"""What optimizers keep beside the weights; the original's are adam_m and adam_v."""


@dataclass(frozen=True)
class GoogleCheckpoint:
    """An encoder as Google's tools store it, with what lies beside it."""

    config: EncoderConfig
    tensors: dict[str, Tensor]
    """Under the original's names, float32, in its layout; what only optimizers use is left out."""
    prefix: Path
    """The files' common beginning."""
    vocab_file: Path | None
    vocab_lines: tuple[str, ...] | None
    """The vocabulary as it stands in its file, a word piece a line."""
    do_lower_case: bool | None
    """Whether text is lower-cased and stripped of accents; None when nothing tells."""
    heads: list[str]
    """Names in HEADS of the heads that are there."""
    global_step: int | None
    """Training steps so far, where stored."""
    casing_reason: str = ""
    """What the casing was decided by."""


def read_google_checkpoint(
    path: Path, *, config_file: Path | None = None, vocab_file: Path | None = None, scope: str | None = None
) -> GoogleCheckpoint:
    """Read a folder or prefix of google-research/bert.

    Args:
        path: a folder, a prefix (`.../bert_model.ckpt`) or one of its files.
        config_file: `bert_config.json`; by default the one beside the checkpoint, else a `config.json` there.
        vocab_file: `vocab.txt`; by default the one beside the checkpoint, else beside the config.
        scope: the encoder's variables are `SCOPE/embeddings/…`; by default `bert`, else the one scope that fits.

    The casing is stored nowhere: it is taken from what the vocabulary can spell, else from the folder's name.

    Raises:
        InputError: a file is missing or damaged, or the tensors do not fit the config.
    """
    prefix = find_checkpoint(path)
    candidates = (prefix.parent / name for name in CONFIG_FILES)
    config_path = config_file or next((path for path in candidates if path.is_file()), prefix.parent / CONFIG_FILES[0])
    if not config_path.is_file():
        raise InputError(
            f"{config_path}: not found. {prefix} needs a bert_config.json (sizes, activation) beside it, or named "
            "explicitly."
        )
    config = read_bert_config(config_path)
    vocabulary_path = _vocabulary_path(vocab_file, [prefix.parent, config_path.parent])
    bundle = TensorBundle(prefix)
    keys, shapes, heads = _stored(bundle, scope, config)
    problems = check_shapes(config, shapes, str(prefix))
    if heads not in {None, config.num_attention_heads}:
        problems.add(f"{prefix}: has {heads} attention heads, but {config_path} {config.num_attention_heads}")
    lines = None if vocabulary_path is None else read_vocabulary(vocabulary_path)
    if lines is not None and len(lines) > config.vocab_size:
        problems.add(f"{vocabulary_path}: {len(lines)} lines, but {config_path} has vocab_size {config.vocab_size}")
    folders = [folder.resolve().name for folder in (prefix.parent, config_path.parent)]
    casing = Casing(None, "") if lines is None else casing_of(lines, folders)
    problems.raise_if_any()
    return GoogleCheckpoint(
        config=config,
        tensors={
            name: torch.from_numpy(bundle.read(keys[name]).astype(np.float32, copy=False).reshape(shapes[name]))
            for name in _without_spare_layers(list(keys), config, prefix)
            if np.issubdtype(bundle.dtype(keys[name]), np.floating)
        },
        prefix=prefix,
        vocab_file=vocabulary_path,
        vocab_lines=lines,
        do_lower_case=casing.lower,
        heads=heads_in(list(keys)),
        global_step=_step(bundle),
        casing_reason=casing.reason,
    )


def _stored(
    bundle: TensorBundle, scope: str | None, config: EncoderConfig
) -> tuple[dict[str, str], dict[str, tuple[int, ...]], int | None]:
    """What a bundle holds but for optimizers' slots; the Model Garden's own checkpoints are told by their objects.

    Returns: Google's names → the bundle's, Google's names → shapes in Google's layout, heads where the shapes tell.
    """
    objects = stored_objects(bundle)
    if objects:
        keys = keras_names(bundle, objects)
    else:
        stored = {name: bundle.shape(name) for name in bundle.names() if not is_slot(name)}
        keys = canonical_names(stored, str(bundle.prefix), scope=scope, config=config)
    shapes = {name: bundle.shape(key) for name, key in keys.items()}
    return keys, {name: flat(name, shape) for name, shape in shapes.items()}, keras_heads(shapes) if objects else None


def heads_in(names: Sequence[str]) -> list[str]:
    """Names in HEADS of the heads whose tensors are all there."""
    present = set(names)
    return [head for head, lines in HEADS.items() if all(present.issuperset(line.theirs) for line in lines)]


def is_slot(name: str) -> bool:
    """Whether a variable is an optimizer's own, not the model's."""
    return _SLOT.search(name) is not None


def check_shapes(config: EncoderConfig, shapes: Mapping[str, tuple[int, ...]], where: str) -> Problems:
    """Compare what a checkpoint holds with what its config says.

    Args:
        config: the sizes.
        shapes: shapes by Google's names.
        where: the checkpoint's name, for messages.

    Returns: what is missing or has another shape; heads that are not there are no problem, spare layers neither.
    """
    problems = Problems()
    heads = [line for head in heads_in(list(shapes)) for line in HEADS[head]]
    missing: list[str] = []
    for line in [*ENCODER, *heads]:
        sizes = _SIZES.get(line.ours, ("hidden_size",) * (2 if line.transpose else 1))
        numbers = [getattr(config, size) if isinstance(size, str) else size for size in sizes]
        wanted = ", ".join(
            f"{size} {number}" if isinstance(size, str) else "any" if number is None else str(number)
            for size, number in zip(sizes, numbers, strict=True)
        )
        for theirs in (name for plain in for_layers([line], config.num_hidden_layers) for name in plain.theirs):
            shape = shapes.get(theirs)
            if shape is None:
                missing.extend([] if line.optional else [theirs])
            elif len(shape) != len(numbers) or any(n not in {None, s} for n, s in zip(numbers, shape, strict=True)):
                problems.add(f"{where}: {theirs} has shape {list(shape)}, but the config says [{wanted}]")
    if missing:
        problems.add(_missing(where, missing, shapes))
    return problems


def _missing(where: str, missing: Sequence[str], present: Iterable[str]) -> str:
    names = list(present)
    if any(name.startswith("bert/") for name in names):
        some = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        return f"{where}: lacks {some}, which the config asks for; is it the config of another model?"
    return f"{where}: holds no BERT encoder (variables bert/…), but {', '.join(names[:4]) or 'nothing'}"


def _without_spare_layers(names: Sequence[str], config: EncoderConfig, prefix: Path) -> list[str]:
    """Names but those of layers beyond the config's, which the original leaves aside too; it says so in the log."""
    spare = [
        name
        for name in names
        if (match := re.match(r"bert/encoder/layer_(\d+)/", name)) and int(match[1]) >= config.num_hidden_layers
    ]
    if spare:
        _LOG.warning(
            "%s holds more layers than the %d of its config; they are left aside", prefix, config.num_hidden_layers
        )
    return [name for name in names if name not in set(spare)]


def _step(bundle: TensorBundle) -> int | None:
    known = "global_step" in bundle and bundle.shape("global_step") == ()
    return int(bundle.read("global_step")) if known else None


def _vocabulary_path(given: Path | None, folders: Sequence[Path]) -> Path | None:
    """The vocabulary: as given, which must be there, else `vocab.txt` in the first folder that has one."""
    if given is not None:
        if not given.is_file():
            raise InputError(f"{given}: vocabulary not found")
        return given
    return next((folder / "vocab.txt" for folder in folders if (folder / "vocab.txt").is_file()), None)


def write_google_checkpoint(
    folder: Path,
    config: EncoderConfig,
    state: Mapping[str, Tensor],
    vocab_lines: Sequence[str],
    head: str | None = None,
) -> None:
    """Write a folder as Google releases it: bert_model.ckpt.{index,data-00000-of-00001}, bert_config.json, vocab.txt.

    Args:
        folder: made where it is not there.
        config: sizes; see `config_to_bert_json` for what the format cannot say.
        state: tensors by our names; the encoder without pooler at least.
        vocab_lines: word pieces by id.
        head: which of HEADS `head.weight` and `head.bias` belong to, where the state has them.

    Raises:
        InputError: tensors that are missing, superfluous or of a wrong shape; a file that cannot be written.
    """
    heads = ["masked-lm", "next-sentence", *([head] if head else [])]
    lines = for_layers([*ENCODER, *(line for name in heads for line in HEADS[name])], config.num_hidden_layers)
    if left := set(state) - {line.ours for line in lines}:
        raise InputError(f"{folder}: a Google checkpoint has no place for {', '.join(sorted(left)[:5])} (head: {head})")
    tensors = {
        name: tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        for name, tensor in to_theirs(lines, state).items()
    }
    check_shapes(config, {name: tensor.shape for name, tensor in tensors.items()}, str(folder)).raise_if_any()
    texts = {
        "bert_config.json": json.dumps(config_to_bert_json(config), indent=2) + "\n",
        "vocab.txt": "".join(f"{line}\n" for line in vocab_lines),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            with staged(folder / name) as temporary:
                temporary.write_bytes(text.encode("utf-8"))
                temporary.replace(folder / name)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
    write_bundle(folder / "bert_model.ckpt", tensors)
