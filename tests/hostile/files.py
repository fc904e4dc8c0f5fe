"""Hostile encoders and archives, by name: each takes a sound encoder's folder and makes of it what is to be refused."""

import gzip
import io
import json
import os
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from bertune.tensorflow_formats.bundle_index import Entry, write_entry, write_header
from bertune.tensorflow_formats.sstable import write_table
from tests import tiny

Spoil = Callable[[Path], Path]
"""Spoils a copy of a sound folder. Returns: what to open."""

DEEP = '{"a":' * 200_000 + "1" + "}" * 200_000
LONG_NUMBER = '{"vocab_size": 1' + "0" * 5000 + "}"


class Command:
    """Unpickled, it runs a command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.folder / 'pwned'}'",)


def _text(name: str, text: str) -> Spoil:
    def spoil(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder

    return spoil


def _setting(file: str, **values: object) -> Spoil:
    def spoil(folder: Path) -> Path:
        tree = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(tree | values))
        return folder

    return spoil


def _rules(change: Callable[[dict[str, dict[str, object]]], object]) -> Spoil:
    """Another tokenizer.json."""

    def spoil(folder: Path) -> Path:
        tree = json.loads((folder / "tokenizer.json").read_text())
        change(tree)
        (folder / "tokenizer.json").write_text(json.dumps(tree))
        return folder

    return spoil


def _weights(header: object, size: int | None = None, body: bytes = bytes(24)) -> Spoil:
    """Another safetensors file; size: what it claims its header to be."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()

    def spoil(folder: Path) -> Path:
        file = struct.pack("<Q", len(text) if size is None else size) + text + body
        (folder / "model.safetensors").write_bytes(file)
        return folder

    return spoil


def _tensor(shape: list[int], begin: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}


def _saved(change: Callable[[dict[str, torch.Tensor], Path], object], *, zipped: bool = True) -> Spoil:
    """What torch.save makes of something else than plain tensors."""

    def spoil(folder: Path) -> Path:
        found = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        with warnings.catch_warnings(action="ignore"):
            value = change(found, folder.parent)
        torch.save(value, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        return folder

    return spoil


def _repeated(tensors: dict[str, torch.Tensor], folder: Path) -> object:
    """One number, read a trillion times."""
    return tensors | {"embeddings.word_embeddings.weight": torch.zeros(1).expand(1 << 40)}


_HUGE = (1 << 30, 1 << 30)


def _sparse(tensors: dict[str, torch.Tensor], folder: Path) -> object:
    return tensors | {
        "embeddings.word_embeddings.weight": torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), _HUGE)
    }


def _meta(tensors: dict[str, torch.Tensor], folder: Path) -> object:
    return tensors | {"embeddings.word_embeddings.weight": torch.zeros(69, 16, device="meta")}


def _shards(names: object) -> Spoil:
    def spoil(folder: Path) -> Path:
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
        return folder

    return spoil


def _nested_index(folder: Path) -> Path:
    (folder / "model.safetensors").unlink()
    return _text("model.safetensors.index.json", DEEP)(folder)


def _zip(*members: tuple[str | zipfile.ZipInfo, bytes]) -> Spoil:
    def spoil(folder: Path) -> Path:
        path = folder.with_name("archive.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bert_config.json", "{}")
            for name, data in members:
                archive.writestr(name, data)
        return path

    return spoil


def _link_in_a_zip() -> zipfile.ZipInfo:
    member = zipfile.ZipInfo("vocab.txt")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


def _tar(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int | None = None) -> Spoil:
    def spoil(folder: Path) -> Path:
        path = folder.with_name("module.tar.gz")
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("saved_model.pb"), io.BytesIO())
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, target, 4 if size is None else size
            archive.addfile(member, io.BytesIO(b"evil") if size is None else None)
        return path

    return spoil


def _zip_bomb(folder: Path) -> Path:
    """One GiB of zeros in a megabyte."""
    path = folder.with_name("bomb.zip")
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bert_model.ckpt.index", "w") as file,
    ):
        for _ in range(1 << 10):
            file.write(bytes(1 << 20))
    return path


def _tar_bomb(folder: Path) -> Path:
    """A member of 16 GiB of zeros, packed: the same megabytes again and again, as gzip members."""
    head = tarfile.TarInfo("saved_model.pb")
    head.size = 16 << 30
    path = folder.with_name("bomb.tar.gz")
    block = gzip.compress(bytes(16 << 20), 9)
    path.write_bytes(gzip.compress(head.tobuf()) + block * 1024)
    return path


def _long_header(folder: Path) -> Path:
    """A tar header that claims a name of 8 GiB."""
    head = tarfile.TarInfo("././@LongLink")
    head.type, head.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    path = folder.with_name("long.tar.gz")
    path.write_bytes(gzip.compress(head.tobuf() + bytes(1 << 20)))
    return path


def _google(config: dict[str, object], index: bytes | None = None, data: bytes = b"") -> Spoil:
    """A folder in Google's layout."""

    def spoil(folder: Path) -> Path:
        made = folder.with_name("google")
        made.mkdir()
        numbers = {key: tiny.SIZES[key] for key in tiny.SIZES}
        (made / "bert_config.json").write_text(json.dumps(numbers | config))
        (made / "vocab.txt").write_text("\n".join(tiny.VOCABULARY) + "\n")
        (made / "bert_model.ckpt.index").write_bytes(write_table([(b"", write_header())]) if index is None else index)
        (made / "bert_model.ckpt.data-00000-of-00001").write_bytes(data)
        return made

    return spoil


def _entry(shape: tuple[int, ...], size: int, offset: int = 0) -> bytes:
    return write_table([(b"", write_header()), (b"a", write_entry(Entry(1, shape, 0, offset, size)))])


def _module(graph: bytes) -> Spoil:
    """A TF-Hub module whose graph is of these bytes."""

    def spoil(folder: Path) -> Path:
        made = folder.with_name("module")
        (made / "variables").mkdir(parents=True)
        (made / "saved_model.pb").write_bytes(graph)
        (made / "variables" / "variables.index").write_bytes(write_table([(b"", write_header())]))
        return made

    return spoil


def _endless_vocabulary(folder: Path) -> Path:
    """A vocab.txt of four gigabytes, which take no room on the disk."""
    (folder / "tokenizer.json").unlink()
    with (folder / "vocab.txt").open("r+b") as file:
        file.truncate(4 << 30)
    return folder


HOSTILE: dict[str, Spoil] = {
    "a pickle that runs a command": _saved(lambda tensors, folder: {"a": Command(folder)}, zipped=False),
    "a pickle that runs a command, in torch's zip": _saved(lambda tensors, folder: tensors | {"a": Command(folder)}),
    "a pickle of one number read a trillion times": _saved(_repeated),
    "a pickle of a sparse tensor of any size": _saved(_sparse),
    "a pickle of a tensor without numbers": _saved(_meta),
    "safetensors: a header of 10 GB": _weights({}, size=10 << 30),
    "safetensors: a header of all there is": _weights({}, size=(1 << 64) - 1),
    "safetensors: tensors that overlap": _weights({"a": _tensor([4], 0, 16), "b": _tensor([4], 8, 24)}),
    "safetensors: a tensor outside of the file": _weights({"a": _tensor([1 << 40], 0, 1 << 42)}),
    "safetensors: sizes whose product overflows": _weights({"a": _tensor([1 << 32, 1 << 32, 1 << 32], 0, 0)}),
    "safetensors: a negative size": _weights({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 24]}}),
    "safetensors: a nested header": _weights(DEEP.encode()),
    "shards: a nested index": _nested_index,
    "shards: outside of the folder": _shards({"a": "../../model.safetensors"}),
    "shards: an absolute name": _shards({"a": "/etc/passwd"}),
    **{
        f"{name}: {what}": _text(name, text)
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
        for what, text in (("nested", DEEP), ("a number of 5000 digits", LONG_NUMBER), ("nothing", ""), ("NUL", "\0"))
    },
    **{
        f"config.json: {key} of {value}": _setting("config.json", **{key: value})
        for key in ("num_hidden_layers", "hidden_size", "vocab_size", "max_position_embeddings", "type_vocab_size")
        for value in (10**9, 10**30)
    },
    "config.json: a model type that is code": _setting("config.json", model_type="__import__('os')"),
    "tokenizer_config.json: casing of another kind": _setting("tokenizer_config.json", do_lower_case={"a": 1}),
    "tokenizer.json: an id of four billion": _rules(lambda rules: _vocabulary(rules).update(the=4_000_000_000)),
    "tokenizer.json: a negative id": _rules(lambda rules: _vocabulary(rules).update(the=-5)),
    "vocab.txt: four gigabytes of nothing": _endless_vocabulary,
    "zip: ../": _zip(("../pwned", b"evil")),
    "zip: an absolute name": _zip(("/tmp/pwned", b"evil")),
    "zip: a drive": _zip(("C:\\pwned", b"evil")),
    "zip: a symbolic link": _zip((_link_in_a_zip(), b"/etc/passwd")),
    "zip: a bomb": _zip_bomb,
    "tar: ../": _tar("../pwned"),
    "tar: an absolute name": _tar("/tmp/pwned"),
    "tar: a symbolic link": _tar("assets", tarfile.SYMTYPE, "/etc"),
    "tar: a hard link": _tar("pwned", tarfile.LNKTYPE, "/etc/passwd"),
    "tar: a device": _tar("pwned", tarfile.CHRTYPE),
    "tar: a pipe": _tar("pwned", tarfile.FIFOTYPE),
    "tar: a member larger than the file": _tar("pwned", size=1 << 40),
    "tar: a bomb": _tar_bomb,
    "tar: a header of gigabytes": _long_header,
    "bundle: a tensor of 2^47 numbers": _google({}, _entry((1 << 40, 1 << 7), 1 << 49)),
    "bundle: a tensor outside of the file": _google({}, _entry((4,), 16, offset=1 << 40), bytes(16)),
    "bundle: a negative size": _google({}, _entry((-4,), 16), bytes(16)),
    "bundle: a wrong checksum": _google({}, _entry((4,), 16)[:-60] + b"\0" + _entry((4,), 16)[-59:], bytes(16)),
    "bundle: no table": _google({}, b"\xff" * 4096),
    "bundle: a table that points outside": _google(
        {}, b"\xff" * 20 + bytes(20) + struct.pack("<Q", 0xDB4775248B80FB57)
    ),
    "bert_config.json: layers without end": _google({"num_hidden_layers": 10**12}),
    "SavedModel: a field of 2^60 bytes": _module(b"\x12\x80\x80\x80\x80\x80\x80\x80\x80\x10"),
    "SavedModel: endless numbers": _module(b"\xff" * 4096),
}


def _vocabulary(rules: dict[str, dict[str, object]]) -> dict[str, object]:
    found = rules["model"]["vocab"]
    assert isinstance(found, dict)
    return found
