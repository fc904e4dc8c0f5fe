"""BERT encoders of the TensorFlow Model Garden (official/nlp): variables named by a graph of objects.

A TF2 checkpoint numbers its tensors; the graph of objects stored with them tells the variables' full names. Attention
kernels have three axes: (hidden, heads, head size), and the output's (heads, head size, hidden).
"""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from bertune.errors import InputError
from bertune.tensorflow_formats.protobuf import Message, WireError
from bertune.tensorflow_formats.saved_model import ObjectNode, object_nodes
from bertune.tensorflow_formats.tensor_bundle import TensorBundle

_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_LAYER = r"(?:^|/)layer_(\d+)/"
_NAMES: list[tuple[str, str]] = [
    (r"(?:^|/)word_embeddings/embeddings$", "bert/embeddings/word_embeddings"),
    (r"(?:^|/)position_embeddings?(?:/(?:position_)?embeddings)?$", "bert/embeddings/position_embeddings"),
    (r"(?:^|/)type_embeddings(?:/embeddings)?$", "bert/embeddings/token_type_embeddings"),
    (r"(?:^|/)(?:embeddings|embedding_postprocessor)/layer_norm/(gamma|beta)$", r"bert/embeddings/LayerNorm/\1"),
    (_LAYER + r"self_attention/(query|key|value)/(kernel|bias)$", r"bert/encoder/layer_\1/attention/self/\2/\3"),
    (
        _LAYER + r"(?:self_attention/attention_output|self_attention_output)/(kernel|bias)$",
        r"bert/encoder/layer_\1/attention/output/dense/\2",
    ),
    (_LAYER + r"self_attention_layer_norm/(gamma|beta)$", r"bert/encoder/layer_\1/attention/output/LayerNorm/\2"),
    (_LAYER + r"intermediate/(kernel|bias)$", r"bert/encoder/layer_\1/intermediate/dense/\2"),
    (_LAYER + r"output/(kernel|bias)$", r"bert/encoder/layer_\1/output/dense/\2"),
    (_LAYER + r"output_layer_norm/(gamma|beta)$", r"bert/encoder/layer_\1/output/LayerNorm/\2"),
    (r"(?:^|/)pooler_transform/(kernel|bias)$", r"bert/pooler/dense/\1"),
    (r"(?:^|/)(cls/predictions/transform/(?:dense/(?:kernel|bias)|LayerNorm/(?:gamma|beta)))$", r"\1"),
    (r"(?:^|/)cls/predictions/output_bias(?:/bias)?$", "cls/predictions/output_bias"),
]
"""The Model Garden's names, of its earlier and later encoders → google-research/bert's."""


def stored_objects(bundle: TensorBundle) -> list[ObjectNode]:
    """The graph of objects in a TF2 checkpoint, root first; empty in one of TF1.

    Raises:
        InputError: it is damaged.
    """
    if _OBJECTS not in bundle:
        return []
    try:
        return object_nodes(Message(b"".join(bundle.read_strings(_OBJECTS))))
    except WireError as error:
        raise InputError(f"{bundle.prefix}: its graph of objects is damaged: {error}") from error


def keras_names(bundle: TensorBundle, objects: Iterable[ObjectNode]) -> dict[str, str]:
    """google-research/bert's name → the checkpoint's key.

    Raises:
        InputError: no encoder, or two.
    """
    found: list[tuple[str, str]] = []
    try:
        full_names = [(item.text(2), item.text(3)) for node in objects for item in node.message.messages(2)]
    except WireError as error:
        raise InputError(f"{bundle.prefix}: its graph of objects is damaged: {error}") from error
    for name, key in full_names:
        for pattern, google in _NAMES:
            if key in bundle and (match := re.search(pattern, name)):
                found.append((match.expand(google), key))
                break
    return only_one_encoder(dict.fromkeys(found), bundle)


def only_one_encoder(found: Iterable[tuple[str, str]], bundle: TensorBundle) -> dict[str, str]:
    """Pairs of google-research/bert's name and the checkpoint's key as a table of its weights.

    Raises:
        InputError: no encoder, or two.
    """
    names: dict[str, str] = {}
    for name, key in found:
        if names.setdefault(name, key) != key:
            raise InputError(f"{bundle.prefix}: holds two encoders: both {names[name]} and {key} are {name}")
    if "bert/embeddings/word_embeddings" not in names:
        some = ", ".join(bundle.names()[:4]) or "nothing"
        raise InputError(f"{bundle.prefix}: holds no BERT encoder (no word embeddings), but {some}, …")
    return {name: key for name, key in names.items() if np.issubdtype(bundle.dtype(key), np.floating)}


def flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape with the axes of heads and head size joined, as google-research/bert stores them."""
    if name.endswith("/attention/output/dense/kernel") and len(shape) == 3:
        return (shape[0] * shape[1], shape[2])
    if "/attention/self/" in name and len(shape) == (3 if name.endswith("kernel") else 2):
        return (*shape[:-2], shape[-2] * shape[-1])
    return shape


def keras_heads(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Attention heads: the middle axis of a query kernel (hidden, heads, head size); None without such an axis."""
    shape = shapes.get("bert/encoder/layer_0/attention/self/query/kernel", ())
    return shape[1] if len(shape) == 3 else None
