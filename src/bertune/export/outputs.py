"""What a head puts out in a graph."""

from dataclasses import dataclass
from typing import Literal

Unit = Literal["sequence", "token", "embedding"]
"""What a row of a head's output belongs to. An embedding is one row a sequence that is no logits."""


@dataclass(frozen=True)
class HeadOutput:
    """A head's output in the graph.

    value: its name. Shape: (batch, width) or (tokens, width).
    tokens: the token vectors beside an embedding; "" with other heads. Shape: (tokens, hidden).
    """

    value: str
    unit: Unit
    width: int
    tokens: str = ""
