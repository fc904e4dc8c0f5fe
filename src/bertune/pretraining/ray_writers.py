"""Shards of a corpus tokenized by tasks of Ray and written by this process, which alone sees texts and cache."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.documents import Document
from bertune.distributed.ray_map import RayOptions, ray_running
from bertune.errors import FaultError, InputError
from bertune.pretraining.shard_writers import AHEAD, WriteShard

Arrays = Mapping[str, npt.NDArray[np.integer]]
"""What a shard's files hold, by their names."""
Encode = Callable[[Sequence[Document]], Arrays]
"""Documents → the arrays of their shard."""


@contextlib.contextmanager
def ray_writers(
    encode: Encode,
    write: Callable[[Path, Arrays, Mapping[str, Any]], None],
    workers: int | None,
    options: RayOptions,
) -> Iterator[WriteShard]:
    """What writes shards, as `shard_writers` does; when the block ends all are written.

    A task whose process or machine is lost is run again by Ray. Shards are written in their order, so that a build
    which is stopped goes on after them.

    Args:
        encode: the arrays of a shard; can be pickled, and is sent to each machine once.
        write: writes them, in this process.
        workers: tasks at a time; None: one a core of all machines.
        options: Ray's.

    Raises:
        InputError: Ray is not installed, or cannot be reached.
        FaultError: Ray gave up; the shards that are whole are kept.
    """
    with ray_running(options):
        import ray

        at_once = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        # Of a worker that is lost; what `encode` itself raises is no better the second time.
        task = ray.remote(num_cpus=1, max_retries=-1)(_encoded)
        sent = ray.put(encode)
        waiting: deque[tuple[Any, Path, Mapping[str, Any]]] = deque()

        def write_first() -> None:
            answer, target, described = waiting.popleft()
            write(target, ray.get(answer), described)

        def hand_over(target: Path, documents: Sequence[Document], described: Mapping[str, Any]) -> None:
            while len(waiting) >= AHEAD * at_once:
                write_first()
            waiting.append((task.remote(sent, documents), target, described))

        try:
            yield hand_over
            while waiting:
                write_first()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError | FaultError):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            told = " ".join(str(error).split())[:300]
            raise FaultError(
                f"ray: {told}; the shards that are whole are kept: the same command goes on after them"
            ) from None
        finally:
            with contextlib.suppress(ray.exceptions.RayError):
                for answer, _, _ in waiting:
                    ray.cancel(answer)


def _encoded(encode: Encode, documents: Sequence[Document]) -> Arrays:
    """A shard's arrays, in a process of Ray."""
    return encode(documents)
