"""CMRC 2018's and MLQA's comparisons, beside plain implementations of their scripts' definitions."""

import random
import re
import string
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer

from bertune.tasks.squad.answer_metrics import MLQA_LANGUAGES, answer_metric
from bertune.tasks.squad.metric_choice import choose_metric
from bertune.tasks.squad.reading import Answer, QuestionExample

MARKS = [*"-:_*^/\\~`+=，。：？！“”；’《》", "……", *"·、「」（）－～『』"]
PUNCTUATION = {chr(code) for code in range(sys.maxunicode) if unicodedata.category(chr(code))[0] == "P"} | set(
    string.punctuation
)
ARTICLES = {
    "en": (r"\b(a|an|the)\b", " "),
    "es": (r"\b(un|una|unos|unas|el|la|los|las)\b", " "),
    "vi": (r"\b(của|là|cái|chiếc|những)\b", " "),
    "de": (r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b", " "),
    "ar": ("\\sال^|ال", " "),
}
UNITS = [
    "1998",
    "年",
    "3.5",
    "NBA",
    "the",
    "，",
    "。",
    " ",
    "-",
    "(",
    "…",
    "don't",
    "水",
    "枪",
    "《",
    "der",
    "la",
    "ال",
]
TEXTS = st.lists(st.one_of(st.sampled_from(UNITS), st.text(max_size=3)), max_size=8).map("".join)


def mixed(text: str, marks: set[str]) -> list[str]:
    """Chinese characters one by one, the rest as `marks` and word_tokenize cut it."""
    found: list[str] = []
    held = ""
    for char in text:
        if re.match("[\u4e00-\u9fa5]", char):
            found += [*cut(held), char]
            held = ""
        elif char not in marks:
            held += char
    return found + cut(held)


def cut(text: str) -> list[str]:
    return NLTKWordTokenizer().tokenize(text) if text else []


def cmrc(prediction: str, golds: list[str]) -> tuple[float, float]:
    """As cmrc2018_evaluate.py counts one question."""
    bare = ["".join(char for char in text.lower().strip() if char not in MARKS) for text in (prediction, *golds)]
    best = 0.0
    for gold in golds:
        a, b = (mixed(text.lower().strip(), set(MARKS)) for text in (gold, prediction))
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, one in enumerate(a):
            for j, other in enumerate(b):
                table[i + 1][j + 1] = table[i][j] + 1 if one == other else 0
        if common := max(map(max, table)):
            p, r = common / len(b), common / len(a)
            best = max(best, 2 * p * r / (p + r))
    return float(bare[0] in bare[1:]), best


def mlqa(prediction: str, golds: list[str], language: str) -> tuple[float, float]:
    """As mlqa_evaluation_v1.py counts one question."""

    def normal(text: str) -> str:
        text = "".join(char for char in text.lower() if char not in PUNCTUATION)
        if language in ARTICLES:
            text = re.sub(*ARTICLES[language], text)
        if language == "zh":
            text = "".join(f" {char} " if "\u4e00" <= char <= "\u9fa5" else char for char in text)
        return " ".join(text.split())

    def overlap(gold: str) -> float:
        one, other = normal(prediction).split(), normal(gold).split()
        common = 0
        for token in one:
            if token in other:
                other.remove(token)
                common += 1
        return 2 * common / (len(one) + len(normal(gold).split())) if common else 0.0

    return float(normal(prediction) in map(normal, golds)), max(map(overlap, golds))


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_cmrc_on_any_texts(prediction: str, golds: list[str]) -> None:
    assert answer_metric("cmrc").scores(prediction, golds) == pytest.approx(cmrc(prediction, golds))


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), st.sampled_from(MLQA_LANGUAGES))
def test_mlqa_on_any_texts(prediction: str, golds: list[str], language: str) -> None:
    assert answer_metric("mlqa", language).scores(prediction, golds) == pytest.approx(mlqa(prediction, golds, language))


@pytest.mark.parametrize(
    ("name", "prediction", "gold", "exact", "overlap"),
    [
        ("cmrc", "1998年", "1998", 0.0, 2 / 3),
        ("mlqa", "1998年", "1998", 0.0, 2 / 3),
        ("cmrc", "枪水", "水枪", 0.0, 0.5),  # contiguous: one character
        ("mlqa", "枪水", "水枪", 0.0, 1.0),  # bags
        ("cmrc", "甲乙丁丙", "甲乙丙", 0.0, 4 / 7),  # the longest common subsequence would have three
        ("cmrc", "4 分钟", "4分钟", 0.0, 1.0),  # exact match keeps white space
        ("mlqa", "4 分钟", "4分钟", 1.0, 1.0),
        ("cmrc", "A(B)", "AB", 0.0, 0.0),  # and most ASCII punctuation
        ("cmrc", "《水-枪》。", "水枪", 1.0, 1.0),
        ("mlqa", "«水.枪»", "水枪", 1.0, 1.0),
        ("cmrc", "", "水枪", 0.0, 0.0),
        ("squad", "1998年", "1998", 0.0, 0.0),
    ],
)
def test_worked_out_by_hand(name: str, prediction: str, gold: str, exact: float, overlap: float) -> None:
    assert answer_metric(name, "zh").scores(prediction, [gold]) == pytest.approx((exact, overlap))


@pytest.mark.parametrize("name", ["squad", "cmrc", "mlqa", "characters"])
def test_no_answer(name: str) -> None:
    metric = answer_metric(name, "zh")
    assert metric.scores("", []) == (1.0, 1.0)
    assert metric.scores("水", []) == (0.0, 0.0)


def question(where: str, context: str, gold: str, name: str = "q") -> QuestionExample:
    return QuestionExample(name, "?", context, (Answer(gold, 0),), False, None, where)


CHINESE, JAPANESE = "北京是中国的首都，1998年有NBA比赛。", "東京は日本の首都であり、ひらがながあります。"


@pytest.mark.parametrize(
    ("where", "context", "gold", "name"),
    [
        ("dev.json: data[0].paragraphs[0].qas[0]", CHINESE, "1998", "cmrc"),
        ("dev.jsonl, line 3", CHINESE, "NBA", "cmrc"),
        ("data/xquad.zh.json: data[0]", CHINESE, "1998", "mlqa (zh)"),
        ("MLQA/dev-context-zh-question-zh.json: data[0]", CHINESE, "1998", "mlqa (zh)"),
        ("mlqa/../test-mlqa-de.json: data[0]", "Wien liegt in Österreich.", "Wien", "mlqa (de)"),
        ("mlqa.hi.json: data[0]", "दिल्ली भारत की राजधानी है।", "दिल्ली", "mlqa (hi)"),
        ("mlqa.json: data[0]", "القاهرة عاصمة مصر", "مصر", "mlqa (ar)"),
        ("xquad.de.json: data[0]", "Wien liegt in Österreich.", "Wien", "squad"),
        ("dev.json: data[0]", "Beijing (北京) is the capital of China.", "北京", "squad"),
        ("dev.json: data[0]", JAPANESE, "東京", "characters"),
        ("cmrc_zh/dev.json: data[0]", "In English.", "English", "squad"),  # folders do not count
        ("cmrc2018_dev.json: data[0]", CHINESE, "1998", "cmrc"),
    ],
)
def test_the_file_decides(where: str, context: str, gold: str, name: str) -> None:
    assert choose_metric([question(where, context, gold)]).name == name
    assert choose_metric([question(where, context, "x")], "squad").name == "squad"


def test_one_rule_for_all_questions_of_a_file() -> None:
    questions = [question("dev.json: data[0]", CHINESE, gold, f"q{i}") for i, gold in enumerate(("北京", "1998"))]
    assert choose_metric(questions).name == choose_metric(questions[1:]).name == "cmrc"
    named = [question("a.json: data[0]", "English.", "x", f"DEV_{i}_QUERY_0") for i in range(3)]
    assert choose_metric(named).name == "cmrc"
    assert choose_metric([]).name == "squad"


def test_shared_files(shared: Path) -> None:
    from bertune.tasks.squad.reading import read_questions

    for path in sorted((shared / "data").rglob("*xquad*zh*.json"))[:1]:
        questions, _ = read_questions(path, labelled=True)
        assert choose_metric(questions).name == "mlqa (zh)"


def test_random_predictions_of_digits() -> None:
    rng = random.Random(3)
    for _ in range(500):
        prediction, gold = ("".join(rng.choices("12年月. ", k=rng.randint(0, 5))) for _ in range(2))
        assert answer_metric("cmrc").scores(prediction, [gold]) == pytest.approx(cmrc(prediction, [gold]))
