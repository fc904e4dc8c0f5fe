"""Batches of features that stay the same in all epochs: packed on the host, or on the device where they lie there."""

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.cuda.recording import recorder_for
from bertune.cuda.resident import ResidentFeatures, entries_of, fits
from bertune.data.features import Batch, Features, pack
from bertune.data.upcoming import UpcomingFeatures
from bertune.inference.network import Network
from bertune.training.loop.memory import free_memory


class TrainingBatches:
    """Makes a run's batches; on CUDA the features are moved to the device, where they fit."""

    def __init__(self, source: Features | UpcomingFeatures, device: torch.device) -> None:
        """Nothing is moved yet.

        Args:
            source: the features, or what is making them.
            device: that trains.
        """
        self._source, self._device = source, device
        free = free_memory(device) if device.type == "cuda" else None
        entries = source.entries if isinstance(source, UpcomingFeatures) else entries_of(source)
        # Once for all, also for features to come: the length of a batch's tail goes by it, and random numbers by that.
        self._there = free is not None and fits(entries, free)
        self._moved: tuple[Features, ResidentFeatures | None] | None = None

    def make(self, units: npt.NDArray[np.int64], epoch: int) -> Batch:  # noqa: ARG002 (the same in every epoch)
        """The batch of the units at these places; waits for features that are still being made."""
        if not isinstance(self._source, UpcomingFeatures):
            return self._packed(self._source, units)
        features, places = self._source.of(units)
        return dataclasses.replace(self._packed(features, places), rows=units)

    def resident(self) -> ResidentFeatures | None:
        """All features on the device; None while they are still being made, and where they are not to lie there."""
        whole = self._source.made() if isinstance(self._source, UpcomingFeatures) else self._source
        return None if whole is None else self._resident(whole)

    def _packed(self, features: Features, places: npt.NDArray[np.int64]) -> Batch:
        resident = self._resident(features)
        return pack(features, places) if resident is None else resident.pack(places)

    def _resident(self, features: Features) -> ResidentFeatures | None:
        if self._moved is None or self._moved[0] is not features:
            self._moved = features, ResidentFeatures(features, self._device) if self._there else None
        return self._moved[1]

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:
        """What records updates on these batches as CUDA graphs.

        None but on CUDA, with BERTUNE_CUDA_GRAPHS=off, and where activations are computed twice, which restores random
        generators midway.
        """
        recorder = None if network.encoder.activation_checkpointing else recorder_for(self._device)
        return None if recorder is None else RecordedUpdates(self.resident, recorder, batch_size)
