"""Forward passes outside training, recorded as CUDA graphs and replayed: what is launched no longer takes the time.

A graph is fixed in its shapes, so every batch is brought to one of few sizes: sequences of one token fill up their
number, a tail the token axis, and a bound stands for the longest. None of that reaches a real sequence's result. What
cannot be recorded is computed operation by operation, with the same results but for rounding: products of other shapes
may add in another order.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bertune.cuda.recording import CANNOT_RECORD, Recorder, Work, recorder_for
from bertune.cuda.resident import Size, size_of
from bertune.encoder.layout import Layout
from bertune.network import Batch

logger = logging.getLogger(__name__)

Forward = Callable[[Batch], Tensor]
"""From a batch to logits. Shape: (sequences, outputs) or (tokens, outputs)."""

MakeRecorder = Callable[[torch.device], Recorder | None]
"""What records on a device, if anything does."""

MOST_GRAPHS = 32
"""Graphs kept; of a stream of batches sorted by length about so many sizes come up."""
_SMALLEST_BOUND = 32
"""Tokens: the least that the longest sequence is taken for."""
_STEPS = 4
"""Numbers of sequences, and bounds, between one power of two and the next."""
_NO_ROWS = np.zeros(0, np.int64)


@dataclass(frozen=True)
class _Shape:
    """What a graph is fixed in. size: sequences, rows of the token axis.  longest: no sequence has more tokens."""

    size: Size
    longest: int

    @classmethod
    def of(cls, layout: Layout) -> "_Shape":
        """That of a packed batch. Its number of sequences is part of it: heads and attention have a row for each."""
        sequences = _rounded(len(layout), 1)
        further = np.ones(sequences - len(layout), np.int64)
        size = size_of(np.concatenate([layout.lengths.numpy(), further]))
        return cls(size, _rounded(layout.longest, _SMALLEST_BOUND))

    @property
    def parts(self) -> list[int]:
        """Lengths of ids, segments, positions, sequences' lengths and starts in the one tensor that a graph reads."""
        return [*3 * [self.size.total], *2 * [self.size.sequences]]

    def laid_out(self, batch: Batch, device: torch.device) -> Tensor:
        """A batch on the host, brought to this shape, for one copy to the device. Shape: (sum of parts,), int64."""
        tensor = torch.zeros(sum(self.parts), dtype=torch.int64, pin_memory=device.type == "cuda")
        ids, segments, positions, lengths, starts = np.split(tensor.numpy(), np.cumsum(self.parts)[:-1])
        tokens, sequences, real = len(batch.input_ids), len(batch.layout), batch.layout.real
        ids[:tokens], segments[:tokens] = batch.input_ids.numpy(), batch.segment_ids.numpy()
        positions[:tokens] = batch.positions.numpy()
        lengths[:sequences], lengths[sequences:] = batch.layout.lengths.numpy(), 1
        starts[:sequences] = batch.layout.starts.numpy()
        starts[sequences:] = np.arange(real, real + len(starts) - sequences)
        return tensor

    def batch(self, inputs: Tensor) -> Batch:
        """What `laid_out` made, as a batch whose tensors lie in it."""
        ids, segments, positions, lengths, starts = inputs.split(self.parts)  # type: ignore[no-untyped-call]
        layout = Layout(lengths, starts, self.size.total, self.size.least, self.longest)
        return Batch(ids, segments, positions, layout, {}, _NO_ROWS)


def _rounded(number: int, step: int) -> int:
    """Up to one of few numbers, all of them multiples of `step`."""
    step = max(step, 2 ** (number - 1).bit_length() // (2 * _STEPS))
    return -(-number // step) * step


@dataclass(frozen=True)
class _Recorded:
    """A forward pass of one shape. inputs: what it reads.  logits: what it writes.  replay: does it."""

    inputs: Tensor
    logits: Tensor
    replay: Work


class RecordedForwards:
    """Makes a network's forward passes by replaying where it can. A shape is recorded when it comes up again.

    Once as many recordings had to go as are kept, those that are left stay and no other is made: of shapes that take
    turns, each would be gone before it comes up again.

    What Python decides in the network is decided once for every shape. Threads may share it: they take turns.
    """

    def __init__(self, most_tokens: int, recorder_for: MakeRecorder = recorder_for) -> None:
        """Nothing is recorded yet.

        Args:
            most_tokens: of larger batches nothing is recorded; the device is busy with them for longer than
                the host with launching.
            recorder_for: what records on a device; None: nothing does.
        """
        self._most_tokens, self._recorder_for = most_tokens, recorder_for
        self._recorder: Recorder | None = None
        self._device: torch.device | None = None
        self._weights: list[tuple[int, torch.dtype]] = []
        self._recorded: dict[_Shape, _Recorded] = {}
        self._seen: set[_Shape] = set()
        self._evicted = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type["RecordedForwards"], tuple[int, MakeRecorder]]:
        """Copies begin without recordings, which hold for the original's weights alone."""
        return RecordedForwards, (self._most_tokens, self._recorder_for)

    @property
    def recorded(self) -> int:
        """Shapes of batches whose forward passes are replayed."""
        return len(self._recorded)

    def bind(self, modules: Iterable[nn.Module], device: torch.device) -> None:
        """Hold for a network as it is now: forget everything where its weights lie elsewhere or are of another type.

        Weights that change where they lie need nothing: recordings read them anew every time.
        """
        with self._lock:
            if self._recorder is None and device == self._device:
                return
            weights = [
                (weight.data_ptr(), weight.dtype)
                for module in modules
                for weight in module._parameters.values()
                if weight is not None
            ]
            if (device, weights) != (self._device, self._weights):
                self._forget()
                # Another one, for the memory of one whose recordings are all gone cannot be recorded in again.
                self._device, self._weights, self._recorder = device, weights, self._recorder_for(device)

    def replayed(self, forward: Forward, batch: Batch) -> Tensor | None:
        """Logits of a batch that lies on the host, on the device; None: compute them directly.

        Args:
            forward: the network that `bind` was told of, in evaluation mode.
            batch: as `pack` makes it; what it has of targets is not looked at.

        Returns: as `forward` would give them for the batch itself; the caller's own. What heads give by sequence and by
            token is told apart by the number of rows, which is why shapes where both are the same are not recorded.
        """
        with self._lock, torch.inference_mode():
            if self._recorder is None or self._device is None or len(batch.input_ids) > self._most_tokens:
                return None
            shape = _Shape.of(batch.layout)
            if shape not in self._seen or shape.size.total == shape.size.sequences:
                self._seen.add(shape)
                return None
            if shape not in self._recorded and self._evicted >= MOST_GRAPHS:
                return None
            try:
                inputs = shape.laid_out(batch, self._device)
                known = self._recorded.pop(shape, None) or self._newly_recorded(forward, shape, inputs, self._recorder)
                if known is None:
                    return None
                self._keep(shape, known)
                by_sequence = len(known.logits) == shape.size.sequences
                logits = known.logits[: len(batch.layout) if by_sequence else len(batch.input_ids)]
                result = torch.empty_like(logits)  # here, for it belongs to the caller's stream
            except torch.OutOfMemoryError as error:
                self._give_up(error)
                return None
            with self._recorder.ready():
                known.inputs.copy_(inputs, non_blocking=True)
                known.replay()
                result.copy_(logits)
            return result

    def run_eager(self, forward: Forward, batch: Batch) -> Tensor:
        """Logits operation by operation; where memory runs out, once more without the memory that recordings hold."""
        try:
            return forward(batch)
        except torch.OutOfMemoryError as error:
            with self._lock:
                if not self._recorded:
                    raise
                self._give_up(error)
        return forward(batch)

    def _newly_recorded(self, forward: Forward, shape: _Shape, inputs: Tensor, recorder: Recorder) -> _Recorded | None:
        """A recording; None where it fails, and then none is made again. inputs: a batch of this shape, on the host."""
        try:
            with recorder.ready():
                read = inputs.to(self._device, non_blocking=True)
                # Once without: libraries choose kernels and take workspaces. What waits could not be recorded.
                with recorder.watch() as waits:
                    written = forward(shape.batch(read)).clone()

                def work() -> None:
                    # The batch is made anew: what its layout keeps once computed would stay as it is in all replays.
                    written.copy_(forward(shape.batch(read)))

                if not waits:
                    return _Recorded(read, written, recorder.record(work))
        except CANNOT_RECORD as error:
            self._give_up(error)
            return None
        self._recorder = None
        logger.info("forward passes are not recorded as CUDA graphs: the host waits for the device (%s)", waits[0])
        return None

    def _keep(self, shape: _Shape, known: _Recorded) -> None:
        """Put a recording last; of too many the one that was not used for longest goes."""
        self._recorded[shape] = known
        if len(self._recorded) > MOST_GRAPHS:
            oldest = next(iter(self._recorded))
            del self._recorded[oldest]
            self._seen.discard(oldest)
            self._evicted += 1

    def _give_up(self, error: BaseException) -> None:
        """Record no more on this device."""
        self._forget()
        self._recorder = None
        text = str(error).partition("\n")[0]
        logger.warning("recording forward passes as CUDA graphs failed (%s); going on without", text)

    def _forget(self) -> None:
        self._recorded.clear()
        self._seen.clear()
        self._evicted = 0
