"""Hugging Face's dialect: config.json and safetensors (or a pickle of tensors), read and written.

What differs between BERT, RoBERTa and the others stands in `checkpoints.families`.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bertune.checkpoints.families import family_of
from bertune.checkpoints.families.bert import BERT
from bertune.checkpoints.families.family import ACTIVATIONS, Family, activation_of, must_be, respelled
from bertune.checkpoints.family_evidence import family_named_by
from bertune.checkpoints.google_files import is_google_checkpoint
from bertune.checkpoints.names import KIND, Rename, for_layers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.files.json_files import read_json

OTHER_WEIGHTS = dict.fromkeys(
    ("tf_model.h5", "flax_model.msgpack", "tf_model.h5.index.json", "flax_model.msgpack.index.json"),
    "its weights are there for TensorFlow or Flax alone: load them with transformers 4 "
    "(from_pretrained(…, from_tf=True or from_flax=True)) and save_pretrained, which writes model.safetensors",
) | {
    "model.onnx": "its weights are there as an ONNX graph alone, which cannot be trained; look for the original model",
    "rust_model.ot": "its weights are there for rust-bert alone; look for the original model",
    "adapter_model.safetensors": "it holds an adapter (PEFT) alone: merge it into its base model with "
    "merge_and_unload() and save_pretrained",
}
"""Files of weights that are not read, and what to do."""

_FORBIDDEN = re.compile(r"Unsupported global: GLOBAL (\S+)")
"""What torch says of a pickle that asks for a function or class which is no part of a tensor."""

ENCODER = BERT.names
"""BERT's tensors, ours and theirs, without the prefix `bert.` that models with a head put before them."""


@dataclass(frozen=True)
class HuggingFaceCheckpoint:
    """A folder as read: sizes, tensors under their names (prefix removed), and the whole of config.json."""

    config: EncoderConfig
    tensors: dict[str, Tensor]
    settings: dict[str, Any]


CONFIG_FILES = ("config.json", "bert_config.json")
"""Names of the config, best first: the second is how the first PyTorch releases of BERT and its Chinese kin name it."""
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the weights, best first; each may also be in shards, which `NAME.index.json` lists."""


def is_huggingface_folder(path: Path) -> bool:
    """Whether a folder holds a config and no TensorFlow checkpoint that the config would be of."""
    if has_weights(path):
        return config_file(path) is not None
    return (path / "config.json").is_file() and not is_google_checkpoint(path)


def has_weights(folder: Path) -> bool:
    """Whether weights are there, whole or in shards."""
    return any((folder / name).is_file() or (folder / f"{name}.index.json").is_file() for name in WEIGHTS)


def config_file(folder: Path) -> Path | None:
    """The config, if there is one."""
    return next((folder / name for name in CONFIG_FILES if (folder / name).is_file()), None)


_DECODERS = ("bert", "roberta", "xlm-roberta", "camembert", "electra")
"""Families whose classes in transformers obey `is_decoder`."""


def config_from_json(settings: Mapping[str, Any], where: str) -> EncoderConfig:
    """An encoder's numbers from config.json.

    Raises:
        InputError: an unknown family, a missing vocab_size, an unknown activation, impossible numbers.
    """
    family = family_of(settings.get("model_type", "bert"), where)
    if settings.get("position_embedding_type") is not None and family.reads_position_type:
        must_be(settings, "position_embedding_type", "absolute", where)
    if settings.get("is_decoder") and family.name in _DECODERS:
        raise InputError(
            f"{where}: is_decoder is {settings['is_decoder']!r}: each token of such a model sees those before it "
            "alone, and an encoder's see all; where the weights were trained as an encoder, set it to false"
        )
    if "vocab_size" not in settings:
        raise InputError(f"{where}: lacks vocab_size; is this the config of a {family.classes} encoder?")
    merged = {**family.defaults, **{key: value for key, value in settings.items() if value is not None}}
    activation = activation_of(merged, family.activation, where)
    numbers = {ours: merged[key] for ours, key in family.keys.items() if key in merged}
    try:
        numbers = family.read({**_NUMBERS, **numbers, **family.wiring}, merged, where)
        return EncoderConfig(family=family.name, hidden_act=activation, **numbers)
    except InputError as error:
        raise InputError(str(error) if where in str(error) else f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{where}: a number is of the wrong kind ({error})") from None


_NUMBERS = {
    field.name: field.default
    for field in dataclasses.fields(EncoderConfig)
    if field.name in BERT.keys and field.default is not dataclasses.MISSING
}
"""What a missing key means in BERT."""


def config_to_json(config: EncoderConfig) -> dict[str, Any]:
    """An encoder's numbers under the keys of config.json."""
    family = family_of(config.family)
    activation = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.hidden_act)
    numbers = {key: getattr(config, ours) for ours, key in family.keys.items()}
    return {"model_type": family.name, family.activation: activation, **numbers, **family.write(config)}


def read_huggingface(folder: Path) -> HuggingFaceCheckpoint:
    """Read a Hugging Face folder: safetensors, whole or in shards, else pytorch_model.bin without running its code.

    Raises:
        InputError: a missing, truncated or corrupted file, sizes that do not fit, an unknown family.
    """
    file = config_file(folder) or folder / "config.json"
    settings = read_json(file)
    stored = None
    if "model_type" not in settings and "vocab_size" in settings:
        stored = read_tensors(folder)
        settings = settings | {"model_type": family_named_by(settings, stored, folder)}
    config = config_from_json(settings, str(file))
    family = family_of(config.family)
    ours = {theirs: ours for ours, theirs in family.spelled(_architecture(settings, family)).items()}
    stored = read_tensors(folder) if stored is None else stored
    tensors = {_plain(name, family): tensor for name, tensor in stored.items() if respelled(name, ours) is None}
    # What an architecture spells in its own way goes before what bears the plain name, which it does not use.
    tensors |= {known: tensor for name, tensor in stored.items() if (known := respelled(name, ours)) is not None}
    others = {known: t for name, t in tensors.items() if (known := respelled(name, family.other_names)) is not None}
    tensors |= {known: tensor for known, tensor in others.items() if known not in tensors}
    return HuggingFaceCheckpoint(config, tensors, settings)


def _architecture(settings: Mapping[str, Any], family: Family) -> str:
    """What follows the family's name in the first architecture of config.json."""
    names = settings.get("architectures")
    first = names[0] if isinstance(names, list) and names else ""
    return first.removeprefix(family.classes) if isinstance(first, str) else ""


def _plain(name: str, family: Family) -> str:
    """Their name without the family's prefix, with the LayerNorm names that are used today."""
    if "LayerNorm" in name:
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    return name.removeprefix(family.prefix).removeprefix(family.older_prefix)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder under the names in its files.

    Raises:
        InputError: no weights there, or a file that is missing, truncated or corrupted.
    """
    for name, read in zip(WEIGHTS, (_read_safetensors, _read_pickle), strict=True):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read(folder / name)
        if index.is_file():
            return _read_shards(index, read)
    other = next(
        (f"{name} is there, but {why}" for name, why in OTHER_WEIGHTS.items() if (folder / name).is_file()), ""
    )
    raise InputError(
        f"{folder}: holds neither model.safetensors nor pytorch_model.bin, whole or in shards{other and f'; {other}'}"
    )


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
    refuse_pointer(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); download or copy it again") from None


def _read_pickle(path: Path) -> dict[str, Tensor]:
    refuse_pointer(path)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles make torch.load fail in dozens of ways
        reason = type(error).__name__
        if forbidden := _FORBIDDEN.search(str(error)):
            reason = f"it asks for {forbidden[1]}"
        raise InputError(
            f"{path}: not a whole file of tensors, or one that would run code ({reason}); nothing in it was run. Use "
            "model.safetensors instead"
        ) from None
    if not isinstance(tensors, dict) or not all(isinstance(name, str) for name in tensors):
        raise InputError(f"{path}: must hold a dictionary of tensors")
    nested = next(
        (key for key in ("state_dict", "model_state_dict", "model") if isinstance(tensors.get(key), dict)), None
    )
    if nested is not None:
        raise InputError(
            f"{path}: a training program's checkpoint, whose tensors lie under {nested!r}; save them alone: "
            f"torch.save(torch.load({path.name!r})[{nested!r}], {path.name!r})"
        )
    problems = Problems()
    other = (name for name, value in tensors.items() if not _is_plain(value))
    problems.extend(f"{path}: must hold a dictionary of tensors, but {name!r} is not a plain tensor" for name in other)
    problems.raise_if_any()
    return tensors


_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Raise InputError where a file is Git LFS's pointer to what it should be."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return
    if is_pointer:
        raise InputError(
            f"{path}: a Git LFS pointer of a few lines, not the weights; run `git lfs install` and `git lfs pull` in "
            "its repository, or download the file from the Hub"
        )


def foreign_prefix(missing: str, names: Collection[str]) -> str | None:
    """What another program has put before all names (`module.`, `model.`), if a missing tensor is there under it."""
    end = missing if missing.startswith("embeddings.") else f"embeddings.{missing}"
    found = next((name for name in names if name.endswith(f".{end}")), None)
    return None if found is None else found.removesuffix(end)


def _is_plain(value: object) -> bool:
    """Whether it is a tensor that holds all of its numbers: one read again and again could be of any size."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_nested:
        return False
    return value.device.type == "cpu" and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


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
    plain = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
    first = {tensor.data_ptr(): name for name, tensor in reversed(plain.items())}
    save_file(  # which refuses two names for the same memory
        {name: tensor if first[tensor.data_ptr()] == name else tensor.clone() for name, tensor in plain.items()},
        folder / "model.safetensors",
        metadata={"format": "pt", **(metadata or {})},
    )
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)  # the library writes it for its owner


def encoder_names(config: EncoderConfig, *, prefix: str = "") -> list[Rename]:
    """The written-out list for an encoder of this size, with a prefix before their names (`bert.` beside a head)."""
    names = [name for name in family_of(config.family).names if _has(config, name.ours)]
    written = [name for name in for_layers(names, config.stored_layers) if _has(config, name.ours)]
    if config.key_value_heads:
        rows = (config.hidden_size, *2 * (config.key_value_heads * config.head_size,))
        written = [dataclasses.replace(one, sizes=rows) if ".attention.qkv." in one.ours else one for one in written]
    return [_renamed(name, lambda their: prefix + their) for name in written] if prefix else written


def _has(config: EncoderConfig, ours: str) -> bool:
    """Whether an encoder of these numbers has a tensor that its family may have."""
    return next((has(config) for start, has in _OPTIONAL_PARTS.items() if ours.startswith(start)), True)


_OPTIONAL_PARTS: dict[str, Callable[[EncoderConfig], bool]] = {
    "embeddings.projection": lambda config: config.embedding_size > 0,
    "embeddings.segment": lambda config: config.type_vocab_size > 0,
    "embeddings.norm": lambda config: config.embedding_norm,
    "embeddings.position": lambda config: config.absolute_positions,
    "layers.0.attention_norm": lambda config: not (config.pre_norm and config.embedding_norm),
    "layers.{i}.attention.distances.weight": lambda config: config.relative == "layer",
    "layers.{i}.attention.distances.key": lambda config: _has_own(config, "c2p"),
    "layers.{i}.attention.distances.query": lambda config: _has_own(config, "p2c"),
    "convolution": lambda config: config.convolution > 0,
    "distances.norm": lambda config: config.relative_norm,
}
"""Beginnings of the names of tensors that only some encoders of a family have."""


def _has_own(config: EncoderConfig, term: str) -> bool:
    """Whether distances are projected by matrices of their own."""
    return config.relative == "projected" and term in config.relative_terms and not config.relative_shared


def stored_names(config: EncoderConfig, head: Sequence[Rename], architecture: str) -> tuple[list[Rename], list[Rename]]:
    """Names of encoder and head as `transformers` expects them in models of an architecture.

    Args:
        config: the encoder's numbers.
        head: the head's names, written out, as its task knows them.
        architecture: what follows the family's name, as in `ForSequenceClassification`; `Model`: the encoder alone.
    """
    family = family_of(config.family)
    spelled = family.spelled(architecture)

    prefix = "" if architecture == "Model" else family.prefix
    encoder = [
        _renamed(name, lambda their: respelled(their, spelled) or prefix + their) for name in encoder_names(config)
    ]
    return encoder, [_renamed(name, lambda their: respelled(their, spelled) or their) for name in head]


def _renamed(name: Rename, change: Callable[[str], str]) -> Rename:
    return dataclasses.replace(name, theirs=tuple(change(their) for their in name.theirs))


_HEADS = {
    "text-classification": ("classifier.",),
    "question-answering": ("qa_outputs.",),
    "masked-lm": ("cls.predictions.", "lm_head.", "vocab_projector.", "predictions.", "generator_lm_head.", "decoder."),
    "next-sentence": ("cls.seq_relationship.",),
    "replaced-tokens": ("discriminator_predictions.",),
}
"""Beginnings of the names of heads, in all families."""
_KINDS = {
    "ForTokenClassification": "token-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "Embedding": "embedding",
}


def heads_in(names: Collection[str], settings: Mapping[str, Any]) -> list[str]:
    """Kinds of the heads beside an encoder, by its tensors' plain names; the architecture tells classifiers apart."""
    if KIND in settings and any(name.startswith("head.") for name in names):
        kind = str(settings[KIND])
        return [_KINDS.get(kind, kind)]  # of a task in a file of the user's, its name
    found = [kind for kind, starts in _HEADS.items() if any(name.startswith(starts) for name in names)]
    architecture = str((settings.get("architectures") or [""])[0])
    kind = next((kind for ending, kind in _KINDS.items() if architecture.endswith(ending)), "text-classification")
    return [kind if name == "text-classification" else name for name in found]
