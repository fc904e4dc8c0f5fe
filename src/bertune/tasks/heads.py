"""Heads that tasks share, on the last layer or on several, and how a Hugging Face folder keeps them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.checkpoints.huggingface import KIND
from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import on_rows
from bertune.tasks.layers import LayersHead
from bertune.tasks.task import HuggingFaceHead


class PooledHead(nn.Module):
    """Dropout and a linear layer on the pooled output, in float32. weight: Shape: (outputs, hidden)."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = nn.Dropout(0.1)  # google-research/bert fixes this rate in run_classifier.py
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: pooled_output (sequences, hidden) → (sequences, outputs)."""
        dropped = self.dropout(output.pooled_output.float())
        return on_rows(lambda rows: F.linear(rows, self.weight, self.bias), dropped)


class TokenHead(nn.Module):
    """Dropout and a linear layer on every token, in float32. weight: Shape: (outputs, hidden)."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: sequence_output (tokens, hidden) → (tokens, outputs)."""
        return F.linear(self.dropout(output.token_output.float()), self.weight, self.bias)


def pooled_head(config: EncoderConfig, outputs: int, layers: str) -> PooledHead | LayersHead:
    """A linear layer on the pooled output; with several layers on their first token. layers: `--layers`.

    Raises:
        InputError: more layers than the encoder has.
    """
    return PooledHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=False)


def token_head(config: EncoderConfig, outputs: int, layers: str) -> TokenHead | LayersHead:
    """A linear layer on every token, of the last layer or of several.

    Raises:
        InputError: more layers than the encoder has.
    """
    return TokenHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=True)


def linear_in_folder(
    architecture: str, layers: str, settings: Mapping[str, Any] | None = None, *, tensor: str = "classifier"
) -> HuggingFaceHead:
    """How a folder keeps a linear head.

    A head on several layers is none that transformers has a class for: it stands as `head.` beside an encoder for
    `AutoModel`, and config.json says under `KIND` what it is.

    Args:
        architecture: transformers' class for a head on the last layer, after the family's name.
        layers: `--layers`.
        settings: what config.json tells of the head.
        tensor: transformers' name of the linear layer.
    """
    if layers == "last":
        names = [Rename(name, (f"{tensor}.{name}",)) for name in ("weight", "bias")]
        return HuggingFaceHead(architecture, names, settings or {})
    names = [Rename(name, (f"head.{name}",)) for name in ("weight", "bias", *mix_names(layers))]
    return HuggingFaceHead("Model", names, {**(settings or {}), KIND: architecture})


def is_for(settings: Mapping[str, Any], architecture: str, *, unsaid: bool = False) -> bool:
    """Whether config.json says that a model's head is of this kind.

    Args:
        settings: config.json.
        architecture: as `linear_in_folder` takes it, or `Embedding`.
        unsaid: the answer where it names no head at all.
    """
    if KIND in settings:
        return bool(settings[KIND] == architecture)
    architectures = settings.get("architectures")
    named = [str(name) for name in architectures if "For" in str(name)] if isinstance(architectures, list) else []
    return any(name.endswith(architecture) for name in named) if named else unsaid


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
