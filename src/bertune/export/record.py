"""`onnx/verification.json`: what was exported, how it compared with PyTorch, and rows to repeat where it is used."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import bertune
from bertune.data.rows import file_sha256
from bertune.export.files import external_files
from bertune.export.graph import OPSET
from bertune.export.verification import Compared, Reference, canary_features

VERIFICATION = "verification.json"
MINIMUM_RUNTIME = "1.17"
"""The oldest ONNX Runtime that the graphs are meant for."""
FORMAT = 1
CANARY_TOLERANCE = {"fp32": 1e-3, "int8": 0.05}
"""How far a canary's logits may lie from the recorded ones on another processor, as a share of the largest recorded
(at least 1). Sums in another order differ by some 1e-6; in 8 bits an activation that falls on the other side of a
rounding boundary moves logits by about a hundredth, products that saturate by far more."""


@dataclass
class Written:
    """A graph file and how it compared. float32: the products of an int8 graph that are not in 8 bits."""

    file: Path
    compared: Compared
    float32: list[str] = field(default_factory=list)


def verification_record(reference: Reference, written: Mapping[str, Written]) -> dict[str, Any]:
    """What verification.json holds. written: graphs by their precision."""
    import onnx
    import onnxruntime

    labelled, canaries = reference.labelled, canary_features(reference.model)
    answers = {graph.file.name: graph.compared.canaries for graph in written.values()}
    return {
        "format": FORMAT,
        "versions": {"bertune": bertune.__version__, "onnx": onnx.__version__},
        "onnxruntime": {"minimum": MINIMUM_RUNTIME, "exported_with": onnxruntime.__version__},
        "opset": OPSET,
        "longest_sequence": reference.model.network.encoder.config.max_position_embeddings,
        "metric": reference.metric,
        "data": labelled and {"file": labelled.name, "sha256": labelled.sha256, "rows": len(labelled.examples)},
        "pytorch": {"metrics": dict(reference.metrics)},
        "graphs": {graph.file.name: _graph_record(precision, graph) for precision, graph in written.items()},
        "canaries": [
            {
                "input_ids": canaries.input_ids[index].tolist(),
                "token_type_ids": canaries.segment_ids[index].tolist(),
                "logits": {name: rows[index].tolist() for name, rows in answers.items()},
            }
            for index in range(len(canaries))
        ],
    }


def _graph_record(precision: str, graph: Written) -> dict[str, Any]:
    compared = graph.compared
    scale = max(1.0, *(float(np.abs(row).max()) for row in compared.canaries))
    return {
        "precision": precision,
        "sha256": file_sha256(graph.file),
        "external_data": external_files(graph.file),
        "canary_tolerance": CANARY_TOLERANCE[precision] * scale,
        "largest_logit_difference": compared.difference,
        "largest_logit": compared.scale,
        "rows_compared": compared.rows,
        "metrics": dict(compared.metrics),
        "equal_answers": compared.agreement,
        "metric_lost": compared.loss,
        "float32_products": graph.float32,
    }
