"""What a folder of sentence-transformers says besides the encoder: its modules, prompts, longest sequence, casing.

Sources: `modules.json`, `sentence_bert_config.json`, `config_sentence_transformers.json` and the modules' own folders
(`1_Pooling/config.json`, `2_Dense/…`) as sentence-transformers 2 to 6 write them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from bertune.checkpoints.huggingface import read_tensors
from bertune.errors import InputError
from bertune.files.json_files import read_json, read_json_list

MODULES = "modules.json"
MODEL_CONFIG = "config_sentence_transformers.json"
TRANSFORMER_CONFIGS = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Files of the Transformer module; which name is there depended on the encoder once. The first that exists counts."""
FILES = (MODULES, MODEL_CONFIG, *TRANSFORMER_CONFIGS)
"""Small files at the top of a folder; the modules' own lie in folders that modules.json names."""
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""In the order in which combined ones are concatenated."""
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Keys of the form before version 6."""
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "Sigmoid", "SiLU")
"""torch.nn's classes that a Dense module may name as its activation."""
_ENCODERS = ("Transformer", "BERT", "RoBERTa", "DistilBERT", "ALBERT", "CamemBERT", "XLMRoBERTa")
"""Names of the encoder's module; all but the first before version 1."""
_REFUSED = {
    "WordEmbeddings": "looks words up in a table instead of running an encoder",
    "StaticEmbedding": "looks words up in a table instead of running an encoder",
    "BoW": "counts words instead of running an encoder",
    "WordWeights": "weights words by a table of their own",
    "LSTM": "runs a recurrent network over the tokens",
    "CNN": "runs a convolution over the tokens",
    "CLIPModel": "reads images",
    "Router": "sends queries and documents through different modules",
    "Asym": "sends queries and documents through different modules",
    "SpladePooling": "gives a sparse vector over the vocabulary",
    "MLMTransformer": "gives a sparse vector over the vocabulary",
    "SparseAutoEncoder": "gives a sparse vector",
    "SparseStaticEmbedding": "gives a sparse vector over the vocabulary",
    "MultiVectorMask": "gives a vector for every token",
}
"""Modules of sentence-transformers that are not read, and why."""


@dataclass(frozen=True)
class Module:
    """One module after the encoder.

    kind: its class: `Pooling`, `Dense`, `Normalize`, `LayerNorm`, `Dropout` or `WeightedLayerPooling`.
    config: its config.json.
    tensors: its weights, where it has any.
    """

    kind: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SentenceFolder:
    """What a folder tells about turning texts into vectors.

    modules: those after the encoder, in order; None where the folder has no modules.json.
    max_seq_length: the longest sequence in tokens; None where nothing names one.
    do_lower_case: lower texts before the tokenizer reads them.
    prompts: texts to put before a text, by name.
    default_prompt: the name of the prompt that is used unless another is asked for.
    truncate_dim: numbers of each vector that are kept; None: all.
    """

    modules: tuple[Module, ...] | None = None
    max_seq_length: int | None = None
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    truncate_dim: int | None = None


def encoder_folder(folder: Path) -> Path:
    """Where the encoder lies: the folder itself, or the first module's (`0_Transformer`) as old versions wrote it.

    Raises:
        InputError: an unreadable modules.json.
    """
    if (folder / "config.json").is_file() or not (folder / MODULES).is_file():
        return folder
    first = next(iter(_listed(folder / MODULES)), None)
    inner = folder if first is None else _inside(folder, first[1])
    return inner if (inner / "config.json").is_file() else folder


def read_sentence_folder(folder: Path, encoder: Path | None = None) -> SentenceFolder:
    """Read all of it.

    Args:
        folder: with or without modules.json; without, only what its tokenizer says of the longest sequence counts.
        encoder: where the encoder lies, if not in the folder itself.

    Raises:
        InputError: a module that is not supported, by its name; an unreadable or contradictory file.
    """
    inside = encoder or encoder_folder(folder)
    transformer = _first_json(inside, TRANSFORMER_CONFIGS)
    model = _json(folder / MODEL_CONFIG)
    prompts = model.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values() if text is not None):
        raise InputError(f"{folder / MODEL_CONFIG}: prompts must be an object of names and texts")
    default = model.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(f"{folder / MODEL_CONFIG}: default_prompt_name {default!r} is none of {', '.join(prompts)}")
    length = transformer.get("max_seq_length") or _json(inside / "tokenizer_config.json").get("model_max_length")
    truncate = model.get("truncate_dim")
    return SentenceFolder(
        modules=_modules(folder) if (folder / MODULES).is_file() else None,
        max_seq_length=length if isinstance(length, int) and not isinstance(length, bool) else None,
        do_lower_case=bool(transformer.get("do_lower_case")),
        prompts={name: text for name, text in prompts.items() if text is not None},
        default_prompt=default,
        truncate_dim=truncate if isinstance(truncate, int) else None,
    )


def pooling_modes(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The modes of a Pooling module, in the order in which their vectors are concatenated.

    Raises:
        InputError: an unknown mode.
    """
    mode_or_modes = config.get("pooling_mode")
    if mode_or_modes is None:
        mode_or_modes = [mode for key, mode in _POOLING_FLAGS.items() if config.get(key)] or ["mean"]
    modes = [mode_or_modes] if isinstance(mode_or_modes, str) else mode_or_modes
    if not isinstance(modes, list | tuple) or not modes or not all(mode in POOLING_MODES for mode in modes):
        raise InputError(f"{where}: pooling_mode is {mode_or_modes!r}; known: {', '.join(POOLING_MODES)}")
    return tuple(modes)


def module_files(modules: Path) -> list[str]:
    """Files that the modules behind the encoder may have, by modules.json, relative to its folder.

    Raises:
        InputError: an unreadable modules.json.
    """
    folders = [path for _, path in _listed(modules)[1:] if path not in {"", "."}]
    return [f"{path}/{name}" for path in folders for name in ("config.json", "model.safetensors", "pytorch_model.bin")]


def _listed(file: Path) -> list[tuple[str, str]]:
    """Full class name and folder of every module."""
    tree = read_json_list(file)
    if not all(isinstance(one, dict) and isinstance(one.get("type"), str) for one in tree):
        raise InputError(f"{file}: must be a list of modules, each with its type and path")
    return [(one["type"], str(one.get("path", ""))) for one in tree]


def _modules(folder: Path) -> tuple[Module, ...]:
    file = folder / MODULES
    found: list[Module] = []
    for index, (name, path) in enumerate(_listed(file)):
        kind = name.rpartition(".")[2]
        if not name.startswith("sentence_transformers."):
            raise InputError(
                f"{file}: module {index} is {name}, code of the model's own, which is not run; use the encoder without "
                "modules.json, or sentence-transformers with trust_remote_code"
            )
        if index == 0 and kind in _ENCODERS:
            continue
        if index == 0 or kind not in _READERS:
            reason = _REFUSED.get(kind, "is not among those that bertune knows")
            known = ", ".join(["Transformer", *_READERS])
            raise InputError(
                f"{file}: module {index} is {kind}, which {reason}; supported: Transformer first, then {known[13:]}. "
                "sentence-transformers itself runs this folder"
            )
        found.append(_READERS[kind](kind, _inside(folder, path)))
    return tuple(found)


def _inside(folder: Path, path: str) -> Path:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise InputError(f"{folder / MODULES}: names the folder {path!r}, which lies outside")
    return folder / parts


def _plain(kind: str, folder: Path) -> Module:
    return Module(kind, _json(folder / "config.json"))


def _pooling(kind: str, folder: Path) -> Module:
    config = _json(folder / "config.json")
    modes = pooling_modes(config, str(folder / "config.json"))
    return Module(kind, {"modes": modes, "include_prompt": config.get("include_prompt", True)})


def _weighted(kind: str, folder: Path) -> Module:
    return Module(kind, _json(folder / "config.json"), read_tensors(folder))


def _dense(kind: str, folder: Path) -> Module:
    config = _json(folder / "config.json")
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not name.startswith("torch.nn.") or name.rpartition(".")[2] not in ACTIVATIONS:
        raise InputError(
            f"{folder / 'config.json'}: activation_function is {name!r}; known: torch.nn's {', '.join(ACTIVATIONS)}"
        )
    activation = name.rpartition(".")[2]
    return Module(kind, {**config, "activation": activation}, read_tensors(folder))


_READERS = {
    "Pooling": _pooling,
    "Dense": _dense,
    "Normalize": _plain,
    "LayerNorm": _weighted,
    "Dropout": _plain,
    "WeightedLayerPooling": _weighted,
}


def _json(file: Path) -> dict[str, Any]:
    return read_json(file) if file.is_file() else {}


def _first_json(folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    return next((found for name in names if (found := _json(folder / name))), {})
