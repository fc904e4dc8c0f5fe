"""Columns of files, their customary names, and canonical names of labels."""

import datetime
import math
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.data.columns import guess_label_column, guess_text_columns, label_text, repeated, unknown_column
from bertune.data.rows import RowFile, open_rows
from bertune.errors import InputError


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["text", "label"], ("text", None)),
        (["label", " Review "], (" Review ", None)),
        (["ID", "SENTENCE", "label"], ("SENTENCE", None)),
        (["label", "text_a"], ("text_a", None)),
        (["index", "sentence1", "sentence2", "score"], ("sentence1", "sentence2")),
        (["Hypothesis", "Premise", "gold_label"], ("Premise", "Hypothesis")),
        (["index", "question", "sentence", "label"], ("question", "sentence")),
        (["id", "qid1", "qid2", "question1", "question2", "is_duplicate"], ("question1", "question2")),
        (["Text A", "text-b", "label"], ("Text A", "text-b")),
        (["text", "text_pair"], ("text", "text_pair")),
        (["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"], ("#1 String", "#2 String")),
        (["标签", "文本"], ("文本", None)),
        (["类别", " 内容"], (" 内容", None)),
        (["句子1", "句子2", "标签"], ("句子1", "句子2")),
        (["ｔｅｘｔ", "label"], ("ｔｅｘｔ", None)),  # full-width letters
        (["0"], ("0", None)),  # the only column
        (["utterances of the day"], ("utterances of the day", None)),
    ],
)
def test_text_columns(columns: list[str], expected: tuple[str, str | None]) -> None:
    assert guess_text_columns(columns) == expected


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["a", "b"], ["'a', 'b'", "--text-column", "--pair-column"]),
        (["0", "1", "2", "3"], ["'0', '1', '2', '3'", "--text-column"]),
        (["text", "content", "label"], ["several", "'text'; 'content'", "--text-column"]),
        (["Text", "text "], ["several", "'Text'; 'text '"]),
        (["question", "sentence", "answer"], ["several", "'question', 'sentence'; 'question', 'answer'"]),
        (["text", "premise", "hypothesis"], ["several", "'premise', 'hypothesis'; 'text'"]),
        (["sentence1", "label"], ["no column has a customary name"]),
        (["text;label"], ["'text;label'", "commas"]),
        (["text\tlabel"], ["tabs"]),
        (["label"], ["no column has a customary name", "'label'"]),
        ([], ["none"]),
    ],
)
def test_text_columns_that_cannot_be_told(columns: list[str], told: list[str]) -> None:
    with pytest.raises(InputError) as error:
        guess_text_columns(columns)
    for part in told:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["text", "label"], "label"),
        (["LABELS ", "text"], "LABELS "),
        (["sentence1", "sentence2", "score"], "score"),
        (["text", "target"], "target"),
        (["premise", "hypothesis", "label1", "gold_label"], "gold_label"),
        (["question1", "question2", "is_duplicate"], "is_duplicate"),
        (["text", "score", "label", "category"], "label"),  # "label" goes before the others
        (["文本", "标签"], "标签"),
        (["内容", "类别"], "类别"),
        (["text"], None),
        (["0", "1"], None),
        ([], None),
    ],
)
def test_label_column(columns: list[str], expected: str | None) -> None:
    assert guess_label_column(columns) == expected


@pytest.mark.parametrize("columns", [["text", "target", "category"], ["label", "text", "labels"]])
def test_label_column_that_cannot_be_told(columns: list[str]) -> None:
    with pytest.raises(InputError, match="--label-column"):
        guess_label_column(columns)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  positive\n", "positive"),
        ("\u3000好评 ", "好评"),
        ("two words", "two words"),
        ("3", "3"),
        ("3.0", "3.0"),
        ("TRUE", "TRUE"),
        ("False", "False"),
        ("nan", "nan"),
        (3, "3"),
        (-1, "-1"),
        (3.0, "3"),
        (-0.0, "0"),
        (3.25, "3.25"),
        (1e300, "1e+300"),
        (2.0**53, "9007199254740992"),
        (math.inf, "inf"),
        (Decimal("4.00"), "4"),
        (Decimal("0.5"), "0.5"),
        (True, "true"),
        (False, "false"),
        (None, None),
        ("", None),
        (" \t", None),
        (math.nan, None),
        (Decimal("NaN"), None),
    ],
)
def test_label_text(value: object, expected: str | None) -> None:
    assert label_text(value) == expected


@pytest.mark.parametrize("value", [["a"], {"a": 1}, b"a", datetime.date(2020, 1, 2), ["x" * 1000]])
def test_label_text_of_what_is_no_label(value: object) -> None:
    with pytest.raises(InputError, match=f"not {type(value).__name__} ") as error:
        label_text(value)
    assert len(str(error.value)) < 200


def test_repeated_and_unknown_columns() -> None:
    assert repeated(["a", "b", "a", "c", "b", "a"]) == ["a", "b"]
    assert unknown_column("lable", ["text", "label"]) == (
        "there is no column 'lable'; the columns are 'text', 'label'; did you mean 'label'?"
    )
    many = unknown_column("label", [str(number) for number in range(100)])
    assert "and 70 more" in many
    assert "did you mean" not in many


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def values(file: RowFile) -> list[list[object]]:
    return [list(row.values.values()) for row in file]


def problem(path: Path, columns: list[str] | None = None) -> str:
    with pytest.raises(InputError) as error:
        list(open_rows(path, columns=columns))
    return str(error.value)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_asked_columns_alone_are_read(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"a": ["1"], "a.b": ["2"], "c": ["3"]}), path)
    else:
        content = {"csv": "a,a.b,c\n1,2,3\n", "tsv": "a\ta.b\tc\n1\t2\t3\n", "jsonl": '{"a":"1","a.b":"2","c":"3"}'}
        path = written(tmp_path, f"a.{kind}", content[kind])
    file = open_rows(path, columns=["c", "a", "c"])
    assert file.columns == ["c", "a"]
    assert [dict(row.values) for row in file] == [{"c": "3", "a": "1"}]
    assert [dict(row.values) for row in open_rows(path).select(["a.b"])] == [{"a.b": "2"}]
    told = problem(path, columns=["C", "a", "x"])
    assert "2 problems" in told
    assert f"{path}: there is no column 'C'; the columns are 'a', 'a.b', 'c'" in told
    assert "'x'" in told


def test_asked_columns_without_header(tmp_path: Path) -> None:
    file = open_rows(written(tmp_path, "a.tsv", "gj04\t1\t\ttext\n"), header=False, columns=["3", "1"])
    assert values(file) == [["text", "1"]]


def test_header_only(tmp_path: Path) -> None:
    assert "has columns ('a', 'b') but no rows" in problem(written(tmp_path, "a.csv", "a,b"))
    assert "has columns ('a', 'b') but no rows" in problem(written(tmp_path, "a.tsv", "a\tb\n\n\n"))
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert "has columns ('a') but no rows" in problem(tmp_path / "a.parquet")
    assert "is empty" in problem(written(tmp_path, "a.jsonl", "{}\n"))


def test_duplicate_columns(tmp_path: Path) -> None:
    assert "several columns of the same name: 'a'" in problem(written(tmp_path, "a.csv", "a,b,a\n1,2,3\n"))
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), tmp_path / "a.parquet")
    assert "several columns of the same name: 'a'" in problem(tmp_path / "a.parquet")
    assert "line 2: the object has several keys 'a'" in problem(
        written(tmp_path, "a.jsonl", '{"a": 1}\n{"a": 1, "a": 2}\n')
    )


def test_json_keys_asked_for_must_be_everywhere(tmp_path: Path) -> None:
    path = written(
        tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n{"text": "c", "label": null}\n{"label": 2}\n'
    )
    told = problem(path, columns=["text", "label"])
    assert f"{path}, line 2: no key 'label'; the keys are 'text'" in told
    assert f"{path}, line 4: no key 'text'; the keys are 'label'" in told
    assert "2 problems" in told
    assert values(open_rows(written(tmp_path, "b.jsonl", '{"a": 1, "b": null}\n'), columns=["b"])) == [[None]]


def test_json_keys_of_the_first_object_are_none_where_missing(tmp_path: Path) -> None:
    file = open_rows(written(tmp_path, "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n{"id": 3, "label": 0}\n'))
    assert file.columns == ["text", "label"]
    assert [dict(row.values) for row in file] == [
        {"text": "a", "label": 1},
        {"text": "b", "label": None},
        {"text": None, "label": 0, "id": 3},
    ]


MRPC = ["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"]
STS_B = "index genre filename year old_index source1 source2 sentence1 sentence2 score".split()


@pytest.mark.parametrize(
    ("name", "header", "count", "columns"),
    [
        ("glue/MRPC/train.tsv", True, 3667, MRPC),
        ("glue/MRPC/dev.tsv", True, 408, MRPC),
        ("glue/MRPC/test.tsv", True, 1725, ["index", *MRPC[1:]]),
        ("glue/CoLA/train.tsv", False, 8551, ["0", "1", "2", "3"]),
        ("glue/CoLA/dev.tsv", False, 1043, ["0", "1", "2", "3"]),
        ("glue/CoLA/test.tsv", True, 1063, ["index", "sentence"]),
        ("glue/SST-2/train.tsv", True, 67349, ["sentence", "label"]),
        ("glue/SST-2/dev.tsv", True, 872, ["sentence", "label"]),
        ("glue/STS-B/train.tsv", True, 5749, STS_B),
        ("glue/STS-B/dev.tsv", True, 1500, STS_B),
        ("zh/chnsenticorp.train.tsv", True, 1500, ["label", "text_a"]),
        ("zh/chnsenticorp.dev.tsv", True, 400, ["label", "text_a"]),
    ],
)
def test_real_files(shared: Path, name: str, header: bool, count: int, columns: list[str]) -> None:
    file = open_rows(shared / "data" / name, header=header)
    assert file.columns == columns
    lines = (shared / "data" / name).read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    found = list(file)
    assert len(found) == count
    assert all(lines[row.line - 1] == "\t".join(map(str, row.values.values())) for row in found)


def test_guesses_for_real_files(shared: Path) -> None:
    for name, text, label in (
        ("glue/MRPC/dev.tsv", ("#1 String", "#2 String"), "Quality"),
        ("glue/SST-2/dev.tsv", ("sentence", None), "label"),
        ("glue/STS-B/dev.tsv", ("sentence1", "sentence2"), "score"),
        ("zh/chnsenticorp.dev.tsv", ("text_a", None), "label"),
    ):
        file = open_rows(shared / "data" / name)
        assert guess_text_columns(file.columns) == text
        assert guess_label_column(file.columns) == label
        if label != "score":
            assert {row.values[label] for row in file.select([label])} == {"0", "1"}
