"""Tables as people have them: encodings, separators, headers, .json, .xlsx, Arrow; what is refused."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.data.encodings import encoding_of
from bertune.data.table_options import TableOptions
from bertune.data.tables import open_table
from bertune.errors import InputError, Problems

TEXTS = {
    "utf-16": ["für", "好"],
    "utf-16-le": ["text,label\nplain,1"],
    "gb18030": ["这个酒店的服务很好，房间也很干净。", "不错"],
    "big5hkscs": ["這個飯店的服務很好，房間也很乾淨。", "不錯"],
    "cp932": ["このホテルのサービスはとても良いです。", "良い"],
    "cp949": ["이 호텔의 서비스는 매우 좋습니다."],
    "cp1251": ["Этот отель очень хороший", "плохой сервис", "купил iPhone 12, работает"],
    "cp1252": [
        "für die Prüfung; größe",
        "café à Paris",
        "“smart quotes” and it’s",
        "señor",
        "5 € pro Stück",
        "L’ÉTÉ À LA MER",
        "ÜBERWEISUNG",
        "Það er ekki hægt, hvað á ég að gera?",
    ],
    "cp1250": ["Dziękuję bardzo, świetna książka", "Zażółć gęślą jaźń", "Příliš žluťoučký kůň"],
    "cp1253": ["Καλημέρα σας, πού είναι το δέμα μου;"],
    "cp1254": ["Görüşmek üzere, teşekkürler, ışık söndü"],
    "cp850": ["für Größe und schön", "ça été très bien"],
    "mac_roman": ["für Größe und schön", "ça été très bien à l’école"],
    "utf-8": ["für", "好", "plain"],
}


def rows(path: Path, **options: object) -> list[list[object]]:
    return [list(row.values.values()) for row in open_table(path, TableOptions(**options))]  # type: ignore[arg-type]


@pytest.mark.parametrize(("codec", "text"), [(codec, text) for codec, texts in TEXTS.items() for text in texts])
def test_encodings_are_recognised(tmp_path: Path, codec: str, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"{text}\n".encode(codec))
    assert encoding_of(path, gzipped=False).codec == codec


def test_the_analysts_file(tmp_path: Path) -> None:
    """Semicolons, Windows-1252, an index without a name, smart quotes."""
    path = tmp_path / "a.csv"
    path.write_bytes(";Text;Label\r\n0;Schön, „gut“;pos\r\n1;übel;neg\r\n".encode("cp1252"))
    table = open_table(path)
    assert table.columns == ["Text", "Label"]
    assert [list(row.values.values()) for row in table] == [["Schön, „gut“", "pos"], ["übel", "neg"]]
    assert rows(path, encoding="latin1") == rows(path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'text{separator}label\n"a{separator}b"{separator}1\n', encoding="utf-8")
    assert rows(path) == [[f"a{separator}b", "1"]]
    path.write_text(f"sep={separator}\nv1{separator}v2\na{separator}b\n", encoding="utf-8")
    assert open_table(path).columns == ["v1", "v2"]


def test_tsv_of_spreadsheets_and_of_glue(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"He said ""no"""\t1\nplain\t0\n', encoding="utf-8")
    assert rows(path) == [['He said "no"', "1"], ["plain", "0"]]
    path.write_text('text\tlabel\n"He said no\t1\n"x"\t0\n', encoding="utf-8")
    assert rows(path) == [['"He said no', "1"], ['"x"', "0"]]


def test_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("pos,I like it\nneg,bad\npos,fine\n", encoding="utf-8")
    assert open_table(path).columns == ["0", "1"]
    path.write_text("I really do like it.\nThis is bad.\n", encoding="utf-8")
    assert rows(path) == [["I really do like it."], ["This is bad."]]
    path.write_text("a,b\nx,y\n", encoding="utf-8")
    assert rows(path, header=False) == [["a", "b"], ["x", "y"]]
    path.write_text("v1,v2,,\nham,hello,,\nspam,win,,\nv1,v2,,\nham,again,,\n", encoding="utf-8")
    assert rows(path) == [["ham", "hello"], ["spam", "win"], ["ham", "again"]]


def test_json(tmp_path: Path) -> None:
    expected = [["a", 1], ["b", 2]]
    objects = [{"text": text, "label": label} for text, label in expected]
    forms = [
        json.dumps(objects),
        json.dumps(objects, indent=1),
        "\n".join(map(json.dumps, objects)),
        json.dumps({"data": objects}),
        json.dumps({"text": ["a", "b"], "label": [1, 2]}),
        json.dumps({"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}),
    ]
    for form in forms:
        path = tmp_path / "a.json"
        path.write_text(form, encoding="utf-8")
        assert rows(path) == expected, form
    path.write_text('[{"a": 1}, {"a": ', encoding="utf-8")
    with pytest.raises(InputError, match="not JSON"):
        rows(path)


def test_names_of_classes_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    label = {"names": ["neg", "pos"], "_type": "ClassLabel"}
    features = {"label": label, "tags": {"feature": label, "_type": "Sequence"}}
    table = pa.table({"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []]})
    told = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata({"huggingface": told}), path)
    assert rows(path) == [["a", "pos", ["neg", "pos"]], ["b", None, []]]


def test_spreadsheet(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label", None], ["gut", 1, None], ["schlecht", True, None]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert rows(tmp_path / "a.xlsx") == [["gut", "1"], ["schlecht", "TRUE"]]
    with pytest.raises(InputError, match="no such sheet"):
        rows(tmp_path / "a.xlsx", sheet="B")


def test_titles_above_a_table(tmp_path: Path) -> None:
    table = "Nr;Meldung;Art\n1;Das Licht brennt nicht;Strom\n2;Das Rohr ist undicht;Wasser\n"
    expected = [["1", "Das Licht brennt nicht", "Strom"], ["2", "Das Rohr ist undicht", "Wasser"]]
    for above in ("", "Bericht 2024;;\n", "Bericht 2024\n", "Bericht;;\n;;\nStand: Mai;;\n"):
        path = tmp_path / "a.csv"
        path.write_text(above + table, encoding="utf-8")
        assert rows(path) == expected, above
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for line in ("Bericht;;", *table.splitlines()):
        book.active.append([cell or None for cell in line.split(";")])
    book.save(tmp_path / "a.xlsx")
    assert rows(tmp_path / "a.xlsx") == expected


@pytest.mark.parametrize(
    "content", ['text\n"Hello, world"\n"Yes, of course"\n', "Gut;\nDas ist schlecht;b\nNa ja, wie immer.;b\n"]
)
def test_a_first_row_that_is_no_title(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    assert len(rows(path)) >= 2


def test_tabs_and_line_ends_in_quotes_under_the_name_of_a_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('Meldung\tArt\n"Licht\nbrennt"\tStrom\nRohr\tWasser\n', encoding="utf-16")
    assert rows(path) == [["Licht\nbrennt", "Strom"], ["Rohr", "Wasser"]]


def test_lines_of_text_and_what_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("One line, of text\nAnother\n", encoding="utf-8")
    assert rows(path) == [["One line, of text"], ["Another"]]
    for name, content in (("a.csv", "<!doctype html><p>"), ("b.csv", "version https://git-lfs.github.com/spec/v1\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=r"web page|Git LFS"):
            rows(tmp_path / name)
    (tmp_path / "a.xls").write_bytes(b"x")
    with pytest.raises(InputError, match=r"save it as \.xlsx"):
        rows(tmp_path / "a.xls")


def test_equal_problems_are_one() -> None:
    problems = Problems()
    problems.extend(f"a.csv, line {line}, column 'label': the label is missing" for line in range(2, 462))
    with pytest.raises(InputError, match=r"a.csv, lines 2, 3, 4, … \(460 in all\), column 'label': the label is"):
        problems.raise_if_any()
