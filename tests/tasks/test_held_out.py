"""Rows held out for validation: a share of every label, decided by content, groups whole."""

import random
from collections import Counter
from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.tasks.held_out import held_out_rows
from bertune.tasks.labelled import Labelled, hold_out, read_recorded
from bertune.tasks.multi_label import LabelledText
from bertune.tasks.registry import new_task
from bertune.tasks.regression import NumberExample
from bertune.tasks.squad.reading import QuestionExample
from bertune.tasks.text_classification import TextExample
from tests.tiny import Row, write_rows


def rows(counts: dict[str, int]) -> list[TextExample]:
    return [TextExample(f"text {i} of {label}", label=label) for label, count in counts.items() for i in range(count)]


def chosen(examples: list[TextExample], share: float) -> set[str]:
    return {example.text for example, held in zip(examples, held_out_rows(examples, share), strict=True) if held}


def test_every_label_gives_its_share() -> None:
    examples = rows({"a": 200, "b": 100, "rare": 7, "single": 1})
    held = [one for one, out in zip(examples, held_out_rows(examples, 0.2), strict=True) if out]
    counts = Counter(one.label for one in held)
    assert (counts["a"], counts["b"], counts["single"]) == (40, 20, 0)
    assert counts["rare"] in (1, 2)


def test_the_same_rows_in_any_order() -> None:
    examples = rows({"a": 50, "b": 30})
    shuffled = random.Random(3).sample(examples, len(examples))
    assert chosen(examples, 0.1) == chosen(shuffled, 0.1)
    # The choice is part of the contract: another version of bertune must hold the same rows out.
    assert sorted(chosen(rows({"a": 10, "b": 10}), 0.1)) == EXPECTED


EXPECTED = ["text 1 of a", "text 8 of b"]


def test_rows_of_the_same_text_stay_together() -> None:
    examples = [*rows({"a": 40, "b": 40}), *rows({"a": 40}), TextExample("TEXT  3 of A", label="b")]
    held = held_out_rows(examples, 0.25)
    sides: dict[str, set[bool]] = {}
    for example, out in zip(examples, held, strict=True):
        sides.setdefault(" ".join(example.text.split()).lower(), set()).add(bool(out))
    assert held.any()
    assert all(len(side) == 1 for side in sides.values())


def test_questions_on_a_passage_stay_together() -> None:
    examples = [
        QuestionExample(str(i), f"question {i}", f"passage {i // 5}", (), True, None, f"[{i}]") for i in range(100)
    ]
    held = held_out_rows(examples, 0.2)
    assert held.sum() == 20
    assert all(len({bool(out) for out in held[start : start + 5]}) == 1 for start in range(0, 100, 5))


def test_numbers_are_held_out_over_their_whole_range() -> None:
    examples = [NumberExample(f"text {i}", None, i / 10) for i in range(200)]
    held = held_out_rows(examples, 0.1)
    low, high = held[:100].sum(), held[100:].sum()
    assert (low, high) == (10, 10)


def test_sets_of_labels_that_occur_once() -> None:
    examples = [LabelledText(f"text {i}", None, frozenset({f"l{i % 7}", f"m{i}"})) for i in range(50)]
    assert held_out_rows(examples, 0.2).sum() == 10


def test_too_few_rows_hold_nothing_out() -> None:
    assert not held_out_rows(rows({"a": 2, "b": 2}), 0.1).any()
    assert not held_out_rows(rows({"a": 1, "b": 1}), 0.5).any()


def table(folder: Path, name: str, start: int) -> Path:
    made: list[Row] = [
        {"text": f"text {i}", "label": "ab"[i % 2], "person": f"p{i % 6}"} for i in range(start, start + 30)
    ]
    return write_rows(folder / name, made)


def test_groups_are_whole_over_several_files(tmp_path: Path) -> None:
    task = new_task("text-classification", {})
    read = Labelled.read(task, [str(table(tmp_path, "one.csv", 0)), str(table(tmp_path, "two.csv", 30))])
    split = hold_out(task, read, 0.3, "person")
    assert split is not None
    people = [{int(one.text.split()[1]) % 6 for one in side.examples} for side in split]
    assert not people[0] & people[1]
    assert len(split[0].examples) + len(split[1].examples) == 60
    assert sum(part.rows for part in split[1].parts) == len(split[1].examples)
    with pytest.raises(InputError, match=r"'persons'.*--group-column"):
        hold_out(task, read, 0.3, "persons")


def test_recorded_rows_are_found_again(tmp_path: Path) -> None:
    task = new_task("text-classification", {})
    paths = [table(tmp_path, "one.csv", 0), table(tmp_path, "two.csv", 30)]
    split = hold_out(task, Labelled.read(task, [str(path) for path in paths]), 0.2)
    assert split is not None
    for side in split:
        assert read_recorded(task, side.describe()).examples == side.examples
    paths[1].write_text(paths[1].read_text() + "text 99,a,p1\n")
    with pytest.raises(InputError, match=r"two\.csv has changed since the training"):
        read_recorded(task, split[1].describe())
