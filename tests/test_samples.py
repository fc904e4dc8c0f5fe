"""The sample data: counts, balance, legal forms, and nothing shared between training and development sets."""

import csv
import json
import re
from collections import Counter
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import pytest

SAMPLES = Path(str(resources.files("bertune.samples")))
SPLITS = ("train", "dev")
INTENTS = {
    "account_access",
    "billing",
    "cancel_subscription",
    "feedback",
    "order_status",
    "product_question",
    "return_refund",
    "technical_problem",
}


class Answer(TypedDict):
    text: str
    answer_start: int


class Question(TypedDict):
    id: str
    question: str
    is_impossible: bool
    answers: list[Answer]


class Passage(TypedDict):
    context: str
    qas: list[Question]


class Choice(TypedDict):
    context: str
    question: str
    choices: list[str]
    answer: int


def table(name: str, header: list[str]) -> list[dict[str, str]]:
    with (SAMPLES / name).open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        rows = list(reader)
    assert reader.fieldnames == header
    assert all(None not in row and None not in row.values() for row in rows), "a row has too many or too few cells"
    return rows


def passages(split: str, folder: str = "handbook") -> list[Passage]:
    content = json.loads((SAMPLES / folder / f"{split}.json").read_text(encoding="utf-8"))
    assert content["version"] == "v2.0"
    return [passage for article in content["data"] for passage in article["paragraphs"]]


def questions(split: str) -> list[Question]:
    return [question for passage in passages(split) for question in passage["qas"]]


def sentences(split: str) -> list[list[tuple[str, str]]]:
    blocks = (SAMPLES / "entities" / f"{split}.conll").read_text(encoding="utf-8").strip().split("\n\n")
    found = []
    for block in blocks:
        pairs = [line.split(" ") for line in block.split("\n")]
        assert all(len(pair) == 2 for pair in pairs)
        found.append([(token, tag) for token, tag in pairs])
    return found


def choices(split: str) -> list[Choice]:
    lines = (SAMPLES / "choices" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def plain(text: str) -> str:
    """Text without case, spaces and punctuation, so that trivial rewrites count as duplicates."""
    return re.sub(r"[\W_]+", "", text.casefold())


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


def texts(task: str, split: str) -> list[str]:
    """What identifies each row of a task, in a plain form."""
    if task == "handbook":
        return [plain(f"{p['context']} {q['question']}") for p in passages(split) for q in p["qas"]]
    if task == "entities":
        return [plain("".join(token for token, _ in sentence)) for sentence in sentences(split)]
    if task == "choices":
        return [plain(row["context"]) for row in choices(split)]
    if task == "similarity":
        rows = table(f"similarity/{split}.csv", ["sentence1", "sentence2", "score"])
        return ["/".join(sorted((plain(row["sentence1"]), plain(row["sentence2"])))) for row in rows]
    header = ["text", "labels"] if task == "topics" else ["text", "label"]
    return [plain(row["text"]) for row in table(f"{task}/{split}.csv", header)]


@pytest.mark.parametrize(
    ("task", "train", "dev"),
    [
        ("intents", 392, 80),
        ("handbook", 112, 40),
        ("entities", 82, 25),
        ("similarity", 121, 40),
        ("topics", 120, 40),
        ("choices", 60, 20),
        ("ratings", 120, 40),
    ],
)
def test_rows_are_as_many_as_the_readme_says_and_none_occurs_twice(task: str, train: int, dev: int) -> None:
    rows = {split: texts(task, split) for split in SPLITS}
    assert (len(rows["train"]), len(rows["dev"])) == (train, dev)
    both = rows["train"] + rows["dev"]
    assert all(both)
    assert [text for text, count in Counter(both).items() if count > 1] == []
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    for split, count in (("train", train), ("dev", dev)):
        assert re.search(rf"^\| `{task}/{split}\.\w+` \|[^|]*\| {count}\b", readme, re.MULTILINE)


def test_development_passages_and_sentences_are_not_in_the_training_set() -> None:
    assert not {p["context"] for p in passages("train")} & {p["context"] for p in passages("dev")}
    header = ["sentence1", "sentence2", "score"]
    seen = [
        {plain(row[side]) for row in table(f"similarity/{split}.csv", header) for side in header[:2]}
        for split in SPLITS
    ]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(("split", "each", "chinese"), [("train", 49, 7), ("dev", 10, 1)])
def test_intents_are_balanced_in_both_languages(split: str, each: int, chinese: int) -> None:
    rows = table(f"intents/{split}.csv", ["text", "label"])
    assert Counter(row["label"] for row in rows) == dict.fromkeys(INTENTS, each)
    assert Counter(row["label"] for row in rows if is_chinese(row["text"])) == dict.fromkeys(INTENTS, chinese)


def test_messages_to_predict_are_new() -> None:
    rows = [row["text"] for row in table("intents/to_predict.csv", ["text"])]
    assert len(rows) == 8
    assert sum(map(is_chinese, rows)) == 2
    assert not {plain(text) for text in rows} & {*texts("intents", "train"), *texts("intents", "dev")}


@pytest.mark.parametrize(("split", "each"), [("train", 30), ("dev", 10)])
def test_chinese_reviews_are_balanced(split: str, each: int) -> None:
    rows = table(f"chinese-reviews/{split}.csv", ["文本", "标签"])
    assert Counter(row["标签"] for row in rows) == {"好评": each, "差评": each}
    assert all(is_chinese(row["文本"]) for row in rows)
    other = table(f"chinese-reviews/{'dev' if split == 'train' else 'train'}.csv", ["文本", "标签"])
    assert not {row["文本"] for row in rows} & {row["文本"] for row in other}


@pytest.mark.parametrize(
    ("folder", "split"), [(one, split) for one in ("handbook", "chinese-questions") for split in SPLITS]
)
def test_answers_stand_where_the_files_say(folder: str, split: str) -> None:
    for passage in passages(split, folder):
        for question in passage["qas"]:
            assert question["is_impossible"] == (not question["answers"])
            assert len(question["answers"]) <= (3 if split == "dev" else 1)
            for answer in question["answers"]:
                start = answer["answer_start"]
                assert answer["text"]
                assert answer["text"] == answer["text"].strip()
                assert passage["context"][start : start + len(answer["text"])] == answer["text"]


@pytest.mark.parametrize(("split", "count"), [("train", 18), ("dev", 7)])
def test_handbook_passages_are_of_moderate_length(split: str, count: int) -> None:
    found = [passage["context"] for passage in passages(split)]
    assert len(found) == count
    for context in found:
        if is_chinese(context):
            assert 150 <= len(context) <= 300
        else:
            assert 80 <= len(context.split()) <= 160


@pytest.mark.parametrize("split", SPLITS)
def test_a_third_of_the_handbook_questions_has_no_answer(split: str) -> None:
    rows = questions(split)
    assert 0.25 <= sum(row["is_impossible"] for row in rows) / len(rows) <= 0.40
    chinese = [row for row in rows if is_chinese(row["question"])]
    assert len(chinese) >= 5
    assert {row["is_impossible"] for row in chinese} == {True, False}


def test_handbook_ids_are_unique() -> None:
    ids = [row["id"] for split in SPLITS for row in questions(split)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"handbook-\d{4}", name) for name in ids)


@pytest.mark.parametrize("split", SPLITS)
def test_entity_tags_are_legal_bio(split: str) -> None:
    begun = Counter[str]()
    for sentence in sentences(split):
        tags = [tag for _, tag in sentence]
        begun.update(tag[2:] for tag in tags if tag.startswith("B-"))
        for before, tag in pairwise(["O", *tags]):
            assert re.fullmatch(r"O|[BI]-(PRODUCT|PLACE|PERSON|DATE)", tag)
            assert not tag.startswith("I-") or before[1:] == tag[1:], f"{tag} follows {before} in {sentence}"
    assert set(begun) == {"PRODUCT", "PLACE", "PERSON", "DATE"}
    assert max(begun.values()) < 1.5 * min(begun.values())


@pytest.mark.parametrize("split", SPLITS)
def test_similarity_scores_cover_the_whole_scale(split: str) -> None:
    rows = table(f"similarity/{split}.csv", ["sentence1", "sentence2", "score"])
    assert all(re.fullmatch(r"[0-4]\.\d|5\.0", row["score"]) for row in rows)
    bands = Counter(min(4, int(float(row["score"]))) for row in rows)
    assert min(bands[band] for band in range(5)) >= len(rows) // 20


@pytest.mark.parametrize("split", SPLITS)
def test_topics_occur_alone_together_and_not_at_all(split: str) -> None:
    rows = [
        row["labels"].split("|") if row["labels"] else [] for row in table(f"topics/{split}.csv", ["text", "labels"])
    ]
    assert {label for row in rows for label in row} == {"app", "delivery", "price", "quality", "support"}
    assert all(len(set(row)) == len(row) for row in rows)
    assert {len(row) for row in rows} >= {0, 1, 2, 3}


@pytest.mark.parametrize("split", SPLITS)
def test_right_choices_are_spread_evenly(split: str) -> None:
    rows = choices(split)
    for row in rows:
        assert list(row) == ["context", "question", "choices", "answer"]
        assert len(set(row["choices"])) == 4
    assert Counter(row["answer"] for row in rows) == dict.fromkeys(range(4), len(rows) // 4)


@pytest.mark.parametrize("split", SPLITS)
def test_star_ratings_are_balanced(split: str) -> None:
    counts = Counter(row["label"] for row in table(f"ratings/{split}.csv", ["text", "label"]))
    assert set(counts) == set("12345")
    assert max(counts.values()) - min(counts.values()) <= 2


def test_the_corpus_is_documents_of_one_sentence_a_line() -> None:
    text = (SAMPLES / "corpus" / "handbook.txt").read_text(encoding="utf-8")
    assert text.endswith("\n")
    documents = [document.split("\n") for document in text[:-1].split("\n\n")]
    lines = [line for document in documents for line in document]
    assert (len(documents), len(lines)) == (52, 354)
    assert all(len(document) >= 5 for document in documents)
    assert all(line and line == line.strip() and line[-1] in ".?!。？！" for line in lines)
    assert len(set(lines)) == len(lines)
    assert sum(is_chinese(document[0]) for document in documents) == 5


def test_files_are_plain_utf8_with_line_feeds() -> None:
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(files) == 24
    for path in files:
        if path.parent.name == "office":  # as an office program writes it: Windows-1252, CR LF
            continue
        data = path.read_bytes()
        assert b"\r" not in data, path
        assert not data.startswith(b"\xef\xbb\xbf"), path
        data.decode("utf-8")
