"""What a pass over examples keeps, for every shape of example."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bertune.checking import survey as module
from bertune.checking.survey import take_survey
from bertune.tasks.choices import ChoiceExample
from bertune.tasks.multi_label import LabelledText
from bertune.tasks.parts import ExampleParts, parts_of
from bertune.tasks.regression import NumberExample
from bertune.tasks.squad.reading import Answer, QuestionExample
from bertune.tasks.tagging.examples import from_tokens
from bertune.tasks.text_classification import TextExample

PATH = Path("data.csv")


@dataclass
class Strange:
    """An example of a task of one's own that says its parts itself."""

    words: list[str]

    def parts(self) -> ExampleParts:
        return ExampleParts({"words": " ".join(self.words)}, ("mine",), place="page 3")


def test_parts_of_every_kind_of_example() -> None:
    assert parts_of(TextExample("a", "b", "yes", 7)) == ExampleParts({"text": "a", "pair": "b"}, ("yes",), place=7)
    assert parts_of(LabelledText("a", None, frozenset("yx"), 2)) == ExampleParts({"text": "a"}, ("x", "y"), place=2)
    assert parts_of(NumberExample("a", None, 2.5, 2)) == ExampleParts({"text": "a"}, (), 2.5, place=2)
    assert parts_of(Strange(["a", "b"])).texts == {"words": "a b"}
    tagged = parts_of(from_tokens(["Ada", "in", "Rome"], ["B-PER", "O", "B-LOC"], 4))
    assert (tagged.texts, tagged.labels) == ({"text": "Ada in Rome"}, ("PER", "LOC"))
    choice = parts_of(ChoiceExample("who", ("a", "b"), ("a", "b"), 1, 9))
    assert (choice.labels, choice.answer, choice.place) == (("choice 1",), "b", 9)
    question = parts_of(QuestionExample("1", "who?", "Ada did.", (Answer("Ada", 0),), False, None, "x.json: data[0]"))
    assert question.texts == {"question": "who?", "context": "Ada did."}
    assert question.labels == ("answerable",)


@pytest.mark.parametrize(
    ("labels", "place", "expected"),
    [("one", 3, ("one",)), (5, (1, 2), ("5",)), ([2, 1], "page 4", ("1", "2")), (None, None, ())],
)
def test_examples_of_any_form_are_taken_apart(labels: object, place: object, expected: tuple[str, ...]) -> None:
    example = SimpleNamespace(text=["no", "text"], labels=labels, place=place)
    parts = parts_of(example)
    assert (parts.texts, parts.labels) == ({}, expected)
    assert isinstance(parts.place, int | str)
    assert len(take_survey(PATH, [example] * 3)) == 3


def test_equal_texts_have_equal_hashes_in_spite_of_case_and_space() -> None:
    rows = [TextExample("A  film ", None, "x"), TextExample("a film", None, "y"), TextExample("a", "film", "x")]
    found = take_survey(PATH, rows)
    assert found.texts[0] == found.texts[1] != found.texts[2]
    assert found.answers[0] == found.answers[2] != found.answers[1]


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [TextExample(f"text {i % 7}", f"pair {i}" if i > 4 else None, "ab"[i % 2], i + 2) for i in range(20)]
    whole = take_survey(PATH, rows)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = take_survey(PATH, rows)
    np.testing.assert_array_equal(whole.texts, parts.texts)
    np.testing.assert_array_equal(whole.fields["pair"], parts.fields["pair"])
    assert (whole.labels, whole.first, list(whole.places)) == (parts.labels, parts.first, list(parts.places))


def test_empty_and_near_empty_texts() -> None:
    rows = [TextExample(text, None, "x", i + 2) for i, text in enumerate(["fine", " ", "...", "好", "", "(ok)"])]
    found = take_survey(PATH, rows)
    assert {kind: (seen.count, seen.rows) for kind, seen in found.odd.items()} == {
        "empty": (2, [1, 4]),
        "near-empty": (1, [2]),
    }
    assert found.blank.tolist() == [False, True, False, False, True, False]


def test_places_in_words() -> None:
    found = take_survey(PATH, [TextExample("a", place=5), TextExample("b"), TextExample("c", place=6)])
    assert [found.where(row) for row in range(3)] == ["line 5", "example 2", "line 6"]
    assert take_survey(Path("a.parquet"), [TextExample("a", place=5)]).where(0) == "row 5"
    question = QuestionExample("1", "q", "c", (), False, None, "dev.json: data[0].paragraphs[0].qas[0]")
    assert take_survey(Path("dev.json"), [question]).where(0) == "data[0].paragraphs[0].qas[0]"
