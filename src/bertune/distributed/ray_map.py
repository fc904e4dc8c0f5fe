"""Work on a stream of items by Ray Data: reading tasks, a pool of actors that hold what the work needs, answers here.

    reading tasks ("lanes") → items with keys → actors → answers with keys → this process

Nothing is asked of Ray's order, and what an actor had in hand when it died is computed again: the caller goes by the
keys. Without an address Ray runs on this machine, for as long as the call.
"""

import contextlib
import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bertune.errors import FaultError, InputError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

Lane = Iterable[tuple[Any, Any]]
"""Keys and items that one task reads; can be pickled."""

_ACTOR_CPUS, _READER_CPUS = 0.9, 0.05
"""Shares of a core: what reads must find room beside actors on every core."""


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster; None: this machine alone.  actors: at work; None: one a core, or one a GPU."""

    address: str | None = None
    actors: int | None = None


def ray_map(
    lanes: Callable[[int], Sequence[Lane]],
    work: Callable[[Any], Any],
    options: RayOptions,
    *,
    kept: str,
    on_gpus: bool = False,
) -> Iterator[tuple[Any, bytes]]:
    """The answer to every item, pickled, with the item's key; in any order, and perhaps twice.

    Args:
        lanes: the number of actors → what the reading tasks read.
        work: makes an item's answer; can be pickled, and is sent to each actor once.
        options: Ray's.
        kept: tells, where Ray gives up, what is finished and how to go on.
        on_gpus: whether actors want a GPU each, where there are some.

    Raises:
        InputError, FaultError: those of `lanes` and `work`; Ray is not installed, cannot be reached, or gave up.
    """
    with ray_running(options):
        import ray
        import ray.data

        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if on_gpus else 0
        actors = options.actors or gpus or max(1, int(resources.get("CPU", 1)))
        needs: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if gpus else {"num_cpus": _ACTOR_CPUS}
        answers = ray.data.read_datasource(_source(lanes(actors)), num_cpus=_READER_CPUS).map_batches(
            _Actor,
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            # In a list, because an actor that is restarted takes its arguments from where they were.
            fn_constructor_args=([ray.put(work)],),
            **needs,
        )
        logger.info("Ray %s: %d actors, %d cores", ray.__version__, actors, int(resources.get("CPU", 0)))
        try:
            for batch in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
                for key, value in zip(*(batch.column(name).to_pylist() for name in ("key", "value")), strict=True):
                    yield pickle.loads(key), value
        except ray.exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, InputError | FaultError):
                raise cause from None
            raise
        except ray.exceptions.RayError as error:
            told = " ".join(str(error).split())[:300]
            raise FaultError(f"ray: {told}; {kept}") from None


@contextlib.contextmanager
def ray_running(options: RayOptions) -> Iterator[None]:
    """Inside, Ray is there: the cluster, or one of this machine for as long as the block, where none is running.

    Raises:
        InputError: Ray is not installed, or cannot be reached.
    """
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
    context.target_max_block_size = 1  # every item a block of its own, so that it is handed on at once
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """A process with what the work needs, which is sent to it once."""

    def __init__(self, work: list[Any]) -> None:
        import ray
        import torch

        torch.set_num_threads(1)
        self._work: Callable[[Any], Any] = ray.get(work[0])

    def __call__(self, batch: "pa.Table") -> "pa.Table":
        """Items → answers."""
        import pyarrow as pa

        values = [pickle.dumps(self._work(pickle.loads(value))) for value in batch.column("value").to_pylist()]
        return batch.set_column(batch.schema.get_field_index("value"), "value", pa.array(values, pa.large_binary()))


def _source(lanes: Sequence[Lane]) -> Any:
    """Ray's description of what is read: a task a lane."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Source(Datasource):  # type: ignore[misc]
        """Items with their keys."""

        def estimate_inmemory_data_size(self) -> int | None:
            """Not known."""
            return None

        def get_read_tasks(self, parallelism: int, *rest: Any, **more: Any) -> list[Any]:  # noqa: ARG002
            """One a lane, whatever number Ray would like."""
            about = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(_Read(lane), about) for lane in lanes]

    return Source()


@dataclass(frozen=True)
class _Read:
    """The reading of a lane."""

    __name__ = "read_lane"  # Ray asks for it where it has something to warn of

    lane: Lane

    def __call__(self) -> Iterator["pa.Table"]:
        """Items as tables of one row."""
        import pyarrow as pa

        for key, value in self.lane:
            columns = {"key": pickle.dumps(key), "value": pickle.dumps(value)}
            yield pa.table({name: pa.array([one], pa.large_binary()) for name, one in columns.items()})
