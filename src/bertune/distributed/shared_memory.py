"""Memory that all ranks of one machine see: gradients are exchanged through it without being sent."""

import mmap
import os
import uuid

import torch
from torch import Tensor

from bertune.distributed.world import World, is_one_machine


def share_memory(world: World, size: int) -> Tensor | None:
    """Some bytes that all ranks see; zero at first, and taken from the machine only where they are written.

    A file without a name (`memfd_create`): nothing is left behind however the ranks end, and Docker's limit for
    /dev/shm does not hold for it.

    Args:
        world: the ranks.
        size: bytes.

    Returns: Shape: (size,), uint8. None, on all ranks, where they are on several machines, or the system has nothing
    of the kind.
    """
    if not is_one_machine() or not hasattr(os, "memfd_create"):
        return None
    token, descriptor = uuid.uuid4().bytes, -1
    try:
        if world.is_first:
            descriptor = _make(size, token)
        place, expected = world.agree((f"/proc/{os.getpid()}/fd/{descriptor}" if descriptor >= 0 else None, token))
        memory = None if place is None else _open(place, size, expected)
        failed = world.any(memory is None)  # and rank 0 closes its file only when everyone has opened it
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    if failed or memory is None:
        return None
    shared = torch.frombuffer(memory, dtype=torch.uint8)
    world.wait()  # before anyone writes over the token
    return shared


def _make(size: int, token: bytes) -> int:
    try:
        descriptor = os.memfd_create("bertune-gradients", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, token, 0)
    except OSError:
        return -1
    return descriptor


def _open(place: str, size: int, token: bytes) -> mmap.mmap | None:
    """The file of rank 0; None where it cannot be seen from here, or is another one (in another container)."""
    try:
        descriptor = os.open(place, os.O_RDWR | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size or os.pread(descriptor, len(token), 0) != token:
                return None
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError:
        return None
