"""Training updates recorded as CUDA graphs and replayed: the host launches one graph instead of a thousand kernels.

A graph is fixed in its shapes, so there is one for every size of a batch (`cuda.resident.size_of` makes few). It starts
from the numbers of the sequences and the learning rate and holds all the rest: packing, forward, backward, clipping,
AdamW. What cannot be recorded runs operation by operation, with the same results.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.cuda.recording import CANNOT_RECORD, Recorder, Work
from bertune.cuda.resident import ResidentFeatures, Size
from bertune.encoder.layout import ToHost, to_device
from bertune.network import Batch

logger = logging.getLogger(__name__)

Resident = Callable[[], ResidentFeatures | None]
"""Features on the device; None while they are still being made, or where they find no room."""

MOST_GRAPHS = 12
"""Graphs kept; recording one costs about as much as a few updates."""
_WARM_UP = 3
"""Updates before anything is recorded: libraries choose kernels and take workspaces in the first ones."""
_WATCHED = 1
"""Which of them, from 0, is watched for waits of the host. Not the first: setting up may wait."""
_NO_ROWS = np.zeros(0, np.int64)


class Update(Protocol):
    """An update of the training loop, as it is run here."""

    @property
    def device(self) -> torch.device:
        """Of the network."""
        ...

    def run_eager(self) -> ToHost:
        """Make the update operation by operation. Returns: mean loss and gradient norm."""
        ...

    def compute(self, batches: Iterable[Batch], rate: Tensor) -> Tensor:
        """Gradients of the batches and the optimizer's step, with nothing that waits for the device.

        Returns: mean loss and gradient norm. Shape: (2,), on the device.
        """
        ...

    def snapshot(self) -> Callable[[], None]:
        """Remember the random generators. Returns: what restores them and clears all gradients."""
        ...


@dataclass(frozen=True)
class _Recorded:
    """An update of one size. chosen, rate: what it reads.  values: what it came to.  replay: does it."""

    chosen: Tensor
    rate: Tensor
    values: Tensor
    replay: Work


class RecordedUpdates:
    """Makes updates, by replaying where it can. A size is recorded when it comes up for the second time."""

    def __init__(self, data: Resident, recorder: Recorder, batch_size: int | None = None) -> None:
        """Nothing is recorded yet.

        Args:
            data: what batches are packed from, once it lies on the device.
            recorder: of work on the device.
            batch_size: units of a full batch; others (the last of an epoch) are never recorded. None: all are full.
        """
        self._data, self._recorder, self._batch_size = data, recorder, batch_size
        self._recorded: dict[Size, _Recorded] = {}
        self._seen: set[Size] = set()
        self._made = 0
        self._gave_up = False

    @property
    def recorded(self) -> int:
        """Sizes of batches whose updates are replayed."""
        return len(self._recorded)

    def forget(self) -> None:
        """Let go of all recordings, and of the memory that they hold; none is made any more."""
        self._recorded.clear()
        self._gave_up = True

    def run(self, units: npt.NDArray[np.int64], rate: float, update: Update) -> ToHost:
        """One update on the units at these places, with this learning rate. Returns: mean loss and gradient norm."""
        with self._recorder.ready():
            data = self._data()
            if data is None:
                return update.run_eager()
            rows, size = data.rows_of(units)
            known = self._recorded.get(size)
            if known is None and self._to_be_recorded(units, size):
                known = self._record(update, data, rows, size)
            if known is None:
                return self._run_eager(size, update)
            known.chosen.copy_(to_device(torch.from_numpy(rows), known.chosen.device), non_blocking=True)
            known.rate.fill_(rate)
            known.replay()
            return ToHost(known.values)

    def _to_be_recorded(self, units: npt.NDArray[np.int64], size: Size) -> bool:
        if self._gave_up or self._made < _WARM_UP or len(self._recorded) >= MOST_GRAPHS:
            return False
        return size in self._seen and self._batch_size in (None, len(units))

    def _run_eager(self, size: Size, update: Update) -> ToHost:
        """Operation by operation; the second time watched for what no graph could hold."""
        self._seen.add(size)
        self._made += 1
        if self._made != _WATCHED + 1:
            return update.run_eager()
        with self._recorder.watch() as waits:
            values = update.run_eager()
        if waits:
            self._gave_up = True
            logger.info("updates are not recorded as CUDA graphs: the host waits for the device (%s)", waits[0])
        return values

    def _record(
        self, update: Update, data: ResidentFeatures, rows: npt.NDArray[np.int64], size: Size
    ) -> _Recorded | None:
        """A recorded update of this size; None where it fails, and then none is recorded any more."""
        chosen = to_device(torch.from_numpy(rows), update.device)
        rate = torch.zeros((), device=update.device)
        values = torch.zeros(2, device=update.device, dtype=torch.float64)

        def work() -> None:
            values.copy_(update.compute([data.packed(chosen, size, _NO_ROWS)], rate))

        restore = update.snapshot()
        try:
            replay = self._recorder.record(work)
        except CANNOT_RECORD as error:
            self.forget()
            restore()
            reason = str(error).partition("\n")[0]
            logger.warning("recording an update as a CUDA graph failed (%s); going on without", reason)
            return None
        self._recorded[size] = _Recorded(chosen, rate, values, replay)
        return self._recorded[size]
