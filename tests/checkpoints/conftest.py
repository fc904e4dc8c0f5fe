"""Transformers' BERT with the tensors of a Google checkpoint: the reference that recorded outputs are compared with."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bertune.checkpoints.google import ENCODER, GoogleCheckpoint
from bertune.checkpoints.names import for_layers, to_ours

Inputs: TypeAlias = "Mapping[str, npt.NDArray[np.int32]]"
Reference: TypeAlias = "Callable[[GoogleCheckpoint, Inputs], tuple[torch.Tensor, torch.Tensor]]"

_LAYER = {
    "attention.output.": "attention.output.dense.",
    "attention_norm.": "attention.output.LayerNorm.",
    "feed_forward.up.": "intermediate.dense.",
    "feed_forward.down.": "output.dense.",
    "feed_forward_norm.": "output.LayerNorm.",
}
_OTHER = {
    "embeddings.word.": "embeddings.word_embeddings.",
    "embeddings.position.": "embeddings.position_embeddings.",
    "embeddings.segment.": "embeddings.token_type_embeddings.",
    "embeddings.norm.": "embeddings.LayerNorm.",
    "pooler.": "pooler.dense.",
}


@pytest.fixture(scope="session")
def reference_outputs() -> Reference:
    """Runs a checkpoint's encoder on inputs. Returns: sequence output and pooled output."""
    return _reference_outputs


def _reference_outputs(checkpoint: GoogleCheckpoint, inputs: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
    model = _hugging_face_bert(checkpoint)
    with torch.no_grad():
        out = model(
            input_ids=torch.as_tensor(inputs["input_ids"]),
            attention_mask=torch.as_tensor(inputs["input_mask"]),
            token_type_ids=torch.as_tensor(inputs["segment_ids"]),
        )
    return out.last_hidden_state, out.pooler_output


def _hugging_face_bert(checkpoint: GoogleCheckpoint) -> Callable[..., Any]:
    """The encoder, ready to run; every tensor must have found its place."""
    transformers = pytest.importorskip("transformers")
    config = checkpoint.config
    activation = {"gelu_tanh": "gelu_pytorch_tanh", "gelu": "gelu"}[config.hidden_act]
    model = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            hidden_act=activation,
            max_position_embeddings=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
        )
    )
    ours, missing, _ = to_ours(for_layers(ENCODER, config.num_hidden_layers), checkpoint.tensors)
    assert not missing
    state: dict[str, torch.Tensor] = {}
    for name, tensor in ours.items():
        for start, theirs in _OTHER.items():
            if name.startswith(start):
                state[theirs + name.removeprefix(start)] = tensor
        if name.startswith("layers."):
            _, layer, rest = name.split(".", 2)
            for start, theirs in _LAYER.items():
                if rest.startswith(start):
                    state[f"encoder.layer.{layer}.{theirs}{rest.removeprefix(start)}"] = tensor
            if rest.startswith("attention.qkv."):
                for part, piece in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
                    state[f"encoder.layer.{layer}.attention.self.{part}.{rest.rpartition('.')[2]}"] = piece
    result = model.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(name.endswith(("position_ids", "token_type_ids")) for name in result.missing_keys)
    evaluated: Callable[..., Any] = model.eval()
    return evaluated
