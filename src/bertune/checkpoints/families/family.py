"""What a family of encoders is to a checkpoint: names of tensors, keys of config.json, and where its heads differ."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
    "linear": "linear",
}
"""Hugging Face's activation names and ours. The first of theirs is the one we write."""

Numbers = dict[str, Any]
"""Keywords of EncoderConfig, or keys of config.json."""


def same_numbers(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:  # noqa: ARG001
    """A family whose config.json holds our numbers as they are."""
    return numbers


def nothing_more(config: EncoderConfig) -> Numbers:  # noqa: ARG001
    """A family whose config.json holds nothing but its keys."""
    return {}


@dataclass(frozen=True)
class Family:
    """One family, in Hugging Face's dialect.

    name: `model_type` in config.json.
    classes: what its classes' names begin with (`BertForSequenceClassification`).
    prefix: what stands before the encoder's names in a model with a head.
    names: the encoder's tensors, ours and theirs without prefix; `{i}` stands for the layer.
    keys: our numbers and their keys in config.json.
    activation: their key of the feed-forward's activation.
    wiring: numbers that make the family what it is.
    defaults: by their keys, what a missing key means, where that is not what it means in BERT.
    spelling: by what an architecture's name ends with, "" for all: names in `names` or of a head, and how they are
        written there, in full. A name stands for itself and for all that begins with it and a dot.
    read: from numbers read by `keys`, all of config.json and its place, to the final numbers.
    write: keys of config.json besides `keys`.
    other_names: names that the family's own programs gave to parts of a head, and those in `names` or of a head.
    reads_position_type: whether the family's class obeys `position_embedding_type`.
    older_prefix: what stood before the encoder's names in models with a head before transformers had the family.
    """

    name: str
    classes: str
    prefix: str
    names: list[Rename]
    keys: Mapping[str, str]
    activation: str = "hidden_act"
    wiring: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    spelling: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    read: Callable[[Numbers, Mapping[str, Any], str], Numbers] = same_numbers
    write: Callable[[EncoderConfig], Numbers] = nothing_more
    other_names: Mapping[str, str] = field(default_factory=dict)
    reads_position_type: bool = True
    older_prefix: str = ""

    def spelled(self, architecture: str) -> dict[str, str]:
        """Names and how they are written in models of an architecture (`ForSequenceClassification`)."""
        return {**self.spelling.get("", {}), **self.spelling.get(architecture, {})}


def respelled(name: str, spelling: Mapping[str, str]) -> str | None:
    """A name with its beginning exchanged as `spelling` says; None where it says nothing of it."""
    for old, new in spelling.items():
        if name == old or name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return None


def dense(ours: str, *theirs: str, optional: bool = False) -> list[Rename]:
    """Weight and bias of a layer; several of theirs are joined in one of ours."""
    return [
        weight(ours, *theirs, part="weight", optional=optional),
        weight(ours, *theirs, part="bias", optional=optional),
    ]


def weight(ours: str, *theirs: str, part: str = "weight", optional: bool = False) -> Rename:
    """One tensor of a layer."""
    return Rename(f"{ours}.{part}", tuple(f"{name}.{part}" for name in theirs), optional=optional)


def activation_of(settings: Mapping[str, Any], key: str, where: str) -> str:
    """Our name of the activation under a key of config.json; `gelu` when the key is missing.

    Raises:
        InputError: one that is not known.
    """
    name = settings.get(key, "gelu")
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise InputError(f"{where}: {key} is {name!r}; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def must_be(settings: Mapping[str, Any], key: str, value: object, where: str) -> None:
    """Refuse a variant of the family that the encoder has no wiring for.

    Raises:
        InputError: the key is there and holds something else.
    """
    found = settings.get(key, value)
    if found != value:
        raise InputError(f"{where}: {key} is {found!r}; only {value!r} is supported")
