"""When memory is short: what running out of it looks like, and how many parts a batch is first tried in."""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder

logger = logging.getLogger(__name__)

_TOLD = ("not enough memory", "can't allocate memory", "out of memory", "could not get its working memory")
"""What PyTorch on the CPU, CUDA's libraries and our kernels say."""
_SHARE = 0.8
"""Of the free memory, the share that activations may take; the rest is for gradients and the allocator's waste."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _TOLD)


def activation_bytes(config: EncoderConfig, length: int, itemsize: int, *, checkpointing: bool = False) -> int:
    """About how many bytes an encoder keeps of one sequence for the backward pass.

    A layer of width h and inner width i keeps about 24 h + 4 i numbers of every token: its products' inputs and
    results, padded copies around attention, residual sums, norms and dropout masks; and of every pair of tokens a
    probability, once with dropout, and a mask, for every head. The sums are of the route in PyTorch's operations, which
    keeps most (compare Korthikanti et al., 2022, section 4.1); our kernels keep half. Checkpointing keeps a layer's
    input, and all of one layer at a time.

    Args:
        config: of the encoder.
        length: tokens of the sequence.
        itemsize: bytes of a number.
        checkpointing: whether activations are computed twice.
    """
    vectors = (24 * config.hidden_size + 4 * (1 + config.gated) * config.intermediate_size) * itemsize
    pairs = config.num_attention_heads * length * (2 * itemsize + 1)
    layer = length * (vectors + pairs)
    if checkpointing:
        return layer + config.num_hidden_layers * length * config.hidden_size * itemsize
    return config.num_hidden_layers * layer


def free_memory(device: torch.device) -> int | None:
    """Bytes that a device has free, as far as it can be known."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return host_memory() if device.type == "cpu" else None


def host_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes that this process can still have: the machine's, or what its control groups leave of them.

    Pages that merely cache files count as free, as the kernel gives them up first.

    Args:
        proc: where the kernel tells of processes and memory.
        groups: where it tells of control groups.
    """
    free = _available(proc / "meminfo")
    if free is None and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free is None:
        return None
    return max(0, min([free, *_left_by_groups(proc / "self" / "cgroup", groups)]))


def _available(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


@dataclass(frozen=True)
class _GroupFiles:
    """Where one of the two versions of control groups tells of a group's memory.

    controller: as `/proc/self/cgroup` names it.  folder: within the folder of control groups.
    limit, used: files of one number.  cached: a line of `memory.stat`, groups below included.
    """

    controller: str
    folder: str
    limit: str
    used: str
    cached: str


_VERSIONS = (
    _GroupFiles("", ".", "memory.max", "memory.current", "inactive_file"),
    _GroupFiles("memory", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
"""Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst."""


def _left_by_groups(own: Path, groups: Path) -> Iterator[int]:
    """What the process's groups and those above them leave of their limits."""
    paths = {name: path for _, names, path in (line.split(":", 2) for line in _lines(own)) for name in names.split(",")}
    for files in _VERSIONS:
        top, inside = groups / files.folder, paths.get(files.controller, "").strip("/")
        group = top / inside if ".." not in inside else top  # beyond a container's own groups nothing is seen
        for one in (group, *group.parents):
            limit, used = _lines(one / files.limit), _lines(one / files.used)
            if limit and used and limit[0] != "max":
                stat = dict(line.split()[:2] for line in _lines(one / "memory.stat"))
                yield int(limit[0]) - int(used[0]) + int(stat.get(files.cached, 0))
            if one == top:
                break


def _lines(path: Path) -> list[str]:
    """Of a file of the kernel's; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def micro_batches_that_fit(encoder: Encoder, device: torch.device, batch_size: int, longest: int) -> int:
    """How many parts a batch is to be computed in so that, by estimate, memory suffices; updates stay the same.

    The estimate takes every sequence to be as long as the longest. Should it still be too low, the update that runs
    out of memory is split further (`training.update`).
    """
    free = free_memory(device)
    if free is None:
        return 1
    weights = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    room = _SHARE * free - sum(4 * weight.numel() for weight in weights)
    itemsize, twice = encoder.compute_dtype.itemsize, encoder.activation_checkpointing
    one = activation_bytes(encoder.config, longest, itemsize, checkpointing=twice)
    sequences = max(1, min(batch_size, int(room // one)))
    parts = math.ceil(batch_size / sequences)
    message = f"--batch-size auto: {batch_size} a step, {free / 2**30:.1f} GiB free"
    logger.info("%s, so computed in %d %s", message, parts, "part" if parts == 1 else "parts")
    return parts
