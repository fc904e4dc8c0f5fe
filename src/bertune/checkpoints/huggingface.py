"""Hugging Face's dialect: config.json and safetensors (or a pickle of tensors), read and written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bertune.checkpoints.names import Rename, for_layers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems

_LAYER = "encoder.layer.{i}."


def _dense(ours: str, theirs: str, *, optional: bool = False) -> list[Rename]:
    return [Rename(f"{ours}.{part}", (f"{theirs}.{part}",), optional=optional) for part in ("weight", "bias")]


ENCODER: list[Rename] = [
    Rename("embeddings.word.weight", ("embeddings.word_embeddings.weight",)),
    Rename("embeddings.position.weight", ("embeddings.position_embeddings.weight",)),
    Rename("embeddings.segment.weight", ("embeddings.token_type_embeddings.weight",)),
    *_dense("embeddings.norm", "embeddings.LayerNorm"),
    *(
        Rename(
            f"layers.{{i}}.attention.qkv.{part}",
            tuple(f"{_LAYER}attention.self.{name}.{part}" for name in ("query", "key", "value")),
        )
        for part in ("weight", "bias")
    ),
    *_dense("layers.{i}.attention.output", f"{_LAYER}attention.output.dense"),
    *_dense("layers.{i}.attention_norm", f"{_LAYER}attention.output.LayerNorm"),
    *_dense("layers.{i}.feed_forward.up", f"{_LAYER}intermediate.dense"),
    *_dense("layers.{i}.feed_forward.down", f"{_LAYER}output.dense"),
    *_dense("layers.{i}.feed_forward_norm", f"{_LAYER}output.LayerNorm"),
    *_dense("pooler", "pooler.dense", optional=True),
]
"""The encoder's tensors, ours and theirs, without the prefix `bert.` that models with a head put before them."""

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "tanh": "tanh",
    "linear": "linear",
}
"""Their activation names and ours. The first of theirs is the one we write."""

_CONFIG_KEYS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
)


@dataclass(frozen=True)
class HuggingFaceCheckpoint:
    """A folder as read: sizes, tensors under their names (prefix removed), and the whole of config.json."""

    config: EncoderConfig
    tensors: dict[str, Tensor]
    settings: dict[str, Any]


def is_huggingface_folder(path: Path) -> bool:
    """Whether a folder holds a config.json."""
    return (path / "config.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        InputError: no such file, not UTF-8, not JSON, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object, but holds {type(value).__name__}")
    return value


def config_from_json(settings: Mapping[str, Any], where: str) -> EncoderConfig:
    """An encoder's numbers from config.json.

    Raises:
        InputError: another family than BERT, a missing vocab_size, an unknown activation, impossible numbers.
    """
    family = settings.get("model_type", "bert")
    if family != "bert":
        raise InputError(f"{where}: model_type is {family!r}; this version reads 'bert'")
    kind = settings.get("position_embedding_type", "absolute")
    if kind != "absolute":
        raise InputError(f"{where}: position_embedding_type is {kind!r}; only 'absolute' is supported")
    activation = settings.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise InputError(f"{where}: hidden_act is {activation!r}; known: {', '.join(ACTIVATIONS)}")
    if "vocab_size" not in settings:
        raise InputError(f"{where}: lacks vocab_size; is this the config of a BERT encoder?")
    numbers = {key: settings[key] for key in _CONFIG_KEYS if settings.get(key) is not None}
    try:
        return EncoderConfig(hidden_act=ACTIVATIONS[activation], **numbers)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def config_to_json(config: EncoderConfig) -> dict[str, Any]:
    """An encoder's numbers under the keys of config.json."""
    theirs = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.hidden_act)
    return {"model_type": "bert", "hidden_act": theirs} | {key: getattr(config, key) for key in _CONFIG_KEYS}


def read_huggingface(folder: Path) -> HuggingFaceCheckpoint:
    """Read a Hugging Face folder: safetensors, whole or in shards, else pytorch_model.bin without running its code.

    Raises:
        InputError: a missing, truncated or corrupted file, sizes that do not fit, another family.
    """
    settings = read_json(folder / "config.json")
    config = config_from_json(settings, str(folder / "config.json"))
    tensors = {_canonical(name): tensor for name, tensor in read_tensors(folder).items()}
    return HuggingFaceCheckpoint(config, tensors, settings)


def _canonical(name: str) -> str:
    """Their name without the family prefix, with the LayerNorm names that are used today."""
    name = name.removeprefix("bert.")
    if "LayerNorm" in name:
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return name


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder under the names in its files.

    Raises:
        InputError: no weights there, or a file that is missing, truncated or corrupted.
    """
    for name, read in (("model.safetensors", _read_safetensors), ("pytorch_model.bin", _read_pickle)):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read(folder / name)
        if index.is_file():
            return _read_shards(index, read)
    raise InputError(f"{folder}: holds neither model.safetensors nor pytorch_model.bin, whole or in shards")


def _read_shards(index: Path, read: Any) -> dict[str, Tensor]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise InputError(f"{index}: lacks a weight_map of tensor names to file names")
    problems = Problems()
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(weight_map.values())):
        shard = index.parent / name
        if shard.parent.resolve() != index.parent.resolve():
            raise InputError(f"{index}: names the file {name!r}, which lies outside its folder")
        if shard.is_file():
            tensors.update(read(shard))
        else:
            problems.add(f"{shard}: this shard is missing; {index.name} lists it")
    problems.extend(
        f"{index}: tensor {name!r} is not in {file!r}" for name, file in weight_map.items() if name not in tensors
    )
    problems.raise_if_any()
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); download or copy it again") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles make torch.load fail in dozens of ways
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: not a whole file of tensors, or one that would run code ({reason}); use model.safetensors instead"
        ) from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise InputError(f"{path}: must hold a dictionary of tensors")
    return tensors


def write_huggingface(
    folder: Path,
    settings: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    *,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write config.json and model.safetensors; `tensors` under Hugging Face's full names. The folder must exist."""
    text = json.dumps(dict(settings), indent=2, ensure_ascii=False, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    save_file(
        {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()},
        folder / "model.safetensors",
        metadata={"format": "pt", **(metadata or {})},
    )
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # the library writes it for its owner


def encoder_names(config: EncoderConfig, *, prefix: str = "") -> list[Rename]:
    """The written-out list for an encoder of this size, with a prefix before their names (`bert.` beside a head)."""
    names = for_layers(ENCODER, config.num_hidden_layers)
    if not prefix:
        return names
    return [
        Rename(name.ours, tuple(prefix + their for their in name.theirs), name.transpose, name.optional)
        for name in names
    ]
