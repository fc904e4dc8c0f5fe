"""What the model card of an exported folder says."""

from collections.abc import Mapping
from typing import Any


def exported_card(card: str, record: Mapping[str, Any]) -> str:
    """The model's card with a section on its export.

    Args:
        card: README.md of the model folder.
        record: what verification.json holds.
    """
    metric, data = record["metric"], record["data"]
    lines = ["", "## ONNX", "", "Exported by bertune for ONNX Runtime, transformers.js and OpenVINO (`onnx/`).", ""]
    lines += [
        f"| file | precision | largest difference of logits | equal answers | {metric} |",
        "|---|---|---|---|---|",
    ]
    for name, graph in record["graphs"].items():
        answers, value = graph["equal_answers"], graph["metrics"].get(metric)
        cells = [f"`onnx/{name}`", graph["precision"], f"{graph['largest_logit_difference']:.1e}"]
        cells += ["" if answers is None else f"{answers:.2%}", "" if value is None else f"{value:.4f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    if data is None:
        lines.append("Compared with PyTorch on made-up sequences alone: no labelled data were at hand.")
    else:
        plain = record["pytorch"]["metrics"][metric]
        lines.append(f"Compared with PyTorch ({metric} {plain:.4f}) on {data['rows']} rows of {data['file']}.")
    return card.rstrip() + "\n" + "\n".join(lines) + "\n"
