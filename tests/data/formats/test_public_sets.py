"""Every known form, in a small file as its program writes it: the right value, and a line in the documentation."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertune.data.formats.registry import MODULES, formats
from bertune.errors import InputError
from bertune.tasks.registry import new_task

Write = Callable[[str, object], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes text as it is, other things as JSON; a list of lists of rows as JSON lines where the name ends so."""

    def write_file(name: str, content: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        text = content if isinstance(content, str) else json.dumps(content)
        if name.endswith(".jsonl") and isinstance(content, list):
            text = "\n".join(json.dumps(row) for row in content)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def read(task: str, path: Path, labelled: bool = True, **options: Any) -> list[Any]:
    return list(new_task(task, options).read(path, labelled=labelled))


def choices(path: Path, **options: Any) -> list[tuple[str, tuple[str, ...], int]]:
    return [(one.first, one.seconds, one.answer) for one in read("multiple-choice", path, **options)]


def entities(path: Path, **options: Any) -> list[list[tuple[str, str]]]:
    found = read("token-classification", path, **options)
    return [[(entity.label, one.text[entity.start : entity.end]) for entity in one.entities] for one in found]


def labels(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(one.text, one.label) for one in read("text-classification", path, **options)]


# Choices


def test_c3(write: Write) -> None:
    path = write("c3.json", [[["A: hi", "B: yes"], [{"question": "Who?", "choice": ["B", "C"], "answer": "C"}], "1-1"]])
    assert choices(path) == [("A: hi\nB: yes", ("Who? B", "Who? C"), 1)]


def test_commonsenseqa(write: Write) -> None:
    options = [{"label": "A", "text": "bank"}, {"label": "B", "text": "park"}]
    path = write("a.jsonl", [{"answerKey": "B", "id": "1", "question": {"stem": "Where?", "choices": options}}])
    assert choices(path) == [("Where?", ("bank", "park"), 1)]


def test_copa(write: Write) -> None:
    row = {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect", "label": 0, "idx": 0}
    asked = "What happened as a result?"
    expected = [("It rained.", (f"{asked} Wet.", f"{asked} Dry."), 0)]
    assert choices(write("a.jsonl", [row])) == expected
    xml = '<copa-corpus version="1.0"><item id="1" asks-for="effect" most-plausible-alternative="1">'
    path = write("a.xml", f"{xml}<p>It rained.</p><a1>Wet.</a1><a2>Dry.</a2></item></copa-corpus>")
    assert choices(path) == expected


def test_hellaswag_swag_and_sciq(write: Write) -> None:
    path = write("a.jsonl", [{"ctx_a": "A man", "ctx_b": "he", "ctx": "A man he", "endings": ["a", "b"], "label": 1}])
    assert choices(path) == [("A man", ("he a", "he b"), 1)]
    path = write("b.csv", "sent1,sent2,gold-ending,distractor-0,distractor-1\nHe,then,runs,flies,swims\n")
    [(first, seconds, answer)] = choices(path)
    assert (first, seconds[answer], set(seconds)) == ("He", "then runs", {"then runs", "then flies", "then swims"})
    path = write("c.csv", ",video-id,startphrase,sent1,sent2,ending0,ending1,label\n0,x,He then,He,then,a,b,1\n")
    assert choices(path) == [("He", ("then a", "then b"), 1)]
    path = write("d.jsonl", [{"question": "Q?", "correct_answer": "r", "distractor1": "w", "support": "S"}])
    [(first, seconds, answer)] = choices(path)
    assert (first, seconds[answer]) == ("S", "Q? r")


def test_labels_beside(write: Write) -> None:
    write("train-labels.lst", "1\n0\n")
    path = write(
        "train.jsonl", [{"goal": "cut", "sol1": "saw", "sol2": "axe"}, {"goal": "go", "sol1": "a", "sol2": "b"}]
    )
    assert choices(path) == [("cut", ("saw", "axe"), 1), ("go", ("a", "b"), 0)]
    write("train-labels.lst", "1\n")
    with pytest.raises(InputError, match="has more rows"):
        choices(path)
    row = {"context": "C", "question": "Q?", "answerA": "a", "answerB": "b", "answerC": "c"}
    write("dev-labels.lst", "3\n")
    assert choices(write("dev.jsonl", [row])) == [("C", ("Q? a", "Q? b", "Q? c"), 2)]


def test_winogrande_and_blanks(write: Write) -> None:
    row = {"sentence": "Ann met Bo and _ left.", "option1": "Ann", "option2": "Bo", "answer": "2"}
    assert choices(write("a.jsonl", [row])) == [("Ann met Bo and", ("Ann left.", "Bo left."), 1)]
    for question, seconds in {
        "Open my_file_1 now": ("Open my_file_1 now a", "Open my_file_1 now b"),
        "It is ____.": ("It is a.", "It is b."),
        "In _dir/_x": ("In _dir/_x a", "In _dir/_x b"),
        "他是_。": ("他是a。", "他是b。"),
    }.items():
        path = write("b.jsonl", [{"context": "C", "question": question, "choices": ["a", "b"], "answer": 0}])
        assert choices(path) == [("C", seconds, 0)]
    path = write("c.jsonl", [{"context": "C", "question": "x [B] y_1", "choices": ["a", "b"], "answer": 0}])
    assert choices(path, blank="[B]") == [("C", ("x a y_1", "x b y_1"), 0)]


def test_lettered_and_the_form_of_answers(write: Write) -> None:
    path = write("a.csv", "question,A,B,C,D,answer\nQ?,w,x,y,z,C\nR?,w,x,,,B\n")
    assert [(len(seconds), answer) for _, seconds, answer in choices(path)] == [(4, 2), (2, 1)]
    path = write("dev.csv", 'Q?,0,4,"a, b",6,C\nR?,w,x,y,z,A\n')  # MMLU's tables have no header
    assert choices(path) == [("Q?", ("0", "4", "a, b", "6"), 2), ("R?", ("w", "x", "y", "z"), 0)]
    path = write("b.jsonl", [{"question": "Q", "options": {"A": "x", "B": "y"}, "answer": "y", "answer_idx": "B"}])
    assert choices(path)[0][2] == 1
    head = "question,ending0,ending1,ending2,ending3,label\n"
    assert [one[2] for one in choices(write("c.csv", head + "q,2,4,3,1,1\nr,a,b,c,d,0\n"))] == [1, 0]  # places
    assert [one[2] for one in choices(write("d.csv", head + "q,20,40,30,10,10\nr,7,8,9,5,5\n"))] == [3, 3]  # texts
    assert [one[2] for one in choices(write("e.csv", head + "q,a,b,c,d,4\nr,a,b,c,d,1\n"))] == [3, 0]  # from 1
    with pytest.raises(InputError, match=r"line 3.*'z'"):
        choices(write("f.csv", head + "q,a,b,c,d,0\nr,a,b,c,d,z\n"))


# Tags

SENTENCE = [("ORG", "EU"), ("MISC", "German lamb")]
EU = [("EU", "ORG"), ("rejects", ""), ("German", "MISC"), ("lamb", "MISC")]
TAGS = ["B-ORG", "O", "B-MISC", "I-MISC"]


def lines_of(*columns: list[str]) -> str:
    return "\n".join("\t".join(fields) for fields in zip(*columns, strict=True)) + "\n"


WORDS = [word for word, _ in EU]
NUMBERS = ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.conll", lines_of(NUMBERS, WORDS, TAGS)),
        ("blank.conll", lines_of(WORDS, ["", "", "", ""], TAGS)),
        ("trailing.conll", lines_of(WORDS, TAGS, ["", "", "", ""])),
        ("comment.conll", "# any words here\n" + lines_of(WORDS, TAGS)),
        ("germeval.tsv", "#\thttp://a.b\t[2009]\n" + lines_of(NUMBERS, WORDS, TAGS, ["O", "O", "B-LOC", "O"])),
        ("wikiann.txt", lines_of([f"en:{word}" for word in WORDS], TAGS)),
        ("parts.txt", "EU|NNP|B-ORG rejects|VBZ|O German|JJ|B-MISC lamb|NN|I-MISC .|.|O\nOn|IN|O it|PRP|O\n"),
        ("slash.txt", " ".join(f"{word}/{tag}" for word, tag in zip(WORDS, TAGS, strict=True)) + "\nOn/O it/O\n"),
        (
            "ud.conllu",
            "# sent_id = 1\n1-2\tEUr\t" + "\t".join("_" * 8) + "\n"
            + lines_of(NUMBERS, WORDS, *[["_"] * 4] * 7, ["NER=B-ORG", "_", "NER=B-MISC", "x=y|NER=I-MISC"]),
        ),
        (
            "webanno.tsv",
            "#FORMAT=WebAnno TSV 3.2\n#T_SP=webanno.custom.NamedEntity|identifier|value\n\n\n#Text=EU rejects\n"
            + lines_of(["1-1", "1-2", "1-3", "1-4"], ["0-2"] * 4, WORDS, ["_"] * 4, ["ORG", "_", "MISC[1]", "MISC[1]"]),
        ),
        ("lower.conll", lines_of(WORDS, ["b-ORG", "o", "b-MISC", "i-MISC"])),
        ("underscore.conll", lines_of(WORDS, ["B_ORG", "_", "B_MISC", "I_MISC"])),
        ("suffix.conll", lines_of(WORDS, ["ORG-B", "0", "MISC-B", "MISC-I"])),
        ("strings.csv", "sentence,tags\nEU rejects German lamb,B-ORG O B-MISC I-MISC\n"),
    ],
)  # fmt: skip
def test_tagged_files(write: Write, name: str, content: str) -> None:
    assert entities(write(name, content))[0] == SENTENCE


def test_annotations(write: Write) -> None:
    text = "EU rejects German lamb"
    spans = [{"start": 0, "end": 2, "label": "ORG"}, {"start": 11, "end": 22, "label": "MISC"}]
    tokens = [{"text": "EU", "start": 0, "end": 2, "id": 0}]
    rows = [
        {"text": text, "tokens": tokens, "spans": spans, "answer": "accept"},
        {"text": text, "tokens": tokens, "spans": spans[:1], "answer": "reject"},
        {"text": "none", "tokens": tokens, "answer": "accept"},
        {"text": text, "tokens": tokens, "answer": "ignore"},
    ]
    path = write("prodigy.jsonl", rows)
    assert entities(path) == [SENTENCE, []]
    assert len(read("token-classification", path, labelled=False)) == len(rows)
    label = {"name": {"叶老桂": [[0, 2]]}, "company": {"银行": [[4, 5]]}}
    path = write("cluener.jsonl", [{"text": "叶老桂在银行", "label": label}])
    assert entities(path) == [[("name", "叶老桂"), ("company", "银行")]]
    write("brat/a.txt", text)
    write("brat/a.ann", "T1\tORG 0 2\tEU\nT2\tMISC 11 22\tGerman lamb\nR1\tx Arg1:T1\n")
    assert entities(write("brat/b.ann", "").parent / "a.txt") == [SENTENCE]
    with pytest.raises(InputError, match=r"no b\.txt beside it"):
        entities(path.parent / "brat")


def test_offsets_in_utf16_are_recognised(write: Write) -> None:
    rows = [
        {"text": f"😀 {name} went home", "label": [[3, 3 + len(name), "PER"]]} for name in ("Anna", "Bob", "Cy", "Di")
    ]
    assert entities(write("a.jsonl", rows))[0] == [("PER", "Anna")]
    wrong = [{"text": "Anna went home", "label": [[2, 6, "PER"]]} for _ in range(6)]
    with pytest.raises(InputError, match="line 1: PER 'na w'"):
        entities(write("b.jsonl", wrong))


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (["B-ORG O", "O", "O", "O"], "white space"),
        (["NOUN", "VERB", "ADJ", "NOUN"], "no word is outside"),
        (["BORG", "O", "BMISC", "IORG"], "types of their own"),
    ],
)
def test_tags_that_look_like_a_mistake(write: Write, tags: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        entities(write("a.conll", lines_of(WORDS, tags)))


def test_numbers_for_tags(write: Write) -> None:
    path = write("a.jsonl", [{"tokens": ["EU", "said"], "ner_tags": [1, 0]}])
    with pytest.raises(InputError, match="--tag-names"):
        entities(path)
    assert entities(path, tag_names=["O", "B-ORG"]) == [[("ORG", "EU")]]


# Labels


def test_labels(write: Write, tmp_path: Path) -> None:
    expected = [("good film", "pos"), ("bad", "neg")]
    assert labels(write("a.txt", "__label__pos good film\nbad __label__neg\n")) == expected
    assert labels(write("SMS", "text\tlabel\ngood film\tpos\nbad\tneg\n")) == expected
    for name, text in (("pos", "good film"), ("neg", "bad"), ("unsup", "x")):
        write(f"reviews/{name}/1.txt", text)
    assert sorted(labels(tmp_path / "reviews")) == sorted(expected)
    rows = [
        {"text": "good film", "label": "pos", "answer": "accept"},
        {"text": "bad", "label": "pos", "answer": "reject"},
    ]
    assert labels(write("b.jsonl", rows)) == expected[:1]
    chosen = {"data": {"text": "bad"}, "annotations": [{"result": [{"value": {"choices": ["neg"]}}]}]}
    assert labels(write("c.json", [chosen])) == expected[1:]
    assert labels(write("d.jsonl", [{"id": 1, "text": "bad", "label": ["neg"]}])) == expected[1:]


def test_undecided_and_unlabelled_rows(write: Write) -> None:
    head = "sentence1,sentence2,label\na,b,entailment\nc,d,-\n"
    assert [one.label for one in read("text-classification", write("a.csv", head + "e,f,neutral\n"))] == [
        "entailment", "neutral",
    ]  # fmt: skip
    assert len(read("text-classification", write("b.csv", head + "e,f,+\n"))) == 3
    path = write("c.csv", "text,label\na,1\nb,\n,0\nc,0\n")
    with pytest.raises(InputError, match="--drop-unlabelled"):
        labels(path)
    assert labels(path, drop_unlabelled=True) == [("a", "1"), ("c", "0")]


def test_columns_of_indicators_are_named(write: Write) -> None:
    path = write("a.csv", "id,comment_text,toxic,obscene\n1,hello,0,0\n2,you,1,0\n3,there,0,1\n")
    with pytest.raises(InputError, match="multi-label-classification --label-columns toxic obscene"):
        labels(path)
    path = write("b.csv", "pos,good film\nneg,bad\npos,fine\n")
    with pytest.raises(InputError, match="--text-column 1 --label-column 0"):
        labels(path)
    assert labels(path, text_column="1", label_column="0")[1] == ("bad", "neg")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([[0, 1, 1], [1, 0, 0]], [{"1", "2"}, {"0"}]),
        (["[0, 1, 1]", "[1, 0, 0]"], [{"1", "2"}, {"0"}]),
        (["[0 1 1]", "[1 0 0]"], [{"1", "2"}, {"0"}]),
        ([[0, 5], [3]], [{"0", "5"}, {"3"}]),
        (["['a', 'b']", "['a']"], [{"a", "b"}, {"a"}]),
        (["a|b", "c"], [{"a", "b"}, {"c"}]),
    ],
)
def test_the_form_of_several_labels(write: Write, cells: list[object], expected: list[set[str]]) -> None:
    path = write("a.jsonl", [{"text": "x", "labels": cell} for cell in cells])
    assert [set(one.labels) for one in read("multi-label-classification", path)] == expected


# Questions


def test_questions(write: Write) -> None:
    paragraph: dict[str, Any] = {
        "context": "Ann met Bo.",
        "qas": [{"id": "1", "question": "Who?", "answers": [{"text": "Bo", "answer_start": 8}]}],
    }
    for content in ([paragraph], [{"title": "t", "paragraphs": [paragraph]}], {"data": [{"paragraphs": [paragraph]}]}):
        assert read("question-answering", write("a.json", content))[0].answers[0].start == 8
    query = {"query_id": "q", "query_text": "谁?", "answers": ["李", "李"]}
    [one] = read(
        "question-answering",
        write("b.json", [{"context_id": "c", "context_text": "王和李", "qas": [query], "title": ""}]),
    )
    assert (one.id, one.question, one.answers[0].text, one.answers[0].start) == ("q", "谁?", "李", 2)
    wrong = {"id": "2", "question": "Who?", "answers": [{"text": "Bo", "answer_start": 3}]}
    path = write("c.json", [{**paragraph, "qas": [*paragraph["qas"], wrong]}])
    with pytest.raises(InputError, match="--skip-bad"):
        read("question-answering", path)
    assert [one.id for one in read("question-answering", path, skip_bad=True)] == ["1"]


def test_every_form_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    missing = [form.name for kind in MODULES for form in formats(kind) if form.name not in page]
    assert not missing
