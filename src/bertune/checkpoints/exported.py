"""Folders that `bertune export` wrote: what they hold, and whether their graphs are still those that were compared."""

from pathlib import Path
from typing import Any

from bertune.data.rows import file_sha256
from bertune.errors import Problems
from bertune.files.json_files import read_json

VERIFICATION = Path("onnx") / "verification.json"


def is_exported(folder: Path) -> bool:
    """Whether a folder holds graphs of `bertune export`, and no weights to train on."""
    return (folder / VERIFICATION).is_file() and not (folder / "model.safetensors").is_file()


def describe_exported(folder: Path) -> dict[str, Any]:
    """Task, family, graphs with their figures, and hashes.

    Raises:
        InputError: a graph that is missing, damaged or exchanged.
    """
    record, config = read_json(folder / VERIFICATION), read_json(folder / "config.json")
    model = read_json(folder / "bertune.json")
    problems, graphs, hashes = Problems(), dict[str, str](), dict[str, str]()
    for name, graph in record.get("graphs", {}).items():
        for file, expected in {name: graph["sha256"], **graph.get("external_data", {})}.items():
            path = folder / "onnx" / file
            if not path.is_file():
                problems.add(f"{path}: is missing, though {VERIFICATION} lists it; export the model again")
            elif (found := file_sha256(path)) != expected:
                problems.add(
                    f"{path}: its SHA-256 is {found}, but {VERIFICATION} says {expected}; it was damaged or exchanged"
                )
            hashes[f"onnx/{file}"] = expected
        graphs[name] = _figures(graph, str(record.get("metric")))
    problems.raise_if_any()
    return {
        "format": "ONNX",
        "family": config.get("model_type"),
        "task": model.get("task", {}),
        "max_seq_length": model.get("max_seq_length"),
        "labels": list(config.get("id2label", {}).values()),
        "graphs": graphs,
        "compared_on": record.get("data") or "made-up sequences",
        "canaries": len(record.get("canaries", [])),
        "versions": {
            **record.get("versions", {}),
            "onnxruntime": record.get("onnxruntime", {}),
            "opset": record["opset"],
        },
        "sha256": hashes,
    }


def _figures(graph: dict[str, Any], metric: str) -> str:
    told = f"{graph['precision']}, logits within {graph['largest_logit_difference']:.1e} of PyTorch's"
    if (value := graph.get("metrics", {}).get(metric)) is not None:
        told += f", {metric} {value:.4f} ({graph['metric_lost']:+.4f} lost)"
    return told
