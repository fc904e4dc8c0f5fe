"""How a Hugging Face folder keeps heads and labels, and what its config.json says of a model's head."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertune.checkpoints.names import KIND, Rename
from bertune.tasks.options import FIRST_TOKEN, PAIR
from bertune.tasks.protocol import HuggingFaceHead


def linear_in_folder(
    architecture: str,
    layers: str,
    settings: Mapping[str, Any] | None = None,
    *,
    tensor: str = "classifier",
    pooling: str = FIRST_TOKEN,
) -> HuggingFaceHead:
    """How a folder keeps a linear head.

    A head on several layers, or one that compares two texts, is none that transformers has a class for: it stands as
    `head.` beside an encoder for `AutoModel`, and config.json says under `KIND` what it is.

    Args:
        architecture: transformers' class for a head on the last layer, after the family's name.
        layers: `--layers`.
        pooling: `--pooling`.
        settings: what config.json tells of the head.
        tensor: transformers' name of the linear layer.
    """
    if layers == "last" and pooling != PAIR:
        names = [Rename(name, (f"{tensor}.{name}",)) for name in ("weight", "bias")]
        return HuggingFaceHead(architecture, names, settings or {})
    more = ("dense_weight", "dense_bias") if pooling == PAIR else mix_names(layers)
    names = [Rename(name, (f"head.{name}",)) for name in ("weight", "bias", *more)]
    return HuggingFaceHead("Model", names, {**(settings or {}), KIND: architecture})


def is_for(settings: Mapping[str, Any], architecture: str, *, default: bool = False) -> bool:
    """Whether config.json says that a model's head is of this kind.

    Args:
        settings: config.json.
        architecture: as `linear_in_folder` takes it, or `Embedding`.
        default: the answer where it names no head at all.
    """
    if KIND in settings:
        return bool(settings[KIND] == architecture)
    architectures = settings.get("architectures")
    named = [str(name) for name in architectures if "For" in str(name)] if isinstance(architectures, list) else []
    return any(name.endswith(architecture) for name in named) if named else default


def mix_names(layers: str) -> tuple[str, ...]:
    """The tensors of a head's learned mix of layers, if it has one."""
    return ("mix.weights", "mix.scale") if layers == "mix" else ()


def label_settings(labels: Sequence[str], problem_type: str | None = None) -> dict[str, Any]:
    """What config.json says of labels, in the order of the logits, and of the problem's type."""
    named: dict[str, Any] = {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    return named if problem_type is None else named | {"problem_type": problem_type}


def labels_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The label names of a Hugging Face config in order; none when it has no head or only made-up names (LABEL_0)."""
    names = settings.get("id2label")
    if not isinstance(names, Mapping):
        return ()
    ordered = tuple(str(names[key]) for key in sorted(names, key=int))
    return () if all(label == f"LABEL_{i}" for i, label in enumerate(ordered)) else ordered
