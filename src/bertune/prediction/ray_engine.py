"""The same answers by Ray Data: reading tasks, a pool of actors that each hold the model, parts written in order.

    reading tasks (one a lane of parts) → chunks of examples → actors → answers → this process → parts

Every chunk carries the number of its part and its own, so no order is asked of Ray, and a chunk that Ray computes twice
after a lost actor or machine is written once. Without an address Ray runs on this machine, for as long as the call.
"""

import contextlib
import itertools
import logging
import os
import pickle
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bertune.errors import FaultError, InputError, counted
from bertune.prediction.examples import BadRow, ExampleStream, Item, merged
from bertune.prediction.parts import Parts
from bertune.prediction.shards import Share

if TYPE_CHECKING:
    import pyarrow as pa

    from bertune.prediction.bulk import Answerer

logger = logging.getLogger(__name__)

CHUNK = 2048
"""Examples that an actor computes at a time: enough to bring similar lengths together."""
_ACTOR_CPUS, _READER_CPUS = 0.9, 0.05
"""Shares of a core: what reads must find room beside actors on every core."""


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster; None: this machine alone.  actors: models at work; None: one a core, or one a GPU."""

    address: str | None = None
    actors: int | None = None


class _Chunk(NamedTuple):
    """Some examples of a part, in order. last: whether they end it.  bad: rows that were left out in them."""

    part: int
    number: int
    last: bool
    examples: list[Any]
    values: list[Mapping[str, object]]
    bad: list[BadRow]


def to_parts(answerer: "Answerer", stream: ExampleStream, share: Share, parts: Parts, options: RayOptions) -> list[int]:
    """Make the parts of a share that are not finished. Returns: the numbers of all of them.

    Raises:
        InputError: data that cannot be read; Ray is not installed, or cannot be reached.
        FaultError: Ray gave up.
    """
    finished = {number for number in parts.numbers() if parts.finished(number)}
    made = set(finished)
    waiting: dict[int, dict[int, tuple[bool, bytes]]] = {}
    with _ray(options):
        for part, number, last, payload in _answered(answerer, stream, share, finished, options):
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


@contextlib.contextmanager
def _ray(options: RayOptions) -> Iterator[None]:
    """Ray, started here where it is not running."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise InputError("--engine ray: Ray is not installed; pip install 'bertune[ray]'") from None
    started = not ray.is_initialized()
    if started:
        try:
            own = {} if options.address else {"include_dashboard": False}
            ray.init(address=options.address, log_to_driver=False, logging_level=logging.ERROR, **own)
        except (ConnectionError, ValueError, RuntimeError) as error:
            told = " ".join(str(error).split())[:200]
            raise InputError(f"--ray-address {options.address}: cannot be reached ({told})") from None
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # every chunk a block of its own, so that it is handed on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def _answered(
    answerer: "Answerer", stream: ExampleStream, share: Share, finished: set[int], options: RayOptions
) -> Iterator[tuple[int, int, bool, bytes]]:
    """Part, chunk, whether it is the part's last, and the pickled answers; in any order."""
    import ray
    import ray.data

    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    actors = options.actors or gpus or max(1, int(resources.get("CPU", 1)))
    source = _source(replace(stream, report=None), share, finished, lanes=max(2, actors))
    needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": _ACTOR_CPUS}
    # In a list, because an actor that is restarted takes its arguments from where they were.
    model = [ray.put(answerer)]
    answers = ray.data.read_datasource(source, num_cpus=_READER_CPUS).map_batches(
        _Actor,
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=actors),
        fn_constructor_args=(model,),
        **needs,
    )
    logger.info("Ray %s: %d actors, %d cores", ray.__version__, actors, int(resources.get("CPU", 0)))
    try:
        for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
            columns = [batch.column(name).to_pylist() for name in ("part", "number", "last", "payload")]
            yield from zip(*columns, strict=True)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, InputError | FaultError):
            raise cause from None
        raise
    except ray.exceptions.RayError as error:
        told = " ".join(str(error).split())[:300]
        raise FaultError(f"ray: {told}; finished parts are kept: run the command again with --resume") from None


class _Actor:
    """A process with the model, which is sent to it once."""

    def __init__(self, answerer: list[Any]) -> None:
        import ray
        import torch

        torch.set_num_threads(1)
        self._answerer: Answerer = ray.get(answerer[0])

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        """Chunks of examples → chunks of answers."""
        import pyarrow as pa

        payloads = []
        for payload in batch.column("payload").to_pylist():
            examples, values, bad = pickle.loads(payload)
            answers = self._answerer.answers(examples)
            rows = [merged(own, answer) for own, answer in zip(values, answers, strict=True)]
            payloads.append(pickle.dumps((rows, bad)))
        return batch.set_column(batch.schema.get_field_index("payload"), "payload", pa.array(payloads, pa.binary()))


def _source(stream: ExampleStream, share: Share, finished: set[int], lanes: int) -> Any:
    """Ray's description of what is read: a task a lane, each of which goes through the input and keeps its parts."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Source(Datasource):  # type: ignore[misc]
        """Examples in chunks."""

        def estimate_inmemory_data_size(self) -> int | None:
            """Not known."""
            return None

        def get_read_tasks(self, parallelism: int, *rest: Any, **more: Any) -> list[Any]:  # noqa: ARG002
            """One a lane, whatever number Ray would like."""
            about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            reads = [_Lane(stream, share, frozenset(finished), lane, lanes) for lane in range(lanes)]
            return [ReadTask(read, about) for read in reads]

    return Source()


@dataclass(frozen=True)
class _Lane:
    """The reading of some of the parts."""

    __name__ = "read_lane"  # Ray asks for it where it has something to warn of

    stream: ExampleStream
    share: Share
    finished: frozenset[int]
    lane: int
    lanes: int
    bad: deque[BadRow] = field(default_factory=deque)

    def __call__(self) -> Iterator["pa.Table"]:
        """Chunks as tables of one row."""
        import pyarrow as pa

        for chunk in self._chunks():
            payload = pickle.dumps((chunk.examples, chunk.values, chunk.bad))
            columns = {"part": [chunk.part], "number": [chunk.number], "last": [chunk.last], "payload": [payload]}
            yield pa.table(columns)

    def _part(self, number: int) -> int | None:
        part = self.share.part(number)
        mine = part is not None and part // self.share.count % self.lanes == self.lane
        return part if mine and part not in self.finished else None

    def _chunks(self) -> Iterator[_Chunk]:
        self.bad.clear()
        stream = replace(self.stream, report=self.bad.append)
        end = self.share.end
        items = itertools.takewhile(lambda item: end is None or item.number < end, stream)
        held: _Chunk | None = None
        for part, group in itertools.groupby(items, key=lambda item: self._part(item.number)):
            for number, some in enumerate(_batched(group, CHUNK) if part is not None else ()):
                if held is not None:
                    yield self._with_bad(held, last=held.part != part)
                examples, values = [item.example for item in some], [item.values for item in some]
                held = _Chunk(int(part or 0), number, False, examples, values, [])
        if held is not None:
            yield self._with_bad(held, last=True)

    def _with_bad(self, chunk: _Chunk, *, last: bool) -> _Chunk:
        """The chunk with the rows that were left out of its part so far."""
        rest = [self.bad.popleft() for _ in range(len(self.bad))]
        mine = [row for row in rest if self._part(row.after) == chunk.part]
        self.bad.extend(row for row in rest if (self._part(row.after) or 0) > chunk.part)
        return chunk._replace(last=last, bad=mine)


def _batched(items: Iterator[Item], size: int) -> Iterator[list[Item]]:
    while some := list(itertools.islice(items, size)):
        yield some
