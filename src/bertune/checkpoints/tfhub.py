"""BERT encoders from TensorFlow Hub: TF1 modules and TF2 SavedModels, read without TensorFlow.

Both are folders with `saved_model.pb`, `variables/` and `assets/`. A TF1 module keeps the names of
google-research/bert, perhaps below a prefix. A TF2 SavedModel names its variables by a graph of objects and follows the
Keras encoder of the TensorFlow Model Garden (official/nlp), whose attention kernels have three axes. Neither has a
config: sizes come from shapes, heads, activation and epsilon from the graph, casing and vocabulary from what the module
says of itself.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from bertune.checkpoints.archives import is_archive, member_names, opened
from bertune.checkpoints.google import GoogleCheckpoint, check_shapes, heads_in, is_slot
from bertune.checkpoints.keras_names import flat, keras_heads, keras_names, only_one_encoder, stored_objects
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.tensorflow_formats.protobuf import WireError
from bertune.tensorflow_formats.saved_model import Graph, Node, ObjectNode, damaged
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.tokenization.casing import Casing, casing_of
from bertune.tokenization.vocabulary_files import read_vocabulary

_GRAPH_FILE = "saved_model.pb"
_TF1_NAME = re.compile(r"(?:^|/)((?:bert|cls)/.+)$")


def is_tfhub_module(path: Path) -> bool:
    """Whether `path` is a folder with a SavedModel, or an archive of one."""
    if path.is_dir():
        return (path / _GRAPH_FILE).is_file()
    return is_archive(path) and any(name.rpartition("/")[2] == _GRAPH_FILE for name in member_names(path))


def read_tfhub_module(path: Path) -> GoogleCheckpoint:
    """Read a TF1 module or TF2 SavedModel of a BERT encoder.

    Returns: its tensors under google-research/bert's names, in their layout. From an archive, which is unpacked only
        for the time of reading, `vocab_file` is None; `vocab_lines` is there all the same.

    Raises:
        InputError: something is missing, damaged, or no BERT encoder.
    """
    with opened(path) as folder:
        if not (folder / _GRAPH_FILE).is_file():
            raise InputError(f"{path}: no TF-Hub module: {_GRAPH_FILE} is missing")
        try:
            checkpoint = _read(folder)
        except WireError as error:
            raise damaged(folder / _GRAPH_FILE, error) from error
    if path.is_dir():
        return checkpoint
    return replace(checkpoint, vocab_file=None, prefix=path)


def _read(folder: Path) -> GoogleCheckpoint:
    graph = Graph(folder / _GRAPH_FILE)
    bundle = TensorBundle(folder / "variables" / "variables")
    objects = stored_objects(bundle)
    names = keras_names(bundle, objects) if objects else _tf1_names(bundle)
    shapes = {name: bundle.shape(key) for name, key in names.items()}
    where = str(bundle.prefix)
    heads = keras_heads(shapes) if objects else _tf1_heads(graph)
    plain = {name: flat(name, shape) for name, shape in shapes.items()}
    config = _config(plain, heads, graph, where)
    check_shapes(config, plain, where).raise_if_any()
    vocabulary = _vocabulary(graph)
    lines = None if vocabulary is None else read_vocabulary(vocabulary)
    lower = _tf2_casing(graph, bundle, objects) if objects else _tf1_casing(graph)
    casing = Casing(lower, "the module says so")
    if lower is None and lines is not None:
        casing = casing_of(lines)
    return GoogleCheckpoint(
        config=config,
        tensors={
            name: torch.from_numpy(bundle.read(key).astype(np.float32, copy=False).reshape(plain[name]))
            for name, key in names.items()
        },
        prefix=bundle.prefix,
        vocab_file=vocabulary,
        vocab_lines=lines,
        do_lower_case=casing.lower,
        heads=heads_in(list(names)),
        global_step=None,
        casing_reason=casing.reason,
    )


def _tf1_names(bundle: TensorBundle) -> dict[str, str]:
    """Google's name → the module's own, which may have a prefix before `bert/`."""
    found = ((match[1], key) for key in bundle.names() if not is_slot(key) and (match := _TF1_NAME.search(key)))
    return only_one_encoder(found, bundle)


def _tf1_heads(graph: Graph) -> int | None:
    """Attention heads: queries are given the shape [batch, tokens, heads, head size] by an operation `Reshape`."""
    suffix = "layer_0/attention/self/Reshape/shape"
    node = next((node for name, node in graph.nodes.items() if name.endswith(suffix)), None)
    if node is None:
        return None
    sizes = node.constant()
    if node.operation == "Pack" and len(node.inputs()) == 4:
        sizes = graph.constant(node.inputs()[2])
        return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], int) else None
    return sizes[2] if len(sizes) == 4 and isinstance(sizes[2], int) else None


def _config(shapes: Mapping[str, tuple[int, ...]], heads: int | None, graph: Graph, where: str) -> EncoderConfig:
    """Sizes from shapes (in Google's layout), activation and epsilon from the graph."""

    def size(name: str, axis: int) -> int:
        shape = shapes.get(name, ())
        if len(shape) <= axis:
            raise InputError(f"{name} is missing or has shape {list(shape)}; is this a BERT encoder?")
        return shape[axis]

    if not heads or heads < 1:
        raise InputError(f"{where}: neither shapes nor graph tell how many attention heads there are")
    activation, epsilon = _activation_and_epsilon([*graph.nodes.values(), *graph.function_nodes()])
    layers = (re.match(r"bert/encoder/layer_(\d{1,4})/", name) for name in shapes)
    try:
        return EncoderConfig(
            vocab_size=size("bert/embeddings/word_embeddings", 0),
            hidden_size=size("bert/embeddings/word_embeddings", 1),
            num_hidden_layers=1 + max((int(layer[1]) for layer in layers if layer), default=0),
            num_attention_heads=heads,
            intermediate_size=size("bert/encoder/layer_0/intermediate/dense/kernel", 1),
            hidden_act=activation,
            max_position_embeddings=size("bert/embeddings/position_embeddings", 0),
            type_vocab_size=size("bert/embeddings/token_type_embeddings", 0),
            layer_norm_eps=epsilon,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _activation_and_epsilon(nodes: Iterable[Node]) -> tuple[str, float]:
    """The feed-forward's activation and layer normalisation's epsilon; the tanh form of gelu unless the graph tells."""
    operations: set[str] = set()
    epsilons: set[float] = set()
    for node in nodes:
        operations.add(node.operation)
        if node.name.endswith("batchnorm/add/y"):
            # The shortest decimal of the 32-bit number is what was written in the source: 1e-12.
            epsilons.update(float(str(np.float32(value))) for value in node.constant() if isinstance(value, float))
    activation = "gelu" if "Erf" in operations else "relu" if "Relu" in operations else "gelu_tanh"
    return activation, epsilons.pop() if len(epsilons) == 1 else 1e-12


def _vocabulary(graph: Graph) -> Path | None:
    """The vocabulary's file: as the module names it, else `assets/vocab.txt`."""
    tensor = graph.signature_output("tokenization_info", "vocab_file")
    found = graph.asset_of(tensor) if tensor else None
    number = graph.objects[0].children.get("vocab_file") if graph.objects else None
    if number is not None and 0 <= number < len(graph.objects):
        found = graph.asset_number(graph.objects[number].message.message(5).integer(1))
    return found or graph.asset_file("vocab.txt")


def _tf1_casing(graph: Graph) -> bool | None:
    """The constant behind the signature `tokenization_info`'s output `do_lower_case`."""
    tensor = graph.signature_output("tokenization_info", "do_lower_case")
    values = graph.constant(tensor) if tensor else []
    return bool(values[0]) if len(values) == 1 else None


def _tf2_casing(graph: Graph, bundle: TensorBundle, objects: list[ObjectNode]) -> bool | None:
    """The root's `do_lower_case`: a variable in the checkpoint, or a constant in the graph."""
    number = objects[0].children.get("do_lower_case")
    if number is not None and 0 <= number < len(objects):
        for attribute in objects[number].message.messages(2):
            if (key := attribute.text(3)) in bundle and bundle.shape(key) == ():
                return bool(bundle.read(key))
    number = graph.objects[0].children.get("do_lower_case") if graph.objects else None
    if number is not None and 0 <= number < len(graph.objects):
        values = graph.constant(graph.objects[number].message.message(9).text(1))
        return bool(values[0]) if len(values) == 1 else None
    return None
