"""Batches of features that stay the same in all epochs: packed on the host, or on the device where they lie there."""

import functools

import numpy as np
import numpy.typing as npt
import torch

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.cuda.recording import recorder_for
from bertune.cuda.resident import ResidentFeatures, entries_of, fits
from bertune.data.features import Features
from bertune.data.packing import Batch, pack
from bertune.inference.network import Network
from bertune.training.loop.memory import free_memory


class TrainingBatches:
    """Makes a run's batches; on CUDA the features are moved to the device, where they fit."""

    def __init__(self, features: Features, device: torch.device) -> None:
        """Nothing is moved yet.

        Args:
            features: of all training data.
            device: that trains.
        """
        self._features, self._device = features, device
        free = free_memory(device) if device.type == "cuda" else None
        # Decided once: the length of a batch's tail depends on it, and random numbers on that.
        self._fits = free is not None and fits(entries_of(features), free)

    def make(self, units: npt.NDArray[np.int64], epoch: int) -> Batch:  # noqa: ARG002 (the same in every epoch)
        """The batch of the units at these places."""
        resident = self.resident
        return pack(self._features, units) if resident is None else resident.pack(units)

    @functools.cached_property
    def resident(self) -> ResidentFeatures | None:
        """All features in the device's memory; None where they are not to be moved there."""
        return ResidentFeatures(self._features, self._device) if self._fits else None

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:
        """What records updates on these batches as CUDA graphs.

        None but on CUDA, with BERTUNE_CUDA_GRAPHS=off, and where activations are computed twice, which restores random
        generators midway.
        """
        recorder = None if network.encoder.activation_checkpointing else recorder_for(self._device)
        return None if recorder is None else RecordedUpdates(lambda: self.resident, recorder, batch_size)
