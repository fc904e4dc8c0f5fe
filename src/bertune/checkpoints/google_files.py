"""Where a checkpoint of TensorFlow lies: a folder or a name becomes the files' common beginning, the prefix."""

import contextlib
import re
from pathlib import Path

from bertune.errors import InputError

_SUFFIX = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
_NEWEST = re.compile(rb'^\s*model_checkpoint_path\s*:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}


def find_checkpoint(path: Path) -> Path:
    """The prefix of the checkpoint that `path` means.

    In a folder it is the newest one, as the text file `checkpoint` names it (a folder may have moved since: a name in
    the folder itself is preferred to one elsewhere), else `bert_model.ckpt`, else the only one.

    Args:
        path: a folder, a prefix (`.../bert_model.ckpt`, `.../model.ckpt-15`) or one of a checkpoint's files.

    Raises:
        InputError: there is none, or several and nothing says which.
    """
    if path.is_dir():
        return _in_folder(path)
    prefix = path.with_name(_SUFFIX.sub("", path.name)) if path.name else path
    if _index(prefix).is_file():
        return prefix
    if prefix.is_file():
        raise InputError(
            f"{path}: a single file without {_index(prefix).name} beside it. Expected a checkpoint of files .index and "
            ".data-…; the older one-file format of TensorFlow is not read."
        )
    near = [str(found) for found in prefixes_in(path.parent)] if path.parent.is_dir() else []
    hint = f" Checkpoints in that folder: {', '.join(near)}." if near else ""
    raise InputError(f"{path}: no checkpoint found; expected a folder, or a prefix with {_index(prefix).name}.{hint}")


def is_google_checkpoint(path: Path) -> bool:
    """Whether `path` is a folder with TensorFlow checkpoints, a checkpoint's prefix or one of its files."""
    if path.is_dir():
        return bool(prefixes_in(path))
    return bool(path.name) and _index(path.with_name(_SUFFIX.sub("", path.name))).is_file()


def prefixes_in(folder: Path) -> list[Path]:
    """Prefixes of the checkpoints that lie directly in a folder, by name."""
    candidates = sorted(folder.glob("*.index"))
    prefixes = [path.with_name(path.name.removesuffix(".index")) for path in candidates if path.is_file()]
    return [prefix for prefix in prefixes if ".ckpt" in prefix.name or _has_data(prefix)]


def _in_folder(folder: Path) -> Path:
    prefixes = prefixes_in(folder)
    names = ", ".join(prefix.name for prefix in prefixes) or "none"
    state = folder / "checkpoint"
    if state.is_file() and (match := _NEWEST.search(state.read_bytes())):
        named = Path(_unescape(match[1]).decode("utf-8", "replace").replace("\0", "�"))
        with contextlib.suppress(OSError):  # a name too long for a file
            for prefix in (folder / named.name, folder / named):
                if _index(prefix).is_file():
                    return prefix
        raise InputError(
            f"{state}: names {str(named)!r} as the newest checkpoint, which is not there. "
            f"Name one of the folder's own instead: {names}."
        )
    if folder / "bert_model.ckpt" in prefixes:
        return folder / "bert_model.ckpt"
    if len(prefixes) != 1:
        what = "several checkpoints and no file `checkpoint` that says which" if prefixes else "no checkpoint (*.index)"
        raise InputError(
            f"{folder}: holds {what}: {names}. Name one by its prefix, as in {folder / 'bert_model.ckpt'}."
        )
    return prefixes[0]


def _index(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def _has_data(prefix: Path) -> bool:
    start = f"{prefix.name}.data-"
    return any(path.name.startswith(start) for path in prefix.parent.iterdir())


def _unescape(text: bytes) -> bytes:
    """A quoted text of protocol buffers' text format, its escapes resolved."""

    def plain(match: re.Match[bytes]) -> bytes:
        octal, hexadecimal, letter = match.groups()
        if octal or hexadecimal:
            return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF])
        return _LETTERS.get(letter, letter)

    return _ESCAPE.sub(plain, text)
