"""Questions from files: every form gives the same questions, and every fault is told with its place."""

import csv
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bertune.errors import InputError
from bertune.tasks.squad.reading import Answer, Columns, QuestionExample, read_questions, stream_questions

CONTEXT = "The Lions won in Paris. The Bears lost in Paris."


def squad() -> dict[str, Any]:
    """Three questions, one of them unanswerable, one with two answers."""
    return {
        "version": "v2.0",
        "data": [
            {
                "title": "Sport",
                "paragraphs": [
                    {
                        "context": CONTEXT,
                        "qas": [
                            {
                                "id": "a",
                                "question": "Who won?",
                                "is_impossible": False,
                                "answers": [
                                    {"text": "The Lions", "answer_start": 0},
                                    {"text": "Lions", "answer_start": 4},
                                ],
                            },
                            {
                                "id": "b",
                                "question": "Who drew?",
                                "is_impossible": True,
                                "answers": [],
                                "plausible_answers": [{"text": "Bears", "answer_start": 28}],
                            },
                        ],
                    },
                    {
                        "context": "水枪打敌人。",
                        "qas": [{"id": "c", "question": "打谁？", "answers": [{"text": "敌人", "answer_start": 3}]}],
                    },
                ],
            }
        ],
    }


def flat() -> list[dict[str, Any]]:
    """The same questions as Hugging Face's data sets have them."""
    return [
        {
            "id": question["id"],
            "title": article["title"],
            "context": paragraph["context"],
            "question": question["question"],
            "answers": {
                "text": [answer["text"] for answer in question["answers"]],
                "answer_start": [answer["answer_start"] for answer in question["answers"]],
            },
        }
        for article in squad()["data"]
        for paragraph in article["paragraphs"]
        for question in paragraph["qas"]
    ]


def write_json(path: Path) -> None:
    path.write_text(json.dumps(squad()), encoding="utf-8")


def write_json_gz(path: Path) -> None:
    path.write_bytes(gzip.compress(json.dumps(squad()).encode()))


def write_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in flat()), encoding="utf-8")


def write_lines_gz(path: Path) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in flat()).encode()))


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(flat()), path)


def write_list(path: Path) -> None:
    path.write_text(json.dumps(flat()), encoding="utf-8")


def contents(examples: list[QuestionExample]) -> list[tuple[object, ...]]:
    return [(e.id, e.question, e.context, e.answers, e.is_impossible, e.title) for e in examples]


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("q.json", write_json),
        ("q.json.gz", write_json_gz),
        ("q.jsonl", write_lines),
        ("q.jsonl.gz", write_lines_gz),
        ("q.parquet", write_parquet),
        ("list.json", write_list),
    ],
)
def test_every_form_gives_the_same_questions(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    examples, report = read_questions(tmp_path / name, labelled=True)
    assert contents(examples) == [
        ("a", "Who won?", CONTEXT, (Answer("The Lions", 0), Answer("Lions", 4)), False, "Sport"),
        ("b", "Who drew?", CONTEXT, (), True, "Sport"),
        ("c", "打谁？", "水枪打敌人。", (Answer("敌人", 3),), False, "Sport"),
    ]
    assert (report.questions, report.unanswerable, report.mended, report.not_found) == (3, 1, [], [])
    assert report.lines() == [f"{tmp_path / name}: 3 questions, 1 of them unanswerable"]


def test_places_are_paths_or_lines(tmp_path: Path) -> None:
    write_json(tmp_path / "q.json")
    write_lines(tmp_path / "q.jsonl")
    assert read_questions(tmp_path / "q.json", labelled=True)[0][1].where == (
        f"{tmp_path / 'q.json'}: data[0].paragraphs[0].qas[1]"
    )
    assert read_questions(tmp_path / "q.jsonl", labelled=True)[0][1].where == f"{tmp_path / 'q.jsonl'}, line 2"


def test_unlabelled_reading_looks_at_no_answers(tmp_path: Path) -> None:
    document = squad()
    document["data"][0]["paragraphs"][0]["qas"][0]["answers"] = "nonsense"
    (tmp_path / "q.json").write_text(json.dumps(document))
    examples, report = read_questions(tmp_path / "q.json", labelled=False)
    assert [example.answers for example in examples] == [(), (), ()]
    assert report.unanswerable == 0


PARAGRAPH = "data[0].paragraphs[0]"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda d: d.pop("data"), [": data is missing", "data[].paragraphs[]"]),
        (lambda d: d.update(data={}), [": data is an object, not a list"]),
        (lambda d: d["data"].insert(0, 7), ["data[0] is the value 7, not an object"]),
        (lambda d: d["data"][0].pop("paragraphs"), ["data[0].paragraphs is missing"]),
        (lambda d: d["data"][0]["paragraphs"][0].pop("context"), [f"{PARAGRAPH}.context is missing"]),
        (lambda d: d["data"][0]["paragraphs"][0].update(context=" "), [f"{PARAGRAPH}.context is an empty text"]),
        (lambda d: d["data"][0]["paragraphs"][0].update(qas=None), [f"{PARAGRAPH}.qas is null, not a list"]),
        (lambda d: qas(d)[1].pop("id"), [f"{PARAGRAPH}.qas[1].id is missing"]),
        (lambda d: qas(d)[1].update(id=["x"]), [f"{PARAGRAPH}.qas[1].id is a list"]),
        (lambda d: qas(d)[1].update(id="a"), ["the id 'a' is already used at", f"{PARAGRAPH}.qas[0]"]),
        (lambda d: qas(d)[0].update(question="\n"), [f"{PARAGRAPH}.qas[0].question is an empty text"]),
        (lambda d: qas(d)[0].update(question=3), [f"{PARAGRAPH}.qas[0].question is the value 3, not a text"]),
        (lambda d: qas(d)[0].update(question="\ud83d!"), ["qas[0].question: character 0 is half a character"]),
        (lambda d: qas(d)[0].pop("answers"), [f"{PARAGRAPH}.qas[0].answers is missing", "'a'"]),
        (lambda d: qas(d)[0].update(answers="Lions"), ["qas[0].answers is the text 'Lions', not a list"]),
        (lambda d: qas(d)[0]["answers"].append(None), ["qas[0].answers[2] is null, not an object"]),
        (lambda d: qas(d)[0]["answers"][1].pop("text"), ["qas[0].answers[1].text is missing"]),
        (lambda d: qas(d)[0]["answers"][1].update(text=""), ["qas[0].answers[1].text is an empty text"]),
        (lambda d: qas(d)[0]["answers"][1].update(answer_start="4"), ["answers[1].answer_start is the text '4'"]),
        (lambda d: qas(d)[0]["answers"][1].update(answer_start=True), ["answers[1].answer_start is the value true"]),
        (lambda d: qas(d)[0].update(is_impossible="no"), ["qas[0].is_impossible is the text 'no', not true or false"]),
        (lambda d: qas(d)[0].update(is_impossible=True), ["qas[0].is_impossible", "'a'", "true but it has answers"]),
        (lambda d: qas(d)[1].update(is_impossible=False), ["qas[1].is_impossible", "'b'", "has no answers"]),
        (lambda d: qas(d)[0]["answers"][1].update(answer_start=5), ["'a'", "answer_start 5 points at 'ions '", "at 4"]),
        (lambda d: qas(d)[0]["answers"][1].update(answer_start=-1), ["'a'", "answer_start -1"]),
    ],
)
def test_faults_of_squad_json_are_told_with_their_path(
    tmp_path: Path, damage: Callable[[dict[str, Any]], object], told: list[str]
) -> None:
    document = squad()
    damage(document)
    (tmp_path / "q.json").write_text(json.dumps(document))
    with pytest.raises(InputError) as caught:
        read_questions(tmp_path / "q.json", labelled=True)
    for part in [str(tmp_path / "q.json"), *told]:
        assert part in str(caught.value)


def qas(document: dict[str, Any]) -> Any:
    return document["data"][0]["paragraphs"][0]["qas"]


def test_all_faults_at_once(tmp_path: Path) -> None:
    document = squad()
    qas(document)[0]["answers"][0]["answer_start"] = 3
    del qas(document)[1]["question"]
    document["data"][0]["paragraphs"][1].pop("context")
    (tmp_path / "q.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="3 problems") as caught:
        read_questions(tmp_path / "q.json", labelled=True)
    for part in ("qas[0]", "qas[1].question", "paragraphs[1].context"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("q.json", b'{"data": [\n  {"a": 1,}\n]}', "line 2, column"),
        ("q.json", b'{"question": "a", "context": "b"}\n{"question": "a", "context": "b"}\n', "name the file .jsonl"),
        ("q.json", b'{"data": \n"\xff"}', "line 2: byte 0xff is not UTF-8"),
        ("q.json", b"[" * 100_000, "broken JSON"),
        ("q.json", b'{"data": []}', "no questions in it"),
        ("q.json.gz", b'{"data": []}', "gzip"),
        ("q.json.gz", gzip.compress(b'{"data": []}', mtime=0)[:-9], "gzip"),
        ("q.jsonl", b'{"question": "a", "context": "b"}\n{"question": "a"\n', "line 2"),
        ("q.jsonl", b'{"question": "a", "context": "b"}\n{"context": "b"}\n', "line 2, column 'question' is missing"),
        ("q.jsonl", b'{"query": "a", "context": "b"}\n', "there is no column 'question'"),
        ("q.csv", b"question,context\nwho?,\n", "line 2, column 'context' is an empty text"),
        ("q.csv", b"question,context\nwho?,a,b\n", "line 2"),
        ("q.txt", b"", "q.txt"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_questions(path, labelled=False)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for name in ("q.json", "q.jsonl"):
        with pytest.raises(InputError, match=name):
            read_questions(tmp_path / name, labelled=True)


@pytest.mark.parametrize("answers", [None, {"text": ["Lions"]}, {"text": ["Lions"], "answer_start": []}, {"text": "x"}])
def test_faults_of_flat_answers(tmp_path: Path, answers: object) -> None:
    row = {"question": "who?", "context": CONTEXT, "answers": answers}
    (tmp_path / "q.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match="line 1, column 'answers'"):
        read_questions(tmp_path / "q.jsonl", labelled=True)


def with_answer(path: Path, text: str, start: int) -> None:
    document = squad()
    qas(document)[0]["answers"] = [{"text": text, "answer_start": start}]
    path.write_text(json.dumps(document))


def test_a_wrong_offset_is_mended_where_the_text_stands_once(tmp_path: Path) -> None:
    path = tmp_path / "q.json"
    with_answer(path, "Bears", 3)
    with pytest.raises(InputError, match="--fix-offsets"):
        read_questions(path, labelled=True)
    examples, report = read_questions(path, labelled=True, fix_offsets=True)
    assert examples[0].answers == (Answer("Bears", 28),)
    assert len(report.mended) == 1
    assert "'a'" in report.mended[0]
    assert "answer_start 3 is now 28" in report.mended[0]
    assert "answers with a corrected answer_start: 1" in report.lines()[1]


def test_a_wrong_offset_of_a_text_that_stands_twice_stays_an_error(tmp_path: Path) -> None:
    with_answer(tmp_path / "q.json", "Paris", 3)
    with pytest.raises(InputError, match="occurs 2 times"):
        read_questions(tmp_path / "q.json", labelled=True, fix_offsets=True)


def test_a_negative_offset_does_not_count_from_the_end(tmp_path: Path) -> None:
    with_answer(tmp_path / "q.json", "lost in Paris.", -14)
    assert read_questions(tmp_path / "q.json", labelled=True, fix_offsets=True)[0][0].answers[0].start == 34


def test_an_answer_that_is_nowhere_is_reported_and_kept(tmp_path: Path) -> None:
    with_answer(tmp_path / "q.json", "Tigers", 4)
    examples, report = read_questions(tmp_path / "q.json", labelled=True)
    assert examples[0].answers == (Answer("Tigers", -1),)
    assert not examples[0].is_impossible
    assert len(report.not_found) == 1
    assert "'Tigers'" in report.not_found[0]
    assert "qas[0]" in "\n".join(report.lines())


def test_not_strict_takes_files_as_they_are(tmp_path: Path) -> None:
    document = squad()
    qas(document)[0] |= {"question": "", "is_impossible": True}
    qas(document)[0]["answers"][0]["answer_start"] = 40
    (tmp_path / "q.json").write_text(json.dumps(document))
    example = read_questions(tmp_path / "q.json", labelled=True, strict=False)[0][0]
    assert (example.question, example.is_impossible, example.answers[0].start) == ("", True, 40)


def test_flat_files_to_predict_need_no_ids(tmp_path: Path) -> None:
    with (tmp_path / "q.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["frage", "context"], ["who?", 'a "b",\nc'], ["where?", "there"]])
    examples = list(stream_questions(tmp_path / "q.csv", Columns(question="frage")))
    assert [(e.id, e.question, e.context) for e in examples] == [("0", "who?", 'a "b",\nc'), ("1", "where?", "there")]


def test_ids_may_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"id": 17, "question": "who?", "context": "me"}\n')
    assert [example.id for example in stream_questions(tmp_path / "q.jsonl")] == ["17"]


def test_a_stream_tells_all_faults_before_its_first_question(tmp_path: Path) -> None:
    lines = ['{"question": "who?", "context": "me"}', '{"question": "", "context": "me"}', '{"question": "who?"}']
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="2 problems") as caught:
        stream_questions(tmp_path / "q.jsonl")
    assert "line 2" in str(caught.value)
    assert "line 3" in str(caught.value)


def test_a_stream_takes_constant_memory(tmp_path: Path) -> None:
    line = json.dumps({"question": "who?", "context": "x" * 2000}) + "\n"
    (tmp_path / "q.jsonl").write_text(line * 15_000)  # 30 MB
    tracemalloc.start()
    try:
        count = sum(1 for _ in stream_questions(tmp_path / "q.jsonl"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 15_000
    assert peak < 12_000_000


def test_real_squad_files(shared: Path) -> None:
    examples, report = read_questions(shared / "data/squad/dev-v2.0.json", labelled=True)
    assert (report.questions, report.unanswerable, report.mended, report.not_found) == (1199, 598, [], [])
    assert all(e.context[a.start : a.start + len(a.text)] == a.text for e in examples for a in e.answers)
    assert read_questions(shared / "data/squad/xquad.en.json", labelled=True)[1].questions == 1190


def test_real_chinese_file_with_faults(shared: Path, tmp_path: Path) -> None:
    """CMRC 2018's trial file has two empty questions and a paragraph whose offsets are off by one."""
    path = shared / "data/zh/cmrc2018_trial.json"
    with pytest.raises(InputError, match="7 problems"):
        read_questions(path, labelled=True)
    document = json.loads(path.read_text(encoding="utf-8"))
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [question for question in paragraph["qas"] if question["question"]]
    (tmp_path / "q.json").write_text(json.dumps(document))
    examples, report = read_questions(tmp_path / "q.json", labelled=True, fix_offsets=True)
    assert (len(examples), len(report.mended), report.not_found) == (1000, 5, [])
