"""What a SavedModel's graph tells besides its weights: constants, operations, signatures, assets.

Only the needed fields are looked at, of tensorflow/core/protobuf/{saved_model,meta_graph,saved_object_graph,
trackable_object_graph}.proto and tensorflow/core/framework/{graph,function,node_def,tensor}.proto.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bertune.errors import InputError
from bertune.tensorflow_formats.bundle_index import DTYPES, STRING
from bertune.tensorflow_formats.protobuf import Message, WireError

Constant = list[int] | list[float] | list[bool] | list[bytes]

_LARGEST = 1 << 31
_TRAIN = "train"
_FLOATS, _WHOLE, _BOOLS = {1}, {3, 9}, {10}


@dataclass(frozen=True)
class Node:
    """One operation of a graph."""

    name: str
    operation: str
    message: Message

    def inputs(self) -> list[str]:
        """Names of the nodes whose outputs come in."""
        return [_node_name(name) for name in self.message.texts(3)]

    def constant(self) -> Constant:
        """The values of a Const, flat; empty when it is none or of another type."""
        value = next((value.message(8) for key, value in self.message.entries(5) if key == "value"), None)
        return [] if value is None or self.operation != "Const" else _tensor_values(value)


@dataclass(frozen=True)
class ObjectNode:
    """One object of a TF2 graph: its children by their names, as numbers of objects; the message behind it."""

    children: dict[str, int]
    message: Message = field(repr=False)


class Graph:
    """The inference graph of a SavedModel."""

    def __init__(self, path: Path) -> None:
        """Read `saved_model.pb`.

        Raises:
            InputError: it cannot be read or is damaged.
        """
        self.path = path
        try:
            if path.stat().st_size > _LARGEST:
                raise WireError("larger than 2 GiB, which a SavedModel cannot be")
            graphs = list(Message(path.read_bytes()).messages(2))
            if not graphs:
                raise WireError("it holds no graph")
            self._meta = next((graph for graph in graphs if _TRAIN not in graph.message(1).texts(4)), graphs[0])
            self._graph = self._meta.message(2)
            self.nodes = {node.name: node for node in _nodes(self._graph, 1)}
            self.signatures = dict(self._meta.entries(5))
            self.objects = [_object(node) for node in self._meta.message(7).messages(1)]
            self._assets = list(self._asset_files())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        except WireError as error:
            raise damaged(path, error) from error

    def function_nodes(self) -> Iterator[Node]:
        """The nodes inside of the graph's functions, where TF2 keeps its computations."""
        for function in self._graph.message(2).messages(1):
            yield from _nodes(function, 3)

    def constant(self, name: str) -> Constant:
        """The values of the constant behind a tensor's or node's name; empty when none is behind it."""
        node = self.nodes.get(_node_name(name))
        for _ in range(len(self.nodes)):
            if node is None or node.operation != "Identity" or not node.inputs():
                break
            node = self.nodes.get(node.inputs()[0])
        return [] if node is None else node.constant()

    def signature_output(self, signature: str, output: str) -> str | None:
        """Name of the tensor that a signature gives out."""
        found = self.signatures.get(signature)
        tensors = {} if found is None else dict(found.entries(2))
        return tensors[output].text(1) if output in tensors else None

    def asset_of(self, tensor: str) -> Path | None:
        """The file whose name a tensor holds; None when it is not there."""
        name = next((name for holder, name in self._assets if _node_name(holder) == _node_name(tensor)), None)
        return None if name is None else self.asset_file(name)

    def asset_number(self, index: int) -> Path | None:
        """The file of an asset by its number; None when it is not there."""
        return self.asset_file(self._assets[index][1]) if 0 <= index < len(self._assets) else None

    def asset_file(self, name: str) -> Path | None:
        """A file in the folder of assets; None when it is not there or not in that folder."""
        inside = name and ".." not in Path(name).parts and not Path(name).is_absolute() and "\0" not in name
        path = self.path.parent / "assets" / name
        return path if inside and path.is_file() else None

    def _asset_files(self) -> Iterator[tuple[str, str]]:
        """The tensor's name and the file's name of every asset; TF1 keeps them in a collection."""
        for asset in self._meta.messages(6):
            yield asset.message(1).text(1), asset.text(2)
        for name, collection in self._meta.entries(4):
            if name == "saved_model_assets":
                for item in collection.message(5).messages(1):
                    asset = item.message(2)
                    yield asset.message(1).text(1), asset.text(2)


def damaged(path: Path, error: WireError) -> InputError:
    """The error for a file that is no sound SavedModel."""
    return InputError(f"{path}: not a sound SavedModel: {error}. Copy or download it again.")


def object_nodes(graph: Message) -> list[ObjectNode]:
    """The objects of a TrackableObjectGraph or SavedObjectGraph; number 0 is the root."""
    return [_object(node) for node in graph.messages(1)]


def _object(node: Message) -> ObjectNode:
    return ObjectNode({child.text(2): child.integer(1) for child in node.messages(1)}, node)


def _nodes(owner: Message, number: int) -> Iterator[Node]:
    for message in owner.messages(number):
        yield Node(message.text(1), message.text(2), message)


def _node_name(tensor: str) -> str:
    """`name:0` and `^name` are the node `name`."""
    return tensor.removeprefix("^").partition(":")[0]


def _tensor_values(tensor: Message) -> Constant:
    """The values of a TensorProto, flat; one value may stand for many alike."""
    kind = tensor.integer(1)
    if kind == STRING:
        return [bytes(value) for value in tensor.views(8)]
    content = tensor.data(4)
    if len(content):
        dtype = DTYPES.get(kind)
        if dtype is None or len(content) % dtype.itemsize:
            raise WireError(f"a constant of type {kind} has {len(content)} bytes")
        values: Constant = np.frombuffer(content, dtype).tolist()
        return values
    if kind in _FLOATS:
        return tensor.floats(5)
    if kind in _WHOLE:
        return tensor.integers(7 if kind == 3 else 10)
    return [bool(value) for value in tensor.integers(11)] if kind in _BOOLS else []
