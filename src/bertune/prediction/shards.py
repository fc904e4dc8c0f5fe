"""Which examples a process answers: `--shard I/N`, parts of so many rows, ranks."""

import re
from dataclasses import dataclass

from bertune.errors import InputError

ROWS_PER_PART = 100_000


@dataclass(frozen=True)
class Shard:
    """One of several processes that share the work. index: from 0.  count: how many there are."""

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> "Shard":
        """From `I/N`, I counted from 0 as schedulers count (SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX).

        Raises:
            InputError: anything else.
        """
        if text is None:
            return cls()
        match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if not match or not int(match[1]) < int(match[2]):
            raise InputError(f"--shard {text}: expected I/N, shards counted from 0: 0/4, 1/4, 2/4, 3/4")
        return cls(int(match[1]), int(match[2]))

    def slice_of(self, total: int) -> range:
        """The examples of this shard, next to each other, so that the shards in order are the whole."""
        return range(total * self.index // self.count, total * (self.index + 1) // self.count)


@dataclass(frozen=True)
class Share:
    """The examples that a process answers, in parts.

    begin, end: first example, and the one behind the last (None: to the end).
    rows: examples of a part.
    index, count: of the parts, those whose number is `index` modulo `count`.
    rank, ranks: of these, in order, those whose place is `rank` modulo `ranks`. So a shard holds the same parts however
        many ranks make it.
    """

    begin: int = 0
    end: int | None = None
    rows: int = ROWS_PER_PART
    index: int = 0
    count: int = 1
    rank: int = 0
    ranks: int = 1

    def part(self, example: int) -> int | None:
        """The number of the part that an example belongs to; None where another process answers it."""
        if example < self.begin or (self.end is not None and example >= self.end):
            return None
        number = (example - self.begin) // self.rows
        mine = number % self.count == self.index and number // self.count % self.ranks == self.rank
        return number if mine else None
