"""A file's features, tokenized once: the next run on the same file, with the same tokenizer and task, finds them."""

import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bertune
from bertune.data.contents import content_sha256, state_of
from bertune.data.feature_store import FeatureStore
from bertune.features import Features
from bertune.files.cache import cache_folder
from bertune.tasks.protocol import Purpose, Task
from bertune.tasks.user_files import task_file_of
from bertune.tokenization.text_encoding import TextEncoding

logger = logging.getLogger(__name__)

WORTH = 10_000
"""Examples from which on features are kept: fewer are tokenized in less than a second."""


@dataclass(frozen=True)
class Source:
    """A data file, or a folder that is one data set, and its SHA-256, taken before its rows are read.

    sha256: of the file; of a folder, or a file with side files, of all of them (`data.contents`).
    state: which files they were, how long, and when they were written last.
    """

    path: Path
    sha256: str
    state: tuple[int, ...] = ()

    @classmethod
    def of(cls, path: Path) -> "Source":
        """A file or folder as it is now.

        Raises:
            InputError: there is none, or it cannot be read.
        """
        state = state_of(path)
        return cls(path, content_sha256(path), state)

    def changed(self) -> bool:
        """Whether the file is another one now, or was written since."""
        return state_of(self.path) != self.state


def features_folder() -> Path:
    """Where features lie."""
    return cache_folder("features")


def featurized(
    task: Task[Any],
    examples: Sequence[Any],
    text: TextEncoding,
    *,
    purpose: Purpose,
    source: Source | None,
) -> Features:
    """`task.featurize`, or what it gave for the same file before.

    A task from a user's file is always asked: what its code depends on is not known here.

    Args:
        task: as learnt.
        examples: all of the file's.
        text: the tokenizer and the longest sequence.
        purpose: what the features are for.
        source: the file that all these examples were read from; None: nothing is kept or looked for.
    """
    entry = _entry(task, len(examples), text, purpose, source)
    found = entry.find()
    if found is not None:
        return found
    made = task.featurize(examples, *text, purpose=purpose)
    entry.put(made)
    return made


@dataclass(frozen=True)
class _Entry:
    """A place for a file's features; without a store nothing is found or kept."""

    store: FeatureStore | None
    key: str
    path: Path

    def find(self) -> Features | None:
        """What lies there."""
        found = self.store.find(self.key) if self.store is not None else None
        if self.store is None or found is None or not len(found):
            return None
        logger.info("%s: found tokenized in %s", self.path, self.store.folder)
        return found

    def put(self, features: Features) -> None:
        """Keep features for the next run."""
        if self.store is not None:
            self.store.put(self.key, features)


def _entry(task: Task[Any], examples: int, text: TextEncoding, purpose: Purpose, source: Source | None) -> _Entry:
    made_from = task.feature_key()
    if source is None or examples < WORTH or made_from is None or task_file_of(task) is not None:
        return _Entry(None, "", Path())
    return _Entry(FeatureStore(features_folder()), _key(made_from, examples, text, purpose, source), source.path)


def _key(task: Mapping[str, Any], examples: int, text: TextEncoding, purpose: Purpose, source: Source) -> str:
    """A hash of everything that features depend on."""
    tokenizer, max_seq_length = text
    made_from = {
        "code": _code(),
        "tokenizers": importlib.metadata.version("tokenizers"),
        "data": source.sha256,
        "examples": examples,
        "kind": "".join(source.path.suffixes[-2:]),
        "task": task,
        "tokenizer": tokenizer.fingerprint,
        "special": repr(tokenizer.special),
        "max_seq_length": max_seq_length,
        "purpose": purpose,
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """A hash of bertune's own code that makes features: another edition of it makes its own."""
    root = Path(bertune.__file__).parent
    folders = ("tasks", "data", "tokenization", "files")
    files = [*root.glob("*.py"), *(path for folder in folders for path in root.glob(f"{folder}/**/*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()
