"""Whether a folder holds a model. Imports nothing that computes: a command line is read before torch is."""

from pathlib import Path

from bertune.errors import InputError
from bertune.files.atomic_write import SAVED

MODEL_FILE = "bertune.json"
"""What a model is: task, options, hashes."""


def require_model(folder: Path, option: str = "--model") -> None:
    """Refuse a folder that holds no model.

    Args:
        folder: that is to hold one.
        option: what named it, for the message; empty: it was named without an option.

    Raises:
        InputError: there is none.
    """
    if (folder / MODEL_FILE).is_file() or (folder / SAVED / MODEL_FILE).is_file():
        return
    named = f"{option} {folder}".strip()
    if not folder.exists():
        raise InputError(f"{named}: there is no such folder")
    if folder.suffix.lower() == ".zip":
        raise InputError(
            f"{named}: a packed model is unpacked before it is used: python -m zipfile -e {folder} unpacked; then name "
            "the folder in it"
        )
    kind = f"{MODEL_FILE} is missing" if folder.is_dir() else "it is a file"
    raise InputError(f"{named}: holds no bertune model ({kind}); train one first")
