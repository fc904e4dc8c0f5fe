"""Rows of any content: what is written comes back, and any bytes are rows or a told error."""

import csv
import io
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertune.data.rows import open_rows
from bertune.errors import InputError
from bertune.files import text_files
from tests.data.reading import plain, problem

cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["", '"', '""', ",", "\n", "\r\n", "\r", "\u2028", "\ufeff", " ", "a,b", '"\n']
)
tables = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=8)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables, end=st.sampled_from(["\n", "\r\n"]), chunk=st.sampled_from([1, 2, 5, 1 << 20]), data=st.data())
def test_what_csv_writes_comes_back(
    folder: Path, table: list[list[str]], end: str, chunk: int, data: st.DataObject
) -> None:
    names = [f"column {index}" for index in range(len(table[0]))]
    # A lone CR is not quoted by all versions of the writer.
    some = [csv.QUOTE_ALL] if any("\r" in cell for row in table for cell in row) else [csv.QUOTE_MINIMAL, csv.QUOTE_ALL]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=data.draw(st.sampled_from(some))).writerows([names, *table])
    path = folder / "table.csv"
    path.write_text(text.getvalue(), encoding=data.draw(st.sampled_from(["utf-8", "utf-8-sig"])), newline="")
    with mock.patch.object(text_files, "_CHUNK", chunk):
        found = list(open_rows(path))
    assert [list(row.values.values()) for row in found] == table
    heights = [1 + sum(cell.count("\n") for cell in row) for row in table]
    assert [row.line for row in found] == [2 + sum(heights[:index]) for index in range(len(table))]


@settings(max_examples=200, deadline=None)
@given(table=tables, chunk=st.sampled_from([1, 3, 1 << 20]), end=st.sampled_from(["\n", "\r\n"]))
def test_tsv_lines_come_back(folder: Path, table: list[list[str]], chunk: int, end: str) -> None:
    table = [[cell.translate({9: " ", 10: " ", 13: " "}) for cell in row] for row in table]
    path = folder / "table.tsv"
    lines = ["\t".join(str(index) for index in range(len(table[0]))), *("\t".join(row) for row in table)]
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")
    if all(row == [""] for row in table):
        assert "no rows" in problem(path)
        return
    while table[-1] == [""]:  # blank lines at the end are not rows
        table.pop()
    with mock.patch.object(text_files, "_CHUNK", chunk):
        assert plain(open_rows(path)) == list(enumerate(table, 2))


pieces = [b'"', b",", b"\t", b"\n", b"\r\n", b"\r", b"\0", b"a", b'{"a":1}', b"[", b"\xff", b"\xe4\xbd\xa0", b" "]


@settings(max_examples=300, deadline=None)
@given(
    data=st.lists(st.sampled_from(pieces) | st.binary(max_size=3), max_size=20).map(b"".join),
    name=st.sampled_from(["x.csv", "x.tsv", "x.jsonl", "x.csv.gz", "x.parquet"]),
    header=st.booleans(),
    chunk=st.sampled_from([1, 4, 1 << 20]),
)
def test_any_bytes_are_rows_or_a_told_error(folder: Path, data: bytes, name: str, header: bool, chunk: int) -> None:
    path = folder / name
    path.write_bytes(b"a\n" + data)
    found, told = [], ""
    with mock.patch.object(text_files, "_CHUNK", chunk):
        try:
            found = list(open_rows(path, header=header))
        except InputError as error:
            told = str(error)
    assert found or str(path) in told
    assert [row.line for row in found] == sorted({row.line for row in found})
