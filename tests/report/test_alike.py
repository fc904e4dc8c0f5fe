"""Nearly equal texts with other labels."""

import time

import numpy as np

from bertune.report.alike import LEAST, contrary_pairs

LONG = "the delivery arrived two weeks late and nobody answered my letters about it"


def rows(*texts: str) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


def test_equal_words_and_nearly_equal_texts_are_paired_by_likeness() -> None:
    found = contrary_pairs(
        rows(LONG, f"{LONG.upper()}!!", f"{LONG} at all", "something else entirely, about the weather", LONG),
        ["late", "praise", "other", "other", "late"],
    )
    assert [(one.first, one.second) for one in found] == [(0, 1), (0, 2)]
    assert found[0].similarity == 1
    assert LEAST <= found[1].similarity < 1


def test_equal_labels_and_texts_that_differ_are_left_out() -> None:
    assert contrary_pairs(rows(LONG, f"{LONG} at all"), ["a", "a"]) == []
    assert contrary_pairs(rows(LONG, LONG[:30]), ["a", "b"]) == []
    assert contrary_pairs([], []) == []
    assert contrary_pairs(rows("", "..", "a", "\ud800"), ["a", "b", "c", "d"]) == []


def test_chinese_needs_no_spaces() -> None:
    one, other = "这个灯泡总是连不上我的家庭网络请问应该怎么办", "这个灯泡总是连不上我的家庭网络请问应该怎么办呢"
    (found,) = contrary_pairs(rows(one, other), ["a", "b"])
    assert found.similarity > 0.9


def test_each_text_of_a_row_must_be_alike() -> None:
    pairs = [{"question": "who was it?", "context": LONG * 3}, {"question": "what came late?", "context": LONG * 3}]
    assert contrary_pairs(pairs, ["a", "b"]) == []


def test_near_duplicates_are_found_among_thousands() -> None:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz     "))
    texts = ["".join(rng.choice(letters, 80)) for _ in range(3000)]
    planted = rng.choice(1500, 50, replace=False)
    for row in planted:
        texts[row + 1500] = texts[row] + " xyz"
    begin = time.perf_counter()
    found = contrary_pairs(rows(*texts), ["a"] * 1500 + ["b"] * 1500)
    assert time.perf_counter() - begin < 10
    assert len({one.first for one in found} & set(planted.tolist())) >= 48
    assert len(found) <= 55
