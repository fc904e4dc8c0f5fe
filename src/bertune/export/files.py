"""Graphs as files."""

from pathlib import Path
from typing import Any

from bertune.data.rows import file_sha256

_LARGEST = 2**31 - 2**20
"""Bytes from which protobuf cannot hold a graph, so that its weights go to a file of their own."""


def save_graph(graph: Any, path: Path, largest: int = _LARGEST) -> None:
    """Write an `onnx.ModelProto`; one of more than `largest` bytes keeps its weights in another file, `NAME_data`."""
    import onnx

    if graph.ByteSize() < largest:
        path.write_bytes(graph.SerializeToString())
        return
    onnx.save(graph, path, save_as_external_data=True, location=f"{path.name}_data", size_threshold=1024)


def external_files(path: Path) -> dict[str, str]:
    """The files beside a graph that hold its weights, and their SHA-256."""
    beside = path.with_name(f"{path.name}_data")
    return {beside.name: file_sha256(beside)} if beside.is_file() else {}


def remove_graph(path: Path) -> None:
    """Remove a graph and the file of its weights."""
    for name in (path.name, *external_files(path)):
        path.with_name(name).unlink()
