"""Answers for inputs of any size: a stream of examples through a model into files, in constant memory.

    files → examples (numbered) → this process's share → answers → parts → output

A run that is stopped goes on with `resume`; several processes share one by `shard`. What a share holds is decided by
the numbers of the examples alone, so the parts, read in order, are the same whatever the number of processes.
"""

import contextlib
import itertools
import json
import logging
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bertune.distributed.stopping import interruptible
from bertune.distributed.world import World, current, is_launched, is_restart
from bertune.errors import InputError, counted
from bertune.files.outputs import open_output, refuse_inputs
from bertune.prediction.examples import BadRow, ExampleStream, Item, count, merged
from bertune.prediction.inputs import InputFile, is_stream
from bertune.prediction.options import BulkOptions
from bertune.prediction.parts import OpenPart, Parts
from bertune.prediction.shards import ROWS_PER_PART, Shard, Share
from bertune.prediction.target import Target, target_of
from bertune.progress import progress_bar

logger = logging.getLogger(__name__)

PARTS_A_RANK = 4
"""Parts of a rank where a file is shared: rows of many tokens are spread over ranks."""
ROWS_OF_A_FILE = 10_000
"""Rows of a part where the parts become one file: what a stopped run loses at most."""
LOOKED_AT = 64
"""Examples of the beginning that an `Answerer` may look at first, the same in every process."""


class Answerer(Protocol):
    """What turns examples into answers."""

    @property
    def read(self) -> Callable[[Path], Iterator[Any]]:
        """Reads examples of a file; without the model, as it is sent to processes that only read."""
        ...

    def answers(self, examples: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        """One answer for every example, in order, as a stream."""
        ...

    def prepare(self, examples: Sequence[Any]) -> None:
        """Look at the first examples of the input, before any is answered."""
        ...

    @property
    def looks_first(self) -> bool:
        """Whether `prepare` is to be called."""
        ...

    def described(self) -> Mapping[str, Any]:
        """All that the answers depend on, besides the input."""
        ...


class BulkResult(NamedTuple):
    """What a run wrote. rows: answers, those of parts that were finished before among them.  bad: rows left out."""

    rows: int
    bad: int


def check(options: BulkOptions) -> None:
    """Refuse, before a model is loaded, options that no run can have.

    Raises:
        InputError: naming the option.
    """
    Shard.parse(options.shard)
    if options.engine == "ray" and is_launched():
        raise InputError("--engine ray: Ray has processes of its own; start the command without torchrun")
    if options.engine == "ray" and options.output is None:
        raise InputError("--engine ray: needs --output")
    if options.engine != "ray" and (options.ray_address is not None or options.ray_actors is not None):
        raise InputError("--ray-address, --ray-actors: are for --engine ray")
    if options.columns and options.keep_columns:
        raise InputError("--columns, --keep-columns: the second writes all columns; leave one out")
    if options.output is None:
        if options.resume or options.shard or options.output_format:
            raise InputError("--resume, --shard and --output-format need --output")
        return
    target = target_of(options)
    if target.parts is None and options.resume:
        raise InputError(f"--resume: {options.output} is a stream, which cannot be resumed; name a file or folder")
    if target.joined and options.output_format is not None:
        raise InputError("--output-format: is for a folder; a file's format is that of its name")


def run(answerer: Answerer, files: Sequence[InputFile], options: BulkOptions) -> BulkResult:
    """Answer the share of the input that falls to this process.

    Raises:
        InputError: data that cannot be read; an output of another run.  What was begun by this call is removed.
        FaultError: the disk is full; finished parts are kept.
        Interrupted: finished parts are kept.
    """
    options = replace(options, resume=options.resume or is_restart())
    world, target = current(), target_of(options)
    if target.parts is None or target.joined:
        refuse_inputs(target.path, [file.path for file in files])
    if world.size > 1 and is_stream(options.input):
        raise InputError(f"--input {options.input}: a stream has one reader; name a file to share it among ranks")
    bad: deque[BadRow] = deque()
    stream = ExampleStream(
        files, answerer.read, options.keep_columns or options.columns or (), options.skip_bad, bad.append
    )
    share = _share(stream, options, world, target)
    if target.parts is None and world.size == 1 and options.engine == "local":
        return _to_stream(answerer, stream, share, target, bad)
    with contextlib.ExitStack() as stack:
        if target.parts is None:  # ranks write parts, which rank 0 puts out in order
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bertune-")) if world.is_first else ""
            target = replace(target, parts=Parts(Path(world.agree(folder)) / "parts", target.format, header="first"))
        # Of the shards of one file the first alone has the header, so that `cat` joins them.
        parts = replace(target.parts, header="none") if share.begin and target.parts is not None else target.parts
        assert parts is not None
        what = _described(answerer, files, options, share, target)
        began = not parts.folder.exists()
        if world.is_first:
            parts.start(what, resume=options.resume, is_ours=lambda part: part % share.count == share.index)
            if options.resume and target.joined:
                _log_kept(target, parts)
        world.wait()
        with interruptible(lambda: _kept(parts)) as raise_if_stopped:
            try:
                numbers = _make(answerer, stream, share, parts, options, bad, raise_if_stopped)
            except BaseException as error:
                ours = began and world.is_first and (target.joined or options.shard is None)
                # Other ranks may still write into it, until they find that this one has stopped.
                empty = world.size == 1 and not parts.numbers()
                if ours and (isinstance(error, InputError) or empty):
                    parts.remove()
                raise
            everyone = sorted(number for mine in world.gather(numbers) for number in mine)
            result = _close(target, parts, everyone) if world.is_first else BulkResult(0, 0)
            world.wait()
        return result


def _log_kept(target: Target, parts: Parts) -> None:
    """Tell what an earlier run has answered already."""
    rows = sum(parts.rows(number) for number in parts.numbers() if parts.finished(number))
    if rows:
        logger.info("%s: %s of the stopped run are kept", target.path, counted(rows, "answer"))


def _kept(parts: Parts) -> str:
    """What a run that was stopped leaves, and how to go on."""
    numbers = parts.numbers()
    if not numbers:
        return "no part was finished, so nothing is kept; with a smaller --rows-per-part there would be one sooner"
    rows = counted(sum(parts.rows(number) for number in numbers), "row")
    return f"answers to {rows} are kept in {parts.folder}; go on with the same command and --resume"


def _make(
    answerer: Answerer,
    stream: ExampleStream,
    share: Share,
    parts: Parts,
    options: BulkOptions,
    bad: deque[BadRow],
    raise_if_stopped: Callable[[], None],
) -> list[int]:
    """Make the parts of a share, by the engine that was asked for."""
    if options.engine != "ray":
        return _to_parts(answerer, stream, share, parts, bad, raise_if_stopped)
    from bertune.distributed.ray_map import RayOptions
    from bertune.prediction.ray_engine import to_parts

    if answerer.looks_first:
        answerer.prepare([item.example for item in islice(replace(stream, report=None), LOOKED_AT)])
    return to_parts(answerer, stream, share, parts, RayOptions(options.ray_address, options.ray_actors))


def _described(
    answerer: Answerer, files: Sequence[InputFile], options: BulkOptions, share: Share, target: Target
) -> dict[str, Any]:
    """All that parts depend on: those of another run are not taken up."""
    what = {**answerer.described(), "inputs": [file.described() for file in files], "rows_per_part": share.rows}
    what |= {"keep_columns": options.keep_columns, "skip_bad": options.skip_bad, "format": target.format.suffix}
    what |= {"columns": options.columns} if options.columns else {}
    if not target.joined:
        return what
    # Without a shard it is all rows; one process does not count them, several do.
    return what | {"rows": [share.begin, share.end] if options.shard else [0, None]}


def first_answers(answerer: Answerer, files: Sequence[InputFile], number: int) -> tuple[list[Any], list[Any]]:
    """The first examples and their answers, for a table."""
    examples = [item.example for item in islice(ExampleStream(files, answerer.read), number)]
    return examples, list(answerer.answers(examples))


def _share(stream: ExampleStream, options: BulkOptions, world: World, target: Target) -> Share:
    """The parts of this process.

    A folder's parts are dealt out in turn, without counting rows. A file's or a stream's shard is one stretch of rows,
    in parts that are small enough for every rank to have some.
    """
    shard = Shard.parse(options.shard)
    rows = options.rows_per_part or (ROWS_OF_A_FILE if target.joined else ROWS_PER_PART)
    if not target.joined and target.parts is not None:
        return Share(rows=rows, index=shard.index, count=shard.count, rank=world.rank, ranks=world.size)
    before = target.parts.rows_per_part() if target.parts is not None and options.resume else None
    if shard.count == world.size == 1 and options.engine == "local":
        return Share(rows=rows if before is None or options.rows_per_part else before)
    mine = shard.slice_of(count(stream))
    if before is not None:  # by another number of ranks, perhaps
        rows = before
    elif options.rows_per_part is None:
        shares = world.size if options.engine == "local" else os.cpu_count() or 1
        rows = min(rows, max(1, -(-len(mine) // (PARTS_A_RANK * shares))))
    return Share(mine.start, mine.stop, rows, rank=world.rank, ranks=world.size)


class _Answered(NamedTuple):
    """An answer with its row, and the part it belongs to."""

    part: int
    row: dict[str, Any]


def _answered(
    answerer: Answerer, stream: Iterable[Item], share: Share, wanted: Callable[[int], bool]
) -> Generator[_Answered, None, None]:
    """The answers of a share, part after part. wanted: whether a part is to be made."""
    waiting: deque[tuple[int, Mapping[str, object]]] = deque()

    def examples() -> Iterator[Any]:
        needed: tuple[int, bool] = (-1, False)
        for item in stream:
            if share.end is not None and item.number >= share.end:
                return
            part = share.part(item.number)
            if part is None:
                continue
            if part != needed[0]:
                needed = part, wanted(part)
            if needed[1]:
                waiting.append((part, item.values))
                yield item.example

    with (
        contextlib.closing(_generator(answerer.answers(examples()))) as answers,
        progress_bar("rows answered", None) as bar,
    ):
        for answer in answers:
            part, values = waiting.popleft()
            bar.advance()
            yield _Answered(part, merged(values, answer))


def _generator(source: Iterable[Mapping[str, Any]]) -> Generator[Mapping[str, Any], None, None]:
    yield from source


def _prepared(answerer: Answerer, stream: ExampleStream) -> Iterator[Item]:
    """The stream, whose beginning the answerer has looked at."""
    items = iter(stream)
    if not answerer.looks_first:
        yield from items
        return
    head = list(islice(items, LOOKED_AT))
    answerer.prepare([item.example for item in head])
    yield from head
    yield from items


def _to_parts(
    answerer: Answerer,
    stream: ExampleStream,
    share: Share,
    parts: Parts,
    bad: deque[BadRow],
    raise_if_stopped: Callable[[], None],
) -> list[int]:
    """Make the parts of a share that are not finished. Returns: the numbers of all of them."""
    numbers: list[int] = []

    def wanted(part: int) -> bool:
        numbers.append(part)
        if parts.finished(part):
            parts.log(part, "is finished")
            return False
        return True

    def finish(number: int, part: OpenPart, begin: float) -> None:
        """Hand the part the rows that were left out in it, and log it."""
        rest = [bad.popleft() for _ in range(len(bad))]
        part.bad += [row for row in rest if share.part(row.after) == number]
        bad.extend(row for row in rest if (share.part(row.after) or 0) > number)
        rate = part.rows / max(time.perf_counter() - begin, 1e-9)
        parts.log(number, f"{counted(part.rows, 'row')}, {rate:.1f} a second")

    answers = _answered(answerer, _prepared(answerer, stream), share, wanted)
    begin = time.perf_counter()
    with contextlib.closing(answers):
        for number, group in itertools.groupby(answers, key=lambda answered: answered.part):
            with parts.writing(number) as part:
                for answered in group:
                    part.write(answered.row)
                    raise_if_stopped()
                finish(number, part, begin)
            current().raise_if_stopped()
            begin = time.perf_counter()
    return numbers


def _close(target: Target, parts: Parts, numbers: Sequence[int]) -> BulkResult:
    """Count, and make one file of the parts where one is wanted."""
    rows = sum(parts.rows(number) for number in numbers)
    bad = parts.bad_rows(numbers)
    if target.joined:
        with open_output(target.path) as stream:
            parts.join(numbers, stream)
        if bad:
            with open_output(f"{target.path}.bad.jsonl") as stream:
                stream.write(b"".join(bad))
        parts.remove()
        logger.info("%s: %s", target.path, counted(rows, "answer"))
    if bad:
        place = f"{target.path}.bad.jsonl" if target.joined else f"{parts.folder}/_parts/bad-*.jsonl"
        left_out = counted(len(bad), "row")
        logger.warning("%s could not be read and left out; listed in %s", left_out, place)
    return BulkResult(rows, len(bad))


def _to_stream(
    answerer: Answerer, stream: ExampleStream, share: Share, target: Target, bad: deque[BadRow]
) -> BulkResult:
    """Answers as they come, to standard output, a pipe or a device."""
    rows, left_out = 0, 0
    header = share.begin == 0

    def written() -> str:
        return f"{counted(rows, 'answer')} had been written"

    with (
        interruptible(written) as raise_if_stopped,
        open_output(target.path) as out,
        target.format.writer(out, header=header) as writer,
    ):
        for answered in _answered(answerer, _prepared(answerer, stream), share, lambda _: True):
            writer.write(answered.row)
            rows += 1
            raise_if_stopped()
            left_out += _log_bad(bad)
    left_out += _log_bad(bad)
    if left_out:
        logger.warning("%s could not be read and left out", counted(left_out, "row"))
    return BulkResult(rows, left_out)


def _log_bad(bad: deque[BadRow]) -> int:
    """Log the rows that were left out just now. Returns: how many."""
    number = len(bad)
    for _ in range(number):
        logger.warning("left out: %s", json.dumps(bad.popleft().described(), ensure_ascii=False))
    return number
