"""Rows from CSV, TSV, JSON lines and Parquet files, and what is told about bad ones."""

import gzip
import hashlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.data import rows as rows_module
from bertune.data.rows import Row, file_sha256, open_rows
from bertune.errors import InputError
from bertune.files import text_files
from tests.data.reading import plain, problem

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, gzipped when its name ends in .gz."""

    def write_file(name: str, content: str | bytes) -> Path:
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
        return path

    return write_file


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last_end", [True, False])
@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t"), (".CSV.GZ", ","), (".tsv.gz", "\t")])
def test_table(write: Write, suffix: str, separator: str, end: str, last_end: bool, mark: str) -> None:
    lines = [f"text{separator}label", f"好 text{separator}1", f"{separator}0"]
    file = open_rows(write(f"a{suffix}", mark + end.join(lines) + end * last_end))
    assert file.columns == ["text", "label"]
    expected = [Row(2, {"text": "好 text", "label": "1"}), Row(3, {"text": "", "label": "0"})]
    assert list(file) == expected
    assert list(file) == expected  # every iteration reads anew


def test_without_header_columns_are_numbered(write: Write) -> None:
    file = open_rows(write("a.tsv", "\ufeffx\ty\nz\tw\n"), header=False)
    assert file.columns == ["0", "1"]
    assert plain(file) == [(1, ["x", "y"]), (2, ["z", "w"])]


def test_quoted_csv_records_are_named_by_their_first_line(write: Write) -> None:
    file = open_rows(write("a.csv", 'text,label\n"a\nb, ""c""\r\n",1\nplain "q",2\n"",3\n'))
    assert plain(file) == [(2, ['a\nb, "c"\r\n', "1"]), (5, ['plain "q"', "2"]), (6, ["", "3"])]


def test_quotes_mean_nothing_in_tsv_unless_asked_for(write: Write) -> None:
    path = write("a.tsv", 'text\tlabel\n" said he\t1\n"x"\t0\n')
    assert plain(open_rows(path)) == [(2, ['" said he', "1"]), (3, ['"x"', "0"])]
    path = write("b.tsv", 'text\tlabel\n"a\tb"\t1\n')
    assert plain(open_rows(path, quoting=True)) == [(2, ["a\tb", "1"])]
    path = write("c.csv", 'text,label\n"x,1\n')
    assert plain(open_rows(path, quoting=False)) == [(2, ['"x', "1"])]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_only_line_feeds_end_lines(write: Write, suffix: str) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    assert plain(open_rows(write(f"a{suffix}", f"text\n{text}\nnext\n"))) == [(2, [text]), (3, ["next"])]
    file = open_rows(write("a.jsonl", '{"text": "a\u2028b\x85c"}\n{"text": "d"}\n'))
    assert plain(file) == [(1, ["a\u2028b\x85c"]), (2, ["d"])]
    assert plain(open_rows(write("a.tsv", "text\na\rb\r\nc\n"))) == [(2, ["a\rb"]), (3, ["c"])]


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_blank_lines(write: Write, suffix: str) -> None:
    one = open_rows(write(f"one{suffix}", "\ntext\na\n\n\nb\n\n\n"))
    assert plain(one) == [(3, ["a"]), (4, [""]), (5, [""]), (6, ["b"])]
    separator = "," if suffix == ".csv" else "\t"
    two = write(f"two{suffix}", "a,b\n1,2\n\n3,4\n  \n\n".replace(",", separator))
    assert problem(two) == f"{two}, line 3: 2 fields expected, a blank line found"


def test_a_row_of_empty_fields_is_not_blank(write: Write) -> None:
    assert plain(open_rows(write("a.tsv", "a\tb\n1\t2\n\t\n"))) == [(2, ["1", "2"]), (3, ["", ""])]
    assert plain(open_rows(write("a.csv", 'a\n1\n""\n'))) == [(2, ["1"]), (3, [""])]
    assert plain(open_rows(write("a.csv", '""\n""\n'), header=False)) == [(1, [""]), (2, [""])]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz"])
def test_json_lines(write: Write, name: str) -> None:
    first = {"text": "好", "label": 1, "more": [1, {"a": None}], "ok": True}
    objects = [first, {"text": "b", "label": 2.5, "more": None, "ok": "x"}]
    dumped = [json.dumps(value, ensure_ascii=index == 0) for index, value in enumerate(objects)]
    file = open_rows(write(name, "\ufeff" + dumped[0] + "\r\n\n  \n" + dumped[1] + "\n\n"))
    assert file.columns == ["text", "label", "more", "ok"]
    assert list(file) == [Row(1, objects[0]), Row(4, objects[1])]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["a", "好", None] * 1000, "label": [1, 2, 3] * 1000, "tags": [["x"], [], None] * 1000})
    pq.write_table(table, path, row_group_size=700)
    file = open_rows(path)
    assert file.columns == ["text", "label", "tags"]
    assert [dict(row.values) for row in file] == table.to_pylist()
    assert [row.line for row in file] == list(range(1, 3001))
    assert file.where(12, "label") == f"{path}, row 12, column 'label'"
    pq.write_table(pa.table({"a": [{"b": 1}], "a.b": [2]}), path)
    assert list(open_rows(path, columns=["a.b"])) == [Row(1, {"a.b": 2})]


def test_where(write: Write) -> None:
    path = write("train.csv", "text,label\na,1\n")
    file = open_rows(path)
    assert file.where(12, "label") == f"{path}, line 12, column 'label'"
    assert [file.where(row) for row in file] == [f"{path}, line 2"]


def test_missing_file_names_similar_ones(write: Write, tmp_path: Path) -> None:
    write("train.tsv", "a\n1\n")
    write("unrelated", "")
    told = problem(tmp_path / "Train.csv")
    assert "Train.csv: no such file" in told
    assert told.endswith("did you mean train.tsv?")
    assert "there is no folder" in problem(tmp_path / "nowhere" / "train.csv")
    assert "cannot read" in problem(tmp_path / ("x" * 300 + ".csv"))


def test_folder_and_unknown_suffix(write: Write, tmp_path: Path) -> None:
    assert "is a folder" in problem(tmp_path)
    for name in ("a.json", "a", "a.gz", "a.parquet.gz", "csv", ".csv"):
        assert ".csv, .tsv, .jsonl, .ndjson (each also with .gz or .zst) and .parquet" in problem(write(name, "a\n1\n"))


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
@pytest.mark.parametrize("content", ["", "\ufeff", "\n\n", "\r\n"])
def test_empty_file(write: Write, name: str, content: str) -> None:
    assert "is empty" in problem(write(name, content))
    assert "is empty" in problem(write(name, content), header=False)


def test_ragged_lines_are_told_together(write: Write) -> None:
    lines = ["a\tb\tc"] + ["1\t2\t3", "1\t2", "1\t2\t3\t4"] * 15
    path = write("a.tsv", "\n".join(lines))
    told = problem(path).splitlines()
    assert told[0] == "30 problems:"
    assert told[1].startswith(f"  - {path}, line 3: 3 fields expected, 2 found;")
    assert told[2:] == [
        f"  - {path}, lines 4, 7, 10, … (15 in all): 3 fields expected, 4 found",
        f"  - {path}, lines 6, 9, 12, … (14 in all): 3 fields expected, 2 found",
    ]
    path = write("a.csv", 'a,b\n"x\ny",1\n"x\ny"\n')
    assert problem(path).startswith(f"{path}, line 4: 2 fields expected, 1 found; a text that holds")


def test_no_row_is_given_out_after_a_bad_one(write: Write) -> None:
    file = open_rows(write("a.csv", "a,b\n1,2\n3,4\n5\n6,7\n"))
    seen: list[Row] = []
    with pytest.raises(InputError, match="line 4"):
        seen.extend(file)
    assert [row.line for row in seen] == [2, 3]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_bytes_that_are_not_utf8(write: Write, name: str) -> None:
    good = "text\n" + "好\n" * 1000
    path = write(name, b"\xef\xbb\xbf" + good.encode() + "é\n".encode("latin1") + b"ok\n\xff\n")
    first = 3 + len(good.encode())
    told = problem(path)
    assert f"{path}, line 1002, byte {first} of the file (from 0): 0xe9 is not UTF-8" in told
    assert f"line 1004, byte {first + 5} of the file (from 0): 0xff" in told
    assert "2 problems" in told


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_nul_bytes(write: Write, name: str) -> None:
    assert f"{name}, line 2: a NUL byte" in problem(write(name, b'{"a": 1}\n{"b": "\0"}\n'))


def test_other_encodings_are_named(write: Write) -> None:
    for name in ("a.csv", "a.jsonl"):
        for encoding in ("utf-16", "utf-32"):  # both with a byte order mark
            assert "UTF-16" in problem(write(name, "text\n好\n".encode(encoding)))
    assert "it is UTF-16" in problem(write("a.tsv", b"\xfe\xff" + "text\n".encode("utf-16-be")))
    assert "NUL" in problem(write("a.csv", "text\na\n".encode("utf-16-le")))
    assert "add .gz to its name" in problem(write("a.csv", gzip.compress(b"text\na\n")))
    assert "spreadsheet" in problem(write("a.csv", b"PK\x03\x04..."))


def test_csv_quotes_that_do_not_close(write: Write) -> None:
    told = problem(write("a.csv", 'a,b\n1,2\n"x,1\n' + "y,2\n" * 100))
    assert "line 3: a quote opened in this record is not closed" in told
    told = problem(write("a.csv", 'a,b\n"x" y,1\nok,2\n"z"w,3\n1\n'))
    assert told.startswith("3 problems")
    assert "line 2: text follows a closing quote" in told
    assert "line 4: text follows a closing quote" in told
    assert "line 5: 2 fields expected, 1 found" in told
    assert "line 2: a carriage return" in problem(write("a.csv", "a\nx\ry\n"))


def test_a_csv_field_may_be_longer_than_the_csv_module_allows_at_first(write: Write) -> None:
    long = "x" * 300_000
    assert plain(open_rows(write("a.csv", f"a,b\n{long},1\n"))) == [(2, [long, "1"])]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[1, 2]", ": one JSON object is expected on every line, not [1, 2]"),
        ('"text"', ': one JSON object is expected on every line, not "text"'),
        ('{"a": }', ", column 7: not valid JSON"),
        ("{'a': 1}", ", column 2: not valid JSON"),
        ('{"a": 1} x', ", column 10: not valid JSON"),
        ('{"a": "\t"}', ", column 8: not valid JSON"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", ": the JSON is nested too deeply"),
        ('{"a": ' + "1" * 5000 + "}", ": Exceeds the limit (4300 digits)"),
        ('{"a": ["x \\uD83d y"]}', ": half of a surrogate pair (\\ud83d)"),
        ('{"\\udE00": 1}', ": half of a surrogate pair (\\ude00)"),
    ],
)
def test_bad_json_lines(write: Write, line: str, told: str) -> None:
    path = write("a.jsonl", f'{{"a": 1}}\n{line}\n{{"a": 2}}\nx\n')
    lines = problem(path).splitlines()
    assert lines[0] == "2 problems:"
    assert lines[1].startswith(f"  - {path}, line 2{told}")
    assert "sys." not in lines[1]
    assert lines[2].startswith(f"  - {path}, line 4, column 1: not valid JSON")
    assert problem(write("b.jsonl", line)).startswith(f"{path.parent / 'b.jsonl'}, line 1{told}")


def test_pairs_of_surrogates_and_their_look_alikes_are_fine(write: Write) -> None:
    file = open_rows(write("a.jsonl", '{"a": "\\ud83d\\ude00"}\n{"a": "\\\\ud83d"}\n'))
    assert plain(file) == [(1, ["😀"]), (2, ["\\ud83d"])]


def test_damaged_gzip(write: Write) -> None:
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (number, number**3) for number in range(5000)))
    path = write("a.csv", b"").with_name("b.csv.gz")
    checksum = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    block = whole[:10] + b"\xff" + whole[11:]
    for damaged in (whole[:-1], whole[: len(whole) // 2], whole[:5], checksum, block, whole + b"tail", b"a,b\n1,2\n"):
        path.write_bytes(damaged)
        assert f"cannot read {path}: " in problem(path)
    path.write_bytes(whole + gzip.compress(b"1,2\n"))  # members one after the other are one file
    assert sum(1 for _ in open_rows(path)) == 5001


@pytest.mark.parametrize("name", ["a.csv.gz", "a.tsv.gz", "a.jsonl.gz", "quotes.csv.gz", "quotes.fields.csv.gz"])
def test_gzip_bombs(write: Write, name: str) -> None:
    start, unit = {
        "quotes.csv.gz": (b'a\n"', b"line\n"),  # one quoted text without end
        "quotes.fields.csv.gz": (b'a\n"', b'","\n'),  # one record without end, of short texts
    }.get(name, (b"", b"x"))
    path = write(name, start + unit * ((40 << 20) // len(unit)))
    limit = 4 << 20
    assert "over 100 times as much" in problem(path)
    with (
        mock.patch.object(text_files, "_RATIO", 1 << 20),  # what stops bombs that unpack less
        mock.patch.object(text_files, "MAX_RECORD", limit),
        mock.patch.object(rows_module, "MAX_RECORD", limit),
    ):
        tracemalloc.start()
        told = problem(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "a quote opened in this record is not closed" in told or "line 1 is longer than" in told
    assert peak < 32 << 20  # the whole text is 40 MiB


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {number}" for number in range(5000)]}), path, compression="none")
    whole = path.read_bytes()
    for damaged in (b"", b"PAR1", whole[:-10], b"text,label\na,1\n", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        assert f"cannot read {path}: " in problem(path)
    for damaged in (whole[:4] + b"\xff" * 100 + whole[104:], whole.replace(b"\x04text", b"\x04te\xfft")):
        assert damaged != whole
        path.write_bytes(damaged)
        assert f"cannot read {path}: " in problem(path)


def test_parquet_values_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    raw = pa.array([b"ok"] * 1500 + [b"\xff"] + [b"ok"] * 600 + [b"\xfe"], pa.binary())
    pq.write_table(pa.table({"n": list(range(len(raw))), "text": raw.view(pa.string())}), path)
    told = problem(path)
    assert "2 problems" in told
    assert f"{path}, row 1501, column 'text': 'utf-8' codec can't decode" in told
    assert "row 2102, column 'text'" in told
    assert len(list(open_rows(path, columns=["n"]))) == len(raw)


def test_a_large_file_is_read_in_constant_memory(write: Write) -> None:
    path = write("a.csv", "text,label\n" + f"{'some words ' * 20},1\n" * 60_000)  # 13 MB
    with mock.patch.object(text_files, "MAX_RECORD", 3 << 20):  # holds for a record, not for the file
        tracemalloc.start()
        count = sum(1 for _ in open_rows(path))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 60_000
    assert peak < 8 << 20


# Hashes


def test_file_sha256(write: Write, tmp_path: Path) -> None:
    content = b"\x1f\x8b\0\xff" * 600_000  # several reads; any bytes
    assert file_sha256(write("a.bin", content)) == hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match=r"did you mean a\.bin"):
        file_sha256(tmp_path / "b.bin")
