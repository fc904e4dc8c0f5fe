"""What waits in a batcher: requests, pieces of them, and pieces that were tokenized together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertune.features import Features
from bertune.serving.errors import RequestError

Prediction = dict[str, Any]


@dataclass(eq=False)
class Ticket:
    """One request in the batcher.

    items: what to answer.  estimates: tokens expected of each, before it is tokenized.
    answers: one an item, once it is done.  error: why there are none.
    """

    items: Sequence[Any]
    estimates: Sequence[int]
    done: Callable[[], None]
    submitted: float = field(default_factory=time.perf_counter)
    started: float | None = None
    computed: float = 0.0
    answers: list[Prediction | None] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    error: RequestError | None = None
    cancelled: bool = False
    remaining: int = 0
    next_item: int = 0

    def __post_init__(self) -> None:
        self.remaining = len(self.items)
        self.answers = [None] * len(self.items)


@dataclass(frozen=True, eq=False)
class Piece:
    """Some consecutive items of one request."""

    ticket: Ticket
    start: int
    stop: int

    @property
    def tokens(self) -> int:
        """Tokens expected."""
        return sum(self.ticket.estimates[self.start : self.stop])


@dataclass(frozen=True, eq=False)
class Group:
    """Pieces that were tokenized together. places: the piece, and the item in it, of every example."""

    places: list[tuple[Ticket, int]]
    examples: list[Any]
    features: Features
