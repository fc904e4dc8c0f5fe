"""`bertune export`."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertune.cli.using import parse_for_model


def main(argv: Sequence[str]) -> None:
    """Write a model as a folder that runs without torch."""
    from bertune.export.options import ExportOptions

    about = "Export a model to ONNX, after comparing it with PyTorch."
    (options,), task_options = parse_for_model("bertune export", about, [ExportOptions], argv)

    from bertune.export.folder import export

    record = export(options, task_options)
    _print(options.output, record)


def _print(output: str, record: Mapping[str, Any]) -> None:
    from rich.console import Console

    from bertune.tables import table_of

    metric = record["metric"]
    facts: dict[str, str] = {}
    if value := record["pytorch"]["metrics"].get(metric):
        facts[f"PyTorch, {metric}"] = f"{value:.4f}"
    for name, graph in record["graphs"].items():
        facts[f"{name}, logits within"] = f"{graph['largest_logit_difference']:.1e}"
        if (value := graph["metrics"].get(metric)) is not None:
            facts[f"{name}, {metric}"] = f"{value:.4f}"
        if graph["equal_answers"] is not None:
            facts[f"{name}, equal answers"] = f"{graph['equal_answers']:.2%}"
        if graph["float32_products"]:
            facts[f"{name}, products in float32"] = str(len(graph["float32_products"]))
    Console().print(table_of(f"exported to {output}", facts))
