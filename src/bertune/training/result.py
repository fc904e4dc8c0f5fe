"""What a training run came to."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainResult:
    """What a run came to.

    metrics: as in metrics.json.
    more: the rest of it: baselines, mean and spread over seeds, what the metrics depend on (`qa_metric`).
    collapse: how the model that is kept collapsed, if it did in a run that was long enough to learn something.
    """

    output: Path
    metrics: dict[str, float]
    steps: int
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    collapse: str | None = None

    def _repr_html_(self) -> str:
        """For notebooks: the metrics as a table, beside those of simple methods where they are known."""
        methods: Mapping[str, Mapping[str, float]] = self.more.get("baselines", {})
        heads = "".join(f"<th>{escape(name)}</th>" for name in ("", "model", *methods))
        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{value:.4f}</td>"
            + "".join(f"<td>{found[name]:.4f}</td>" if name in found else "<td></td>" for found in methods.values())
            + "</tr>"
            for name, value in self.metrics.items()
        )
        caption = escape(f"{self.output}: {self.steps} steps")
        return f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
