"""Data from pipes and standard input."""

import gzip
import io
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.data.rows import open_rows
from bertune.errors import InputError
from bertune.files.inputs import refuse_pipe, seekable

ROWS = [{"text": "a, b", "label": "x"}, {"text": "ü", "label": "y"}]


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


CSV = 'text,label\n"a, b",x\nü,y\n'.encode()
TSV = "text\tlabel\na, b\tx\nü\ty\n".encode()
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
FORMS: dict[str, Callable[[], bytes]] = {
    "csv": lambda: CSV,
    "bom": lambda: b"\xef\xbb\xbf" + CSV,
    "tsv": lambda: TSV,
    "jsonl": lambda: JSONL,
    "one line": JSONL.rstrip,
    "csv.gz": lambda: gzip.compress(CSV),
    "jsonl.gz": lambda: gzip.compress(JSONL),
    "parquet": parquet,
}


def pipe_of(data: bytes) -> int:
    read, write = os.pipe()

    def fill() -> None:
        with os.fdopen(write, "wb") as stream:
            stream.write(data)

    threading.Thread(target=fill, daemon=True).start()
    return read


@pytest.mark.parametrize("form", FORMS)
def test_the_format_of_a_pipe_is_told_from_its_data(form: str) -> None:
    read = pipe_of(FORMS[form]())
    with seekable(f"/dev/fd/{read}", "--input") as path:
        rows = [dict(row.values) for row in open_rows(path)]
    os.close(read)
    assert rows[: len(ROWS)] == ROWS[: len(rows)]
    assert len(rows) == 2


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"text,label\na,b,c\n")))
    with pytest.raises(InputError, match=r"^standard input, line 2: 2 fields"), seekable("-", "--input") as path:
        list(open_rows(path))


def test_a_named_pipe_and_a_plain_file(tmp_path: Path) -> None:
    pipe, plain = tmp_path / "pipe.csv", tmp_path / "plain.csv"
    os.mkfifo(pipe)
    threading.Thread(target=lambda: pipe.write_bytes(CSV), daemon=True).start()
    with seekable(str(pipe), "--input") as path:
        assert [dict(row.values) for row in open_rows(path)] == ROWS
    plain.write_bytes(CSV)
    with seekable(str(plain), "--input") as path:
        assert path == plain


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom", "/dev/full"])
def test_devices_without_an_end_are_refused(device: str) -> None:
    with pytest.raises(InputError, match="is a device"), seekable(device, "--input"):
        pass


def test_an_empty_pipe() -> None:
    with pytest.raises(InputError, match="/dev/null is empty"), seekable("/dev/null", "--input") as path:
        open_rows(path)


def test_training_data_is_no_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "train.csv"
    os.mkfifo(pipe)
    with pytest.raises(InputError, match="write it to a file first"):
        refuse_pipe(pipe)
    with pytest.raises(InputError, match="write it to a file first"):
        open_rows(pipe)
