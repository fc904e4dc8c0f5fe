"""The kernels compiled for aarch64 by a cross compiler and run under QEMU, in place of those of this machine.

Results are what is tested; an emulator says nothing about speed.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from bertune import processor
from bertune.encoder.kernels import build

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
LEVEL = "aarch64"


def missing() -> list[str]:
    """What `make test-arm` needs and this machine lacks."""
    return [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]


class EmulatedKernels:
    """Runs calls of kernels in an emulated process, one for each type of tensors (see driver.c)."""

    def __init__(self, folder: Path) -> None:
        self._processes = {}
        for dtype, defines in build.DEFINES.items():
            program = folder / str(dtype)
            flags = [flag for flag in build.FLAGS if flag not in ("-shared", "-fPIC")]
            flags += [*processor.LEVELS[LEVEL].flags, *defines, "-static", f"-I{build.SOURCES}"]
            driver = str(Path(__file__).with_name("driver.c"))
            subprocess.run([COMPILER, *flags, driver, "-o", str(program), "-lm"], check=True)
            self._processes[dtype] = subprocess.Popen(
                [EMULATOR, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )

    def call(self, dtype: torch.dtype, name: str, *arguments: Tensor | int | float | None) -> None:
        """In place of `calls._call`: tensors are sent, and written to as the kernel wrote to them."""
        tensors, packed = [], [struct.pack("<qq", ord("i"), torch.get_num_threads())]
        for argument in arguments:
            if isinstance(argument, Tensor):
                assert argument.is_contiguous()
                tensors.append(argument)
                packed.append(struct.pack("<qq", ord("t"), argument.numel() * argument.element_size()))
            elif argument is None:
                packed.append(struct.pack("<qq", ord("n"), 0))
            else:
                is_whole = isinstance(argument, int)
                packed.append(struct.pack("<qq" if is_whole else "<qd", ord("i" if is_whole else "d"), argument))
        process = self._processes[dtype]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(struct.pack("<60si", name.encode(), len(packed)) + b"".join(packed))
        for tensor in tensors:
            process.stdin.write(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
        process.stdin.flush()
        answer = process.stdout.read(4)
        assert answer == bytes(4), f"{name}: {answer!r}"
        for tensor in tensors:
            found = bytearray(process.stdout.read(tensor.numel() * tensor.element_size()))
            if found:
                tensor.detach().reshape(-1).view(torch.uint8).copy_(torch.frombuffer(found, dtype=torch.uint8))

    def end(self) -> None:
        """End the processes."""
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
            process.wait()
