"""Data in forms that look like others: each is read for what it is, or refused with what to do.

Inputs that nobody reported, of the kinds that people did.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from bertune.errors import InputError
from bertune.tasks.registry import new_task


def read(task: str, path: Path, content: str | bytes, **options: Any) -> list[Any]:
    """Labelled examples of a file with this content."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(new_task(task, options).read(path, labelled=True))


def told(task: str, path: Path, content: str | bytes, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        read(task, path, content, **options)
    return str(error.value)


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "text,labels\na,0 1 1\nb,1 0 0\n", [{"1", "2"}, {"0"}]),
        ("a.csv", 'text,labels\na,"0,1,1"\nb,"1,0,0"\n', [{"1", "2"}, {"0"}]),
        ("a.csv", "text,labels\na,0; 1; 1\nb,1; 0; 0\n", [{"1", "2"}, {"0"}]),
        ("a.csv", "text,labels\na,011\nb,100\n", [{"1", "2"}, {"0"}]),
        ("a.csv", "text,labels\na,11\nb,10\n", [{"11"}, {"10"}]),  # numbers, as none begins with 0
        ("a.csv", "text,labels\na,011\nb,1000\n", [{"011"}, {"1000"}]),
        ("a.csv", "text,labels\na,0 1 1\nb,x\n", [{"0 1 1"}, {"x"}]),
        (
            "a.jsonl",
            lines({"text": "a", "labels": [True, False]}, {"text": "b", "labels": [False, True]}),
            [{"0"}, {"1"}],
        ),
        (
            "a.jsonl",
            lines({"text": "a", "labels": {"x": 1, "y": 0}}, {"text": "b", "labels": {"y": True}}),
            [{"x"}, {"y"}],
        ),
        (
            "a.jsonl",
            lines({"text": "a", "labels": {"x": 0.0, "y": 0.0}}, {"text": "b", "labels": {"y": 1.0}}),
            [set(), {"y"}],
        ),
    ],
)
def test_indicators_however_written(tmp_path: Path, name: str, content: str, expected: list[set[str]]) -> None:
    assert [one.labels for one in read("multi-label-classification", tmp_path / name, content)] == expected


@pytest.mark.parametrize("cell", ['"[0, 1]"', '"[1 0 0]"', '"[0., 1.]"'])
def test_lists_of_flags_are_no_classes(tmp_path: Path, cell: str) -> None:
    message = told("text-classification", tmp_path / "a.csv", f"text,label\na,{cell}\nb,x\n")
    assert "line 2, column 'label'" in message
    assert "--task multi-label-classification" in message
    rows = lines({"text": "a", "label": [0, 1]}, {"text": "b", "label": [1, 0]})
    assert "--task multi-label-classification" in told("text-classification", tmp_path / "a.jsonl", rows)


def test_pairs_labelled_0_are_not_ranked_beside_a_negative(tmp_path: Path) -> None:
    table = "sentence1,sentence2,negative,label\na,b,x,0\nc,d,y,1\n"
    assert "line 2, column 'label': the label 0 says" in told("embedding", tmp_path / "a.csv", table)
    assert len(read("embedding", tmp_path / "a.csv", table, pair_loss="ranking")) == 2
    assert len(read("embedding", tmp_path / "a.csv", table.replace(",0\n", ",1\n"))) == 2


def tagged(*tags: str) -> str:
    return "".join(f"w{i} {tag}\n" for i, tag in enumerate(tags)) + "\n"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (("B.PER", "I.PER", "O"), [("PER", "w0 w1")]),
        (("B–PER", "I–PER", "O"), [("PER", "w0 w1")]),
        (("PER=B", "PER=I", "O"), [("PER", "w0 w1")]),
        (("Ｂ-PER", "Ｉ-PER", "Ｏ"), [("PER", "w0 w1")]),
        (("B", "I", "O", "B"), [("ENTITY", "w0 w1"), ("ENTITY", "w3")]),
        (("B", "I", "E", "O", "S"), [("ENTITY", "w0 w1 w2"), ("ENTITY", "w4")]),
        (("U.S.", "L.A.", "O"), [("U.S.", "w0"), ("L.A.", "w1")]),  # names with points
        (("N.N", "V.V", "O"), [("N.N", "w0"), ("V.V", "w1")]),
    ],
)
def test_spelling_of_tags(tmp_path: Path, tags: tuple[str, ...], expected: list[tuple[str, str]]) -> None:
    (example,) = read("token-classification", tmp_path / "a.conll", tagged(*tags))
    assert [(one.label, example.text[one.start : one.end]) for one in example.entities] == expected


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (("B-B-PER", "B-I-PER", "O"), "'B-PER' and 'I-PER' would be two types of entities"),
        (("B-", "O", "B-PER"), "line 1: 'w0': 'B-' is not a letter and type, as 'B-PER' is"),
        (("B-PER", "NONE", "I-PER"), "line 2: 'w1': 'NONE' is not a letter and type"),
    ],
)
def test_tags_that_look_like_a_mistake(tmp_path: Path, tags: tuple[str, ...], message: str) -> None:
    found = told("token-classification", tmp_path / "a.conll", tagged(*tags))
    assert message in found
    assert found.count("'w0'") <= 1  # one message a line


def test_counted_lines_with_ranges(tmp_path: Path) -> None:
    """CoNLL-U's lines of several words and of words that are not there, in a file of four columns."""
    rows = "# text = x\n1-2\tdel\t_\tO\n1\tde\t_\tB-X\n2\tel\t_\tO\n2.1\tgone\t_\tO\n\n"
    (example, _) = read("token-classification", tmp_path / "a.conll", rows * 2)
    assert example.text == "de el"
    assert [one.label for one in example.entities] == ["X"]


def test_lone_carriage_returns(tmp_path: Path) -> None:
    (one, two) = read("token-classification", tmp_path / "a.conll", b"EU B-ORG\rx O\r\ry O\r")
    assert (one.text, two.text) == ("EU x", "y")
    for name, separator in (("a.csv", ","), ("b.tsv", "\t"), ("c.txt", ";")):
        content = "text,label\ra,x\rb,y\r".replace(",", separator)
        assert [row.label for row in read("text-classification", tmp_path / name, content)] == ["x", "y"]
    found = read(
        "text-classification", tmp_path / "a.jsonl", '{"text": "a", "label": "x"}\r{"text": "b", "label": "y"}'
    )
    assert [row.place for row in found] == [1, 2]
    mixed = told("token-classification", tmp_path / "b.conll", b"EU B-ORG\rx O\n\ny O\n")
    assert "line 1: carriage returns (CR) inside" in mixed


REJECTED = {"answer": "reject"}


@pytest.mark.parametrize(
    ("task", "rows", "kept"),
    [
        (
            "text-classification",
            [
                {"text": "a", "label": "x"},
                {"text": "b", "label": "x"} | REJECTED,
                {"text": "c", "label": "y", "answer": "accept"},
            ],
            1,
        ),
        (
            "text-classification",
            [
                {"sentence1": "a", "sentence2": "b", "label": "x", "answer": "accept"},
                {"sentence1": "a", "sentence2": "b", "label": "y"} | REJECTED,
            ],
            1,
        ),
        ("embedding", [{"text1": "a", "text2": "b", "answer": "accept"}, {"text1": "c", "text2": "d"} | REJECTED], 1),
        (
            "regression",
            [{"text": "a", "score": 1, "answer": "accept"}, {"text": "b", "score": 2, "answer": "ignore"}],
            1,
        ),
        (
            "text-classification",  # another kind of answers
            [{"text1": "a", "text2": "b", "label": 1, "answer": answer} for answer in ("reject", "no")],
            2,
        ),
    ],
)
def test_rejected_rows_are_no_gold(tmp_path: Path, task: str, rows: list[dict[str, object]], kept: int) -> None:
    assert len(read(task, tmp_path / "a.jsonl", lines(*rows))) == kept


def test_blanks_of_full_width(tmp_path: Path) -> None:
    (one,) = read(
        "multiple-choice", tmp_path / "a.jsonl", lines({"question": "他＿＿去", "choices": ["不", "要"], "answer": 1})
    )
    assert one.seconds == ("不去", "要去")


@pytest.mark.parametrize(
    "cell",
    [
        "{'text': ['b'], 'answer_start': [2]}",
        '{""text"": [""b""], ""answer_start"": [2]}',
        "{'text': array(['b'], dtype=object), 'answer_start': array([2])}",
        "[{'text': 'b', 'answer_start': 2}]",
    ],
)
def test_answers_in_cells(tmp_path: Path, cell: str) -> None:
    (one,) = read(
        "question-answering", tmp_path / "a.csv", f'id,question,context,answers,is_impossible\n1,q,a b,"{cell}",False\n'
    )
    assert [(answer.text, answer.start) for answer in one.answers] == [("b", 2)]
    assert one.is_impossible is False


def test_quotes_behind_spaces(tmp_path: Path) -> None:
    found = read("text-classification", tmp_path / "a.csv", '"label", "text"\n"x", "a, b"\n"y", "c ""d"""\n')
    assert [(one.text, one.label) for one in found] == [("a, b", "x"), ('c "d"', "y")]
    plain = read("text-classification", tmp_path / "b.csv", 'label,text\nx,he said "so"\ny, "no\n')
    assert [one.text for one in plain] == ['he said "so"', ' "no']


@pytest.mark.parametrize("again", ["text,label", "Text,Label", " TEXT , label "])
def test_headers_in_the_middle(tmp_path: Path, again: str) -> None:
    assert len(read("text-classification", tmp_path / "a.csv", f"text,label\na,x\n{again}\nb,y\n")) == 2
    other = told("text-classification", tmp_path / "b.csv", "text,label\na,x\nlabel,text\ny,b\n")
    assert "line 3: the header again, with its columns in another order" in other


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "| text | label |\n|---|:--|\n| a | x |\n", "is a table in Markdown"),
        ("a.csv", "<table><tr><td>a</td></tr></table>", "is a table in HTML"),
        ("a.jsonl", '{\n "text": "a",\n "label": "x"\n}\n', "each of its objects takes several lines"),
        ("a.jsonl", '{"text": "a", "label": "x"},\n{"text": "b", "label": "y"}\n', "its objects are divided by commas"),
    ],
)
def test_what_is_refused_with_advice(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    assert message in told("text-classification", tmp_path / name, content)


def test_an_array_under_the_name_of_lines(tmp_path: Path) -> None:
    rows = json.dumps([{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    assert len(read("text-classification", tmp_path / "a.jsonl", rows)) == 2


def test_separators_are_found_whatever_a_text_holds(tmp_path: Path) -> None:
    content = 'text;label\n"a\u2028b\u2028, c";x\n"d\x0be, f\x85";y\n'
    assert [one.label for one in read("text-classification", tmp_path / "a.csv", content)] == ["x", "y"]


KAGGLE = (
    "Sentence #,Word,POS,Tag\nSentence: 1,In,IN,O\n,London,NNP,B-geo\n"
    "Sentence: 2,\u201cIran\u201d,NNP,B-geo\n,left,VBD,O\n"
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", KAGGLE.encode("windows-1252")),
        ("a.csv", KAGGLE.replace(",", ";")),
        ("a.csv", KAGGLE.replace("\n,", "\nSentence: 1,", 1).replace("\n,left", "\nSentence: 2,left")),
        ("a.tsv", "sent_id\ttoken\tner\n0\tIn\tO\n0\tLondon\tB-geo\n1\t\u201cIran\u201d\tB-geo\n1\tleft\tO\n"),
        ("a.csv", "word,tag\nIn,O\nLondon,B-geo\n,\n\u201cIran\u201d,B-geo\nleft,O\n"),
    ],
)
def test_a_word_a_row_makes_sentences(tmp_path: Path, name: str, content: str | bytes) -> None:
    found = read("token-classification", tmp_path / name, content)
    assert [one.text for one in found] == ["In London", "\u201cIran\u201d left"]
    assert [[entity.label for entity in one.entities] for one in found] == [["geo"], ["geo"]]


def test_words_that_no_sentence_ends_are_refused(tmp_path: Path) -> None:
    rows = "word,tag\nIn,O\nLondon,B-geo\nso,O\n"
    assert "nothing says where a sentence ends" in told("token-classification", tmp_path / "a.csv", rows)
    rows = "sentence,word,tag\n1,In,O\n1,,O\n2,a,B-geo\n2,b,O\n"
    assert "line 3, column 'word': empty" in told("token-classification", tmp_path / "a.csv", rows)
    rows = "sentence,tags\nIn London,O B-geo\nIran,B-geo\nHere,O\n"  # a sentence a row, some of one word
    assert len(read("token-classification", tmp_path / "a.csv", rows)) == 3


@pytest.mark.parametrize("task", ["text-classification", "regression", "multi-label-classification"])
def test_empty_texts_are_told_and_files_of_them_refused(
    tmp_path: Path, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert len(read(task, tmp_path / "a.csv", "text,label\nx,1\n,2\n  ,1\ny,2\n")) == 4
    assert "2 of 4 rows have an empty text in column 'text' (lines 3, 4)" in caplog.text
    assert "--drop-unlabelled" in caplog.text
    message = told(task, tmp_path / "a.csv", "text,notes,label\n,x,1\n  ,y,2\n")
    assert "column 'text' is empty in all 2 rows; name the column of the texts with --text-column" in message
    assert "'notes'" in message


@pytest.mark.parametrize(
    ("cells", "mark"), [(["x;y", "y", "x"], ";"), (['"x, y"', '"y, z"', '"x, z"'], ","), (["a#b", "b#c", "c"], "#")]
)
def test_labels_joined_otherwise_are_told(
    tmp_path: Path, cells: list[str], mark: str, caplog: pytest.LogCaptureFixture
) -> None:
    content = "text,labels\n" + "".join(f"t,{cell}\n" for cell in cells)
    read("multi-label-classification", tmp_path / "a.csv", content)
    assert f"joined by {mark!r}" in caplog.text
    assert f"--label-delimiter {mark!r}" in caplog.text
    caplog.clear()
    read("multi-label-classification", tmp_path / "a.csv", content, label_delimiter=mark)
    read("multi-label-classification", tmp_path / "b.csv", "text,labels\na,arts/crafts\nb,sports|arts/crafts\nc,x\n")
    read("multi-label-classification", tmp_path / "c.csv", 'text,labels\na,"Crafts, fine"\nb,sports\nc,x\n')
    assert "joined by" not in caplog.text
