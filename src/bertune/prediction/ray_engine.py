"""The same answers by Ray Data: chunks of examples go to actors that each hold the model; parts are written here.

Every chunk carries the number of its part and its own, so no order is asked of Ray, and a chunk that Ray computes twice
after a lost actor or machine is written once.
"""

import itertools
import pickle
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bertune.distributed.ray_map import RayOptions, ray_map
from bertune.errors import FaultError, counted
from bertune.prediction.examples import BadRow, ExampleStream, Item, merged
from bertune.prediction.parts import Parts
from bertune.prediction.shards import Share

if TYPE_CHECKING:
    from bertune.prediction.bulk import Answerer

CHUNK = 2048
"""Examples that an actor computes at a time: enough to bring similar lengths together."""

_KEPT = "finished parts are kept: run the command again with --resume"


class _Key(NamedTuple):
    """Which chunk of which part. last: whether it ends the part."""

    part: int
    number: int
    last: bool


class _Chunk(NamedTuple):
    """Some examples of a part, in order. bad: rows that were left out in them."""

    examples: list[Any]
    values: list[Mapping[str, object]]
    bad: list[BadRow]


def to_parts(answerer: "Answerer", stream: ExampleStream, share: Share, parts: Parts, options: RayOptions) -> list[int]:
    """Make the parts of a share that are not finished. Returns: the numbers of all of them.

    Raises:
        InputError: data that cannot be read; Ray is not installed, or cannot be reached.
        FaultError: Ray gave up.
    """
    finished = frozenset(number for number in parts.numbers() if parts.finished(number))
    made = set(finished)
    waiting: dict[int, dict[int, tuple[bool, bytes]]] = {}
    silent = replace(stream, report=None)

    def lanes(actors: int) -> list["_Lane"]:
        count = max(2, actors)
        return [_Lane(silent, share, finished, lane, count) for lane in range(count)]

    for (part, number, last), payload in ray_map(lanes, _Work(answerer), options, kept=_KEPT, on_gpus=True):
        if part in made:
            continue
        chunks = waiting.setdefault(part, {})
        chunks[number] = last, payload
        ends = [one for one, (is_last, _) in chunks.items() if is_last]
        if ends and len(chunks) == ends[0] + 1:
            _write(parts, part, [payload for _, (_, payload) in sorted(chunks.items())])
            del waiting[part]
            made.add(part)
    if waiting:
        raise FaultError(f"ray: part {min(waiting)} came back incomplete; run the command again with --resume")
    return sorted(made)


def _write(parts: Parts, number: int, payloads: Sequence[bytes]) -> None:
    with parts.writing(number) as part:
        for payload in payloads:
            rows, bad = pickle.loads(payload)
            for row in rows:
                part.write(row)
            part.bad += bad
    parts.log(number, counted(part.rows, "row"))


@dataclass(frozen=True)
class _Work:
    """Answers chunks of examples."""

    answerer: "Answerer"

    def __call__(self, chunk: _Chunk) -> tuple[list[dict[str, Any]], list[BadRow]]:
        """Rows to write, and those that were left out."""
        answers = self.answerer.answers(chunk.examples)
        return [merged(own, answer) for own, answer in zip(chunk.values, answers, strict=True)], chunk.bad


@dataclass(frozen=True)
class _Lane:
    """The chunks of some of the parts, for which the whole input is read."""

    stream: ExampleStream
    share: Share
    finished: frozenset[int]
    lane: int
    lanes: int
    bad: deque[BadRow] = field(default_factory=deque)

    def __iter__(self) -> Iterator[tuple[_Key, _Chunk]]:
        self.bad.clear()
        stream = replace(self.stream, report=self.bad.append)
        end = self.share.end
        items = itertools.takewhile(lambda item: end is None or item.number < end, stream)
        held: tuple[int, int, _Chunk] | None = None
        for part, group in itertools.groupby(items, key=lambda item: self._part(item.number)):
            if part is None:
                continue
            for number, some in enumerate(_batched(group, CHUNK)):
                if held is not None:
                    yield self._with_bad(*held, last=held[0] != part)
                held = part, number, _Chunk([item.example for item in some], [item.values for item in some], [])
        if held is not None:
            yield self._with_bad(*held, last=True)

    def _part(self, number: int) -> int | None:
        part = self.share.part(number)
        mine = part is not None and part // self.share.count % self.lanes == self.lane
        return part if mine and part not in self.finished else None

    def _with_bad(self, part: int, number: int, chunk: _Chunk, *, last: bool) -> tuple[_Key, _Chunk]:
        """The chunk with the rows that were left out of its part so far."""
        rest = [self.bad.popleft() for _ in range(len(self.bad))]
        mine = [row for row in rest if self._part(row.after) == part]
        self.bad.extend(row for row in rest if (self._part(row.after) or 0) > part)
        return _Key(part, number, last), chunk._replace(bad=mine)


def _batched(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while some := list(itertools.islice(items, size)):
        yield some
