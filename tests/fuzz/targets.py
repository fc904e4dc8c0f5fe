"""Every reader as a function of bytes, which gives a result or raises what it announces; and sound bytes for it.

Used twice: by hypothesis (`test_targets.py`) and, guided by coverage, by atheris (`make fuzz`).
"""

import contextlib
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from bertune.checkpoints import huggingface
from bertune.checkpoints.archives import member_names, opened
from bertune.checkpoints.google_config import read_bert_config
from bertune.checkpoints.google_files import find_checkpoint
from bertune.data.documents import read_documents
from bertune.data.formats.format import Sample
from bertune.data.rows import open_rows
from bertune.data.table_options import TableOptions
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.files.yaml_files import read_yaml
from bertune.model.record import read_record
from bertune.tasks.choices import read_choices
from bertune.tasks.options import ChoiceOptions
from bertune.tasks.squad.reading import read_questions
from bertune.tasks.tagging.conll import read_conll
from bertune.tensorflow_formats.bundle_index import Entry, read_entry, write_entry, write_header
from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import Message, WireError
from bertune.tensorflow_formats.saved_model import Graph
from bertune.tensorflow_formats.sstable import TableError, read_table, write_table
from bertune.tensorflow_formats.tensor_bundle import TensorBundle, write_bundle
from bertune.tensorflow_formats.tfrecord import encode_example, framed, read_records
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.vocabulary_files import read_vocabulary
from tests import tiny

Read = Callable[[bytes, Path], object]
"""Reads bytes; the folder is empty and may be written to."""


@dataclass(frozen=True)
class Target:
    """A reader and sound bytes for it. told: the errors that it may raise, besides InputError."""

    read: Read
    seeds: Callable[[Path], list[bytes]]
    told: tuple[type[Exception], ...] = ()


def run(name: str, data: bytes, folder: Path) -> None:
    """Give bytes to a reader. Any error that it does not announce comes out."""
    target = TARGETS[name]
    announced: tuple[type[Exception], ...] = (InputError, *target.told)
    with contextlib.suppress(*announced):
        target.read(data, folder)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _file(name: str, read: Callable[[Path], object]) -> Read:
    """A reader of files by this name."""
    return lambda data, folder: read(_written(folder / name, data))


def _all(read: Callable[[Path], object]) -> Callable[[Path], object]:
    """A reader that gives an iterator, read to its end."""
    return lambda path: list(read(path))  # type: ignore[call-overload]


def _message(data: bytes, folder: Path) -> None:
    message = Message(data)
    for number in range(1, 6):
        for reading in (
            message.integer,
            message.integers,
            message.fixed32,
            message.floats,
            message.text,
            message.texts,
            message.message,
            message.data,
        ):
            try:
                reading(number)
            except WireError:
                continue
        for items in (message.messages, message.entries, message.views):
            try:
                list(items(number))
            except WireError:
                continue


def _block(data: bytes, folder: Path) -> None:
    """A table whose only block holds these bytes, with sound checksums around them."""
    block = data + b"\0"
    block += struct.pack("<I", masked(crc32c(block)))
    index = b"\0\x01" + bytes([len(_handle(0, len(data)))]) + b"\xff" + _handle(0, len(data)) + struct.pack("<2I", 0, 1)
    index_at = len(block)
    rest = index + b"\0"
    rest += struct.pack("<I", masked(crc32c(rest)))
    footer = _handle(0, len(data)) + _handle(index_at, len(index))
    read_table(memoryview(block + rest + footer.ljust(40, b"\0") + write_table([])[-8:]))


def _handle(offset: int, size: int) -> bytes:
    from bertune.tensorflow_formats.protobuf import varint

    return varint(offset) + varint(size)


def _entry_seeds(folder: Path) -> list[bytes]:
    whole = Entry(1, (2, 3), 0, 0, 24, masked(crc32c(bytes(24))))
    return [write_entry(whole), write_entry(Entry(7, (2,), 0, 0, 9)), write_entry(Entry(14, (), 0, 4, 2))]


def _bundle(data: bytes, folder: Path) -> None:
    """An index with this entry, sound around it."""
    read_entry(b"a", Message(data))
    prefix = folder / "a.ckpt"
    header = write_header()
    _written(Path(f"{prefix}.index"), write_table([(b"", header), (b"a", data)]))
    _written(Path(f"{prefix}.data-00000-of-00001"), bytes(64))
    _read_bundle(prefix)


def _read_bundle(prefix: Path) -> None:
    bundle = TensorBundle(prefix)
    for name in bundle.names():
        for read in (bundle.shape, bundle.dtype, bundle.read, bundle.read_strings):
            try:
                read(name)
            except InputError:
                continue


def _index(data: bytes, folder: Path) -> None:
    _written(folder / "a.ckpt.index", data)
    _written(folder / "a.ckpt.data-00000-of-00001", bytes(64))
    _read_bundle(folder / "a.ckpt")


def _index_seeds(folder: Path) -> list[bytes]:
    write_bundle(folder / "a.ckpt", {"a": np.ones((2, 3), np.float32), "b/c": np.arange(4)})
    return [(folder / "a.ckpt.index").read_bytes()]


def _checksum(data: bytes, folder: Path) -> None:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    assert crc32c(data) == register ^ 0xFFFFFFFF
    middle = len(data) // 2
    assert crc32c(data[middle:], crc32c(data[:middle])) == crc32c(data)


def _example_seeds(folder: Path) -> list[bytes]:
    return [encode_example({"ids": [1, 2, 300], "weights": [0.5, 1.5], "words": ["a", "好"]}), encode_example({})]


def _safetensors(data: bytes, folder: Path) -> None:
    _written(folder / "model.safetensors", struct.pack("<Q", len(data)) + data + bytes(24))
    huggingface.read_tensors(folder)


def _safetensors_seeds(folder: Path) -> list[bytes]:
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    return [json.dumps({"a": entry, "__metadata__": {"format": "pt"}}).encode()]


def _config(data: bytes, folder: Path) -> None:
    config = huggingface.config_from_json(read_json(_written(folder / "config.json", data)), "config.json")
    assert isinstance(config, EncoderConfig)
    if config.num_hidden_layers <= 4:
        with torch.device("meta"):
            Encoder(config)


def _config_seeds(folder: Path) -> list[bytes]:
    seed = json.dumps(tiny.settings()).encode()
    _config(seed, folder)  # what torch loads for it takes longer than an input may
    return [seed]


def _tokenizer(data: bytes, folder: Path) -> None:
    _written(folder / "tokenizer.json", data)
    tokenizer = Tokenizer.from_folder(folder)
    tokenizer.encode_with_offsets(["a good film", "", "漢字 Σ"])


def _tokenizer_seeds(folder: Path) -> list[bytes]:
    vocabulary = _written(folder / "vocab.txt", "\n".join([*tiny.SPECIAL, "a", "good", "##d"]).encode())
    Tokenizer.from_vocab(vocabulary).save(folder / "made", max_length=8)
    return [(folder / "made" / "tokenizer.json").read_bytes()]


def _vocab(data: bytes, folder: Path) -> None:
    read_vocabulary(_written(folder / "vocab.txt", data))
    Tokenizer.from_vocab(folder / "vocab.txt").encode(["a good film 漢"])


def _archive(data: bytes, folder: Path) -> None:
    path = _written(folder / "a.zip", data)
    with opened(path, folder / "into") as inside:
        assert inside.is_relative_to(folder / "into")


def _zip_seeds(folder: Path) -> list[bytes]:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("folder/bert_config.json", "{}")
    return [file.getvalue()]


def _tar_seeds(folder: Path) -> list[bytes]:
    import tarfile

    found = []
    for mode in ("w", "w:gz"):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode=mode) as archive:
            archive.addfile(tarfile.TarInfo("saved_model.pb"), io.BytesIO())
        found.append(file.getvalue())
    return found


def _names(data: bytes, folder: Path) -> None:
    list(member_names(_written(folder / "a.zip", data)))


def _checkpoint_file(data: bytes, folder: Path) -> None:
    _written(folder / "checkpoint", data)
    _written(folder / "a.ckpt.index", b"")
    _written(folder / "b.ckpt.index", b"")
    find_checkpoint(folder)


def _record(data: bytes, folder: Path) -> None:
    """bertune.json of a model folder."""
    read_record(_written(folder / "bertune.json", data), None)


def _graph(path: Path) -> None:
    graph = Graph(path)
    for node in (*graph.nodes.values(), *graph.function_nodes()):
        node.inputs()
        node.constant()
        graph.constant(node.name)
    for name in graph.signatures:
        graph.signature_output(name, "a")


def _of(*texts: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: [text.encode() for text in texts]


_TABLE = 'text,label\n"a ""good"" film",x\nb,y\n'
_SQUAD = {"id": "1", "question": "who", "answers": [{"text": "a", "answer_start": 0}]}
_ARTICLES = {"version": "1", "data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": [_SQUAD]}]}]}
_CHOICES = '{"context": "a", "question": "b", "choices": ["c", "d"], "answer": 1}\n'


_MODEL = '{"task": {"name": "text-classification", "options": {}, "labels": ["a", "b"]}, "max_seq_length": 9}'


def _parquet_seeds(folder: Path) -> list[bytes]:
    return [tiny.write_rows(folder / "a.parquet", tiny.opinions(4)).read_bytes()]


def _tags(path: Path) -> list[object]:
    return list(read_conll(Sample(path, TableOptions()), token_at=0, tag_at=-1, labelled=True))


def _choices(path: Path) -> list[object]:
    return list(read_choices(path, ChoiceOptions(), labelled=True))


TARGETS: dict[str, Target] = {
    "protobuf": Target(_message, _entry_seeds, (WireError,)),
    "sstable": Target(lambda data, folder: read_table(memoryview(data)), _index_seeds, (TableError,)),
    "sstable_block": Target(_block, lambda folder: [b"\0\1\1ab\0\0\0\0\1\0\0\0"], (TableError,)),
    "bundle_entry": Target(_bundle, _entry_seeds, (WireError,)),
    "bundle_index": Target(_index, _index_seeds),
    "crc32c": Target(_checksum, _of("123456789", "")),
    "tfrecord": Target(
        _file("a.tfrecord", _all(read_records)), lambda folder: [framed(seed) for seed in _example_seeds(folder)]
    ),
    "tfrecord_example": Target(
        lambda data, folder: list(read_records(_written(folder / "a.tfrecord", framed(data)))), _example_seeds
    ),
    "saved_model": Target(_file("saved_model.pb", _graph), _of("", "\x08\x01\x12\x02\x12\x00"), (WireError,)),
    "safetensors": Target(_safetensors, _safetensors_seeds),
    "config": Target(_config, _config_seeds),
    "bert_config": Target(
        _file("bert_config.json", read_bert_config), lambda folder: [json.dumps(tiny.SIZES).encode()]
    ),
    "tokenizer": Target(_tokenizer, _tokenizer_seeds),
    "vocab": Target(_vocab, _of("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n##b\n")),
    "zip": Target(_archive, _zip_seeds),
    "tar": Target(_archive, _tar_seeds),
    "archive_names": Target(_names, lambda folder: _zip_seeds(folder) + _tar_seeds(folder)),
    "checkpoint_file": Target(
        _checkpoint_file, _of('model_checkpoint_path: "a.ckpt"\n', 'model_checkpoint_path: "\\141.ckpt"')
    ),
    "record": Target(_record, _of(_MODEL)),
    "csv": Target(_file("a.csv", lambda path: list(open_rows(path))), _of(_TABLE, "a\n\n1\n")),
    "csv_gz": Target(
        lambda data, folder: list(open_rows(_written(folder / "a.csv.gz", data))),
        lambda folder: [gzip.compress(_TABLE.encode())],
    ),
    "tsv": Target(_file("a.tsv", lambda path: list(open_rows(path))), _of("text\tlabel\na\tb\n")),
    "jsonl": Target(_file("a.jsonl", lambda path: list(open_rows(path))), _of('{"text": "a", "label": [1, null]}\n')),
    "parquet": Target(_file("a.parquet", lambda path: list(open_rows(path))), _parquet_seeds),
    "conll": Target(_file("a.conll", _tags), _of("-DOCSTART- O\n\na B-X\nb I-X\n\n# id 1\nc O\n")),
    "squad": Target(_file("a.json", lambda path: read_questions(path, labelled=True)), _of(json.dumps(_ARTICLES))),
    "choices": Target(_file("a.jsonl", _choices), _of(_CHOICES)),
    "corpus": Target(
        _file("a.txt", lambda path: list(read_documents(path, "sentences", "text"))), _of("A film. Good.\n\nBad.\n")
    ),
    "yaml": Target(_file("a.yaml", read_yaml), _of("task: mrpc\nepochs: 3\nlabels: [a, b]\n", "a: {b: 1e-4}\n")),
}
