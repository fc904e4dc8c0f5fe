"""Hostile data and files of options through every command: refused soon, in little memory, with nothing written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tiny
from tests.hostile.child import command
from tests.hostile.files import DEEP
from tests.hostile.test_hostile_encoders import check_refused, sizes

Write = Callable[[Path], object]
MIB = 1 << 20
ROW = b"text,label\na good film,good\na bad film,bad\n"


def _bytes(data: bytes) -> Write:
    return lambda path: path.write_bytes(data)


def _packed(*parts: bytes) -> Write:
    """Gzip members, one after the other."""
    return lambda path: path.write_bytes(b"".join(parts))


def _sparse(start: bytes, size: int) -> Write:
    """A file that begins so, and goes on with NULs that take no room on the disk."""

    def write(path: Path) -> None:
        path.write_bytes(start)
        with path.open("r+b") as file:
            file.truncate(size)

    return write


def _long(start: bytes, end: bytes, letter: bytes = b"a", size: int = 1024) -> Write:
    """A gzip file whose plain text holds `size` MiB of one letter."""
    block = gzip.compress(letter * (16 * MIB), 9)
    return _packed(gzip.compress(start), block * (size // 16), gzip.compress(end))


HOSTILE: dict[str, tuple[str, str, Write]] = {
    "a field of 1 GiB": ("text-classification", "a.csv.gz", _long(ROW + b'"', b'",x\n')),
    "a field of 1 GiB without quotes": ("text-classification", "a.csv.gz", _long(ROW, b",x\n")),
    "a field of 1 GiB in a plain file": ("text-classification", "a.csv", _sparse(ROW + b'"', 1 << 30)),
    "a TSV field of 1 GiB": ("text-classification", "a.tsv.gz", _long(b"text\tlabel\n", b"\tx\n")),
    "a JSON text of 1 GiB": ("text-classification", "a.jsonl.gz", _long(b'{"label": 1, "text": "', b'"}\n')),
    "10 GiB of blank lines": ("text-classification", "a.csv.gz", _long(ROW, b"a,b\n", b"\n", 10240)),
    "10 GiB of quoted line ends": ("text-classification", "a.csv.gz", _long(ROW + b'"', b'",b\n', b"\n", 10240)),
    "10 GiB of blank JSON lines": ("text-classification", "a.jsonl.gz", _long(b"", b"", b"\n", 10240)),
    "nested lists": ("text-classification", "a.jsonl", _bytes(b'{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n")),
    "nested objects": ("text-classification", "a.jsonl", _bytes(DEEP.encode() + b"\n")),
    "a number of a million digits": ("text-classification", "a.jsonl", _bytes(b'{"text": 1' + b"0" * 10**6 + b"}\n")),
    "NUL bytes": ("text-classification", "a.csv", _bytes(ROW + b"a\0b,good\n")),
    "bytes that are not UTF-8": ("text-classification", "a.csv", _bytes(ROW + b"\xff\x98\x81\x8d\x90,good\n")),
    "no text at all": ("text-classification", "a.csv", _bytes(bytes(range(256)) * 4096)),
    "Parquet that is none": (
        "text-classification",
        "a.parquet",
        _bytes(b"PAR1" + b"\xff" * 64 + b"\xff\xff\xff\x7fPAR1"),
    ),
    "QQP that is torn without end": ("qqp", "a.tsv", _bytes(b"a\tb\tc\td\te\tf\n" + b"x\n" * 2_000_000)),
    "SQuAD: nested": ("question-answering", "a.json", _bytes(DEEP.encode())),
    "SQuAD: a number of digits": ("question-answering", "a.json", _bytes(b'{"data": 1' + b"0" * 10**5 + b"}")),
    "SQuAD: a bomb": ("question-answering", "a.json.gz", _long(b'{"data": "', b'"}')),
    "CoNLL: a bomb": ("token-classification", "a.conll.gz", _long(b"", b"")),
    "CoNLL: a line of a gigabyte": ("token-classification", "a.conll", _sparse(b"a B-X\n", 1 << 30)),
    "CoNLL: 10 GiB of blank lines": ("token-classification", "a.conll.gz", _long(b"", b"", b"\n", 10240)),
    "annotations: nested": ("token-classification", "a.json", _bytes(DEEP.encode())),
    "annotations: a number of digits": ("token-classification", "a.json", _bytes(b"[1" + b"0" * 10**5 + b"]")),
    "multi-label: nested": (
        "multi-label-classification",
        "a.csv",
        _bytes(b'text,labels\nabc,"' + b"[" * 100_000 + b'"\n'),
    ),
    "choices: nested": ("multiple-choice", "a.jsonl", _bytes(b'{"context": "a", "choices": ' + b"[" * 200_000 + b"\n")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_training_data(name: str, sound: Path, tmp_path: Path) -> None:
    task, file, write = HOSTILE[name]
    (tmp_path / "case").mkdir()
    data = tmp_path / "case" / file
    write(data)
    before = sizes(tmp_path / "case")
    output = ["--encoder", sound / "encoder", "--output", tmp_path / "case" / "out", *tiny.FAST]
    check_refused(command(["train", "--task", task, "--train", data, *output], tmp_path / "child"))
    check_refused(command(["check", "--task", task, "--train", data], tmp_path / "child"))
    if task == "text-classification":
        answers = ["--output", tmp_path / "case" / "answers.jsonl"]
        check_refused(command(["evaluate", "--model", sound / "model", "--data", data], tmp_path / "child"))
        check_refused(command(["predict", "--model", sound / "model", "--input", data, *answers], tmp_path / "child"))
    assert sizes(tmp_path / "case") == before
    assert [path.name for path in (tmp_path / "child").rglob("*")] == ["tmp"]


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)
OPTIONS = {
    "a billion laughs": LAUGHS,
    "a billion laughs in an option": LAUGHS + "epochs: *k\n",
    "merged keys": "a: &a {epochs: 1}\n<<: *a\n",
    "an object": "epochs: !!python/object/apply:os.system ['touch pwned']\n",
    "a new object": "epochs: !!python/object/new:subprocess.Popen [['touch', 'pwned']]\n",
    "a name": "epochs: !!python/name:os.system\n",
    "a module": "epochs: !!python/module:os\n",
    "a tag of its own": "epochs: !evil 1\n",
    "nested": "epochs: " + "[" * 20_000 + "]" * 20_000 + "\n",
    "a number of 5000 digits": "epochs: 1" + "0" * 5000 + "\n",
    "a number that is none": "epochs: !!int ''\n",
    "a date that is none": "epochs: 2001-99-99\n",
    "a time that is none": "epochs: !!timestamp x\n",
    "a list as a name": "? [a, b]\n: 1\n",
    "NUL": "epochs: \0\n",
    "a gigabyte": "",
    "no mapping": "- a\n- b\n",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_hostile_files_of_options(name: str, sound: Path, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    file = tmp_path / "case" / "options.yaml"
    file.write_text(OPTIONS[name])
    if name == "a gigabyte":
        _sparse(b"epochs: 1\n", 1 << 30)(file)
    before = sizes(tmp_path / "case")
    train = ["train", "--task", "text-classification", "--encoder", sound / "encoder", "--train", sound / "train.csv"]
    verdict = command([*train, "--output", tmp_path / "case" / "out", "--config", file], tmp_path / "child")
    check_refused(verdict)
    assert "options.yaml" in verdict.err
    assert sizes(tmp_path / "case") == before
    assert not Path("pwned").exists()


def test_a_corpus_of_one_endless_line(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    for name, write in {"a.txt": _sparse(b"a film\n", 1 << 30), "a.txt.gz": _long(b"", b"")}.items():
        write(tmp_path / "case" / name)
        files = ["--train", tmp_path / "case" / name, "--output", tmp_path / "case" / "out", "--cache", tmp_path / "c"]
        verdict = command(["pretrain", "--encoder", sound / "encoder", *files], tmp_path / "child")
        check_refused(verdict)
        assert not (tmp_path / "case" / "out").exists()
        assert not [path for path in (tmp_path / "c").rglob("*") if path.is_file()]


def test_records_of_instances_that_lie(sound: Path, tmp_path: Path) -> None:
    huge = (1 << 62).to_bytes(8, "little")
    from bertune.tensorflow_formats.crc32c import crc32c, masked
    from bertune.tensorflow_formats.tfrecord import framed

    claims = huge + masked(crc32c(huge)).to_bytes(4, "little") + b"x" * 64
    (tmp_path / "case").mkdir()
    for number, data in enumerate([claims, framed(b"\xff" * 64), framed(b"\x0a" + b"\xff" * 9 + b"\x01")]):
        file = tmp_path / "case" / f"{number}.tf_record"
        file.write_bytes(data)
        files = ["--train", file, "--output", tmp_path / "case" / "out", "--cache", tmp_path / "c"]
        check_refused(command(["pretrain", "--encoder", sound / "encoder", *files], tmp_path / "child"))
        assert not (tmp_path / "case" / "out").exists()


def test_predictions_that_begin_well_leave_no_half_file(sound: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"text": "a good film"}) for _ in range(3000)]
    data = tmp_path / "a.jsonl"
    data.write_text("\n".join([*rows, DEEP]))
    answers = tmp_path / "answers.jsonl"
    answers.write_text("those of before\n")
    check_refused(
        command(["predict", "--model", sound / "model", "--input", data, "--output", answers], tmp_path / "c")
    )
    assert answers.read_text() == "those of before\n"
    assert {path.name for path in tmp_path.iterdir()} == {"a.jsonl", "answers.jsonl", "c"}
