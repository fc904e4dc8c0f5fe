"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder for files that can be made again: in BERTUNE_CACHE, else in the user's cache folder."""
    if "BERTUNE_CACHE" in os.environ:
        return Path(os.environ["BERTUNE_CACHE"]) / name
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bertune" / name
