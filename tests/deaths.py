"""Processes of Ray that are killed at certain points. Without imports of weight: each that follows makes them again."""

import contextlib
import dataclasses
import hashlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from bertune.data.documents import Document
from bertune.pretraining.ray_writers import Arrays, Encode


def die_once(mark: Path) -> None:
    """SIGKILL to this process of Ray, unless another one has died with the same mark."""
    if os.environ.get("RAY_JOB_ID", "driver") == "driver":
        return
    with contextlib.suppress(FileExistsError):
        mark.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


@dataclasses.dataclass(frozen=True)
class MortalEncoding:
    """Encodes as `encode` does; its process is killed the first time that it has one of some shards in hand."""

    encode: Encode
    folder: str
    kills: int

    def __call__(self, documents: Sequence[Document]) -> Arrays:
        first = "\n".join(documents[0].sentences)
        if first.startswith("film") and len(first.split()) <= 3 + self.kills // 2:
            die_once(Path(self.folder) / f"kill-{hashlib.sha256(first.encode()).hexdigest()}")
        return self.encode(documents)
