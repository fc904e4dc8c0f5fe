"""Tagged files: CoNLL columns, rows of tokens and tags, annotations by characters; broken ones."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.errors import InputError
from bertune.tasks.options import ReadingOptions
from bertune.tasks.tagging.examples import TaggedExample, from_tokens, word_chunks
from bertune.tasks.tagging.reading import read_tagged
from tests.tiny import write_rows

ENTITIES = [("X", "New York"), ("Y", "Bo")]
TEXT = "In New York, Bo."
TOKENS, TAGS = ["In", "New", "York", ",", "Bo", "."], ["O", "B-X", "I-X", "O", "B-Y", "O"]


def read(path: Path, *, labelled: bool = True, **options: Any) -> list[TaggedExample]:
    return list(read_tagged(path, ReadingOptions(**options), labelled=labelled))


def told(example: TaggedExample) -> list[tuple[str, str]]:
    return [(one.label, example.text[one.start : one.end]) for one in example.entities]


@settings(deadline=None)
@given(st.lists(st.text("ab é中.", min_size=1), max_size=8))
def test_tokens_slice_their_text(tokens: list[str]) -> None:
    example = from_tokens(tokens, None, 0)
    assert [example.text[start:end] for start, end in example.words] == tokens


@pytest.mark.parametrize("name", ["a.conll", "eng.testa", "a.txt", "a.bio.gz"])
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
def test_conll(tmp_path: Path, name: str, separator: str) -> None:
    lines = [
        "-DOCSTART- X O",
        "",
        "# id 7",
        *(separator.join((t, "NN", tag)).replace("   ", " ") for t, tag in zip(TOKENS, TAGS, strict=True)),
        "",
        "",
        "Bo NN O",
    ]
    data = ("\n".join(lines) + "\n").encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data.replace(b"\n", b"\r\n"))
    one, two = read(path)
    assert [one.text[s:e] for s, e in one.words] == TOKENS
    assert told(one) == ENTITIES
    assert (one.place, two.place) == (4, 12)
    assert (two.text, two.entities) == ("Bo", ())
    assert [example.text for example in read(path, labelled=False)] == [one.text, two.text]


def test_conll_columns_of_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("1\tNew York\tB-X\t_\n2\tis\tO\t_\n")
    (example,) = read(path, token_at=1, tag_at=2)
    assert told(example) == [("X", "New York")]
    (example,) = read(path, token_at=1, labelled=False)
    assert example.text == "New York is"


def test_a_hash_can_be_a_token(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("# O\nBo B-Y\n")
    (example,) = read(path)
    assert example.text == "# Bo"


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
@pytest.mark.parametrize("column", ["tags", "ner_tags", "mine"])
def test_rows_of_tokens_and_tags(tmp_path: Path, name: str, column: str) -> None:
    path = write_rows(tmp_path / name, [{"tokens": TOKENS, column: TAGS}])
    (example,) = read(path, tags_column="mine" if column == "mine" else None)
    assert told(example) == ENTITIES


SPANS: list[Any] = [[3, 11, "X"], [13, 15, "Y"]]
OBJECTS = [{"start": 3, "end": 11, "label": "X"}, {"start": 13, "end": 15, "label": "Y"}]
STUDIO = [
    {"value": {"start": s, "end": e, "text": TEXT[s:e], "labels": [label]}, "type": "labels"} for s, e, label in SPANS
]
FORMS: dict[str, Any] = {
    "spacy": {"text": TEXT, "entities": SPANS},
    "spacy pair": [TEXT, {"entities": SPANS}],
    "spacy doc": {"text": TEXT, "ents": OBJECTS},
    "prodigy": {"text": TEXT, "spans": OBJECTS},
    "doccano": {"id": 1, "text": TEXT, "label": SPANS},
    "doccano labels": {"text": TEXT, "labels": SPANS},
    "doccano relations": {
        "text": TEXT,
        "entities": [{"id": 1, "start_offset": s, "end_offset": e, "label": label} for s, e, label in SPANS],
        "relations": [],
    },
    "label studio": {"id": 3, "data": {"text": TEXT}, "annotations": [{"result": STUDIO}]},
    "label studio min": {"text": TEXT, "label": [one["value"] for one in STUDIO]},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_annotations(tmp_path: Path, form: str, name: str) -> None:
    path = tmp_path / name
    if name == "a.jsonl" and isinstance(FORMS[form], list):
        pytest.skip("a row of JSON lines is an object")
    path.write_text(json.dumps([FORMS[form]] if name == "a.json" else FORMS[form]) + "\n")
    (example,) = read(path)
    assert told(example) == ENTITIES
    assert word_chunks(example) == ([("X", 1, 3), ("Y", 4, 5)], 0)
    (plain,) = read(path, labelled=False)
    assert plain.text == TEXT


def test_spaces_at_the_edges_are_left_out(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"text": TEXT, "entities": [[2, 11, "X"]]}])
    assert told(read(path)[0]) == [("X", "New York")]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "abc", "entities": [[0, 4, "X"]]}, "is outside the text, which has characters 0 to 3"),
        ({"text": "abc", "entities": [[-1, 2, "X"]]}, "is outside the text"),
        ({"text": "abc", "entities": [[2, 2, "X"]]}, "is outside the text"),
        (
            {"text": "abcd", "entities": [[0, 2, "X"], [1, 3, "Y"]]},
            "entities overlap: X 'ab' (0 to 2) and Y 'bc' (1 to 3)",
        ),
        ({"text": "abc", "entities": [["0", 2, "X"]]}, "must be whole numbers"),
        ({"text": "abc", "entities": [[0, 2, ""]]}, "needs one label"),
        ({"text": "abc", "entities": [[0, 2]]}, "expected [start, end, label]"),
        ({"text": "abc", "entities": "x"}, "a list of [start, end, label] is expected"),
        ({"text": "a  c", "entities": [[1, 3, "X"]]}, "holds spaces only"),
        ({"text": "abc", "label": [{"start": 0, "end": 2, "text": "bc", "labels": ["X"]}]}, "the text has 'ab' there"),
        ({"text": 3, "entities": []}, "no text under 'text'"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens but 1 tags"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "none of them empty"),
        ({"tokens": ["a"], "tags": [1]}, "expected a list of tags"),
        ({"tokens": ["a", "b"], "tags": ["O", "I-X"]}, "token 1"),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    good = (
        {"tokens": ["a", "b"], "tags": ["B-X", "I-X"]}
        if "tokens" in row
        else {key: "ab" if key == "text" else [] for key in row}
    )
    path = write_rows(tmp_path / "a.jsonl", [good, row, good])
    with pytest.raises(InputError) as error:
        read(path)
    assert f"{path}, line 2" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a O\nb\n", 2, "1 columns, but line 1 has 2"),
        ("a\nb\n", 1, "a token and its tag are needed"),
        ("a B-X\nb I-X\n\nc I-X\n", 4, "'c': 'I-X' may not follow the sentence's start"),
        ("a B-X\nb PER\n", 2, "'PER' is not a letter and type, as 'B-X' is"),
        ("a B-X\nb Q-X\n", 2, "'Q-X' is not a letter and type, as 'B-X' is"),
    ],
)
def test_bad_conll(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = tmp_path / "a.conll"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        read(path)
    assert f"{path}, line {line}" in str(error.value)
    assert said in str(error.value)


def test_annotations_are_named_by_their_line(tmp_path: Path) -> None:
    records = [{"text": "ab\n[,", "entities": []}, {"text": "abc", "entities": [[0, 4, "X"]]}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(records, indent=2))
    with pytest.raises(InputError, match=r"a\.json, line 6 \(record 2\): entity \[0, 4, 'X'\]: is outside the text"):
        read(path)
    path.write_text(json.dumps([{"text": "abc", "entities": [[0, 2, "X"]]}] * 3, indent=2).replace("},\n", "},"))
    assert [example.place for example in read(path)] == [2, 11, 20]
    path.write_text(" [ ]\n")
    assert read(path) == []


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "a.conll")
    with pytest.raises(InputError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "b.conll").write_bytes(b"a O\n\xff O\n")
    with pytest.raises(InputError, match="is not UTF-8"):
        read(tmp_path / "b.conll")
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(InputError, match="line 1, column 2: not JSON"):
        read(tmp_path / "c.json")
    path = write_rows(tmp_path / "d.jsonl", [{"words": ["a"]}])
    with pytest.raises(InputError, match="holds neither tokens"):
        read(path)


def test_conll_2003_as_published(shared: Path) -> None:
    examples = read(shared / "data" / "conll2003" / "eng.testa")
    counts: dict[str, int] = {}
    for example in examples:
        for one in example.entities:
            counts[one.label] = counts.get(one.label, 0) + 1
    assert len(examples) == 3250
    assert counts == {"LOC": 1837, "MISC": 922, "ORG": 1341, "PER": 1842}  # as the task's paper counts them
