"""`python -m bertune.google.extract_features`: google-research/bert's program for vectors of every token, as JSON."""

import contextlib
import itertools
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bertune.data.pairs import join_pair
from bertune.distributed.world import current
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.float32_route import fast_float32
from bertune.encoder.layout import Layout
from bertune.errors import InputError, Problems
from bertune.features import Features
from bertune.files.atomic_write import unwritable
from bertune.files.outputs import open_output
from bertune.google.flags import parse_flags
from bertune.google.initial_checkpoint import (
    ModelFlags,
    check_positions,
    implied_by_source,
    load_initial_weights,
    open_initial_checkpoint,
)
from bertune.google.running import RunFlags, leave_to_first, run_program, set_up
from bertune.inference.evaluation import run_batches
from bertune.network import Batch, Network, pack
from bertune.options import option
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger("bertune.google.extract_features")  # also when run by `python -m`

_PAIR = re.compile(r"^(.*) \|\|\| (.*)$")
_SHOWN = 5
"""Examples that are logged in full."""

Layer = tuple[int, int]
"""A layer's number as it was asked for, and its place among the kept outputs, the first of which is the embeddings'."""


@dataclass(frozen=True)
class FeatureFlags:
    """extract_features' own flags."""

    input_file: str = option(help="text, one example a line; ` ||| ` stands between the two of a pair")
    output_file: str = option(help="JSON lines to write")
    init_checkpoint: str = option(help="the encoder: a checkpoint's prefix, or anything that bertune calls an encoder")
    layers: str = option("-1,-2,-3,-4", help="layers to write, by comma: 0 is the first, -1 the last")
    max_seq_length: int = option(128, help="longest sequence in word pieces, special ones included")
    batch_size: int = option(32, help="examples computed at a time")
    use_one_hot_embeddings: bool = option(False, help="accepted, without effect on the result")


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    flags = parse_flags("extract_features", [ModelFlags, FeatureFlags, RunFlags], argv, implied_by_source)
    own = flags.of(FeatureFlags)
    problems = Problems()
    for name in ("max_seq_length", "batch_size"):
        low = 3 if name == "max_seq_length" else 1
        if getattr(own, name) < low:
            problems.add(f"--{name}={getattr(own, name)}: must be at least {low}")
    if not Path(own.input_file).is_file():
        problems.add(f"--input_file {own.input_file}: no such file")
    problems.raise_if_any()
    runtime = set_up(flags.of(RunFlags))
    start = open_initial_checkpoint(flags.of(ModelFlags), strict=runtime.strict)
    layers = layers_of(own.layers, start.config.num_hidden_layers)
    check_positions(own.max_seq_length, start.config)
    network = Network(Encoder(start.config), torch.nn.Identity())
    load_initial_weights(network, start, [], strict=runtime.strict)
    runtime.place(network)
    network.encoder.set_compute_dtype(runtime.dtype)
    network.eval()
    output = Path(own.output_file)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(error, f"--output_file {output}: cannot be written ({error.strerror})") from error
    with fast_float32(runtime.device), contextlib.ExitStack() as stack:
        lines = _lines(own, network.encoder, start.words, layers)
        if current().size > 1:
            lines = _of_all_ranks(lines, _folder_beside(output, stack), own.batch_size)
            leave_to_first()
        with open_output(output, "--output_file") as file:
            count = sum(bool(file.write(line)) for line in lines)
    logger.info("%s: %d lines written", output, count)


def _folder_beside(output: Path, stack: contextlib.ExitStack) -> Path:
    """A folder that all ranks see, until the stack is closed on rank 0."""
    folder, regular = "", output.is_file() or not output.exists()
    if current().is_first:
        beside = output.parent if regular else None
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix=".extract_features-", dir=beside))
    return Path(current().agree(folder))


def _of_all_ranks(lines: Iterator[bytes], folder: Path, batch_size: int) -> Iterator[bytes]:
    """The lines of all ranks in order, which go through files, as they may be many. lines: of this rank."""
    world = current()
    with (folder / f"{world.rank}").open("wb") as file:
        file.writelines(lines)
    world.wait()

    def merged() -> Iterator[bytes]:
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context((folder / f"{rank}").open("rb")) for rank in range(world.size)]
            for one in itertools.cycle(files):
                some = list(islice(one, batch_size))
                yield from some
                if not some:
                    return

    return merged()


def layers_of(text: str, count: int) -> list[Layer]:
    """The layers that `--layers` names.

    Raises:
        InputError: something that is no number, or a layer that the encoder lacks.
    """
    found = []
    for part in text.split(","):
        try:
            index = int(part)
        except ValueError:
            raise InputError(f"--layers={text}: {part!r} is not a whole number") from None
        if not -count <= index < count:
            raise InputError(f"--layers={text}: the encoder has {count} layers, 0 to {count - 1} or -1 to -{count}")
        found.append((index, 1 + index % count))
    return found


def read_lines(path: Path) -> Iterator[tuple[str, str | None]]:
    """Examples of a text file: a line, or the two sides of its last ` ||| `; an empty line is an example too.

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            for line in file:
                text = line.strip()
                match = _PAIR.match(text)
                yield (match[1], match[2]) if match else (text, None)
    except OSError as error:
        raise InputError(f"--input_file {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--input_file {path}: not UTF-8 ({error.reason}); save the file as UTF-8") from error


class _Layers(nn.Module):
    """A head that gives the outputs of some layers as they are."""

    needs_layers = True

    def __init__(self, places: Sequence[int]) -> None:
        super().__init__()
        self._places = places

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: (tokens, layers, hidden)."""
        return torch.stack([output.layers[place] for place in self._places], dim=1)


def _lines(flags: FeatureFlags, encoder: Encoder, words: Tokenizer, layers: Sequence[Layer]) -> Iterator[bytes]:
    """The output's lines in order, computed a batch at a time; of several ranks each has every so-manieth batch."""
    network = Network(encoder, _Layers([place for _, place in layers]))
    rest = enumerate(read_lines(Path(flags.input_file)))
    every = iter(lambda: list(islice(rest, flags.batch_size)), [])
    chunks = islice(every, current().rank, None, current().size)
    for output in run_batches(network, (_batch(chunk, words, flags.max_seq_length) for chunk in chunks)):
        ids, layout = output.batch.input_ids.numpy(), output.batch.layout
        for number, start, length in zip(
            output.batch.rows.tolist(), layout.starts.tolist(), layout.lengths.tolist(), strict=True
        ):
            tokens = words.tokens(ids[start : start + length])
            if number < _SHOWN:
                logger.info("*** Example *** unique_id: %d  tokens: %s", number, " ".join(tokens))
            rows = output.logits[start : start + length].swapaxes(0, 1).tolist()
            yield json.dumps({"linex_index": number, "features": _features(tokens, rows, layers)}).encode() + b"\n"


def _batch(examples: Sequence[tuple[int, tuple[str, str | None]]], words: Tokenizer, limit: int) -> Batch:
    """Numbered examples, packed; the batch's rows are their numbers."""
    first = words.encode([text for _, (text, _) in examples])
    second = words.encode([pair or "" for _, (_, pair) in examples])
    ids, segments, cut = join_pair(first, second, words.special, limit)
    batch = pack(Features(ids, segments, np.arange(len(examples), dtype=np.int32), cut=cut), np.arange(len(examples)))
    return replace(batch, rows=np.array([number for number, _ in examples], np.int64))


def _features(tokens: Sequence[str], rows: list[list[list[float]]], layers: Sequence[Layer]) -> list[dict[str, object]]:
    """What the original writes of every token. rows: by layer, token, place."""
    return [
        {
            "token": token,
            "layers": [
                {"index": index, "values": [round(value, 6) for value in values[at]]}
                for (index, _), values in zip(layers, rows, strict=True)
            ],
        }
        for at, token in enumerate(tokens)
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv)


if __name__ == "__main__":
    sys.exit(main())
