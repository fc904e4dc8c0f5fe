"""Tag schemes: what tags mean, which are legal, decoding, metrics; all against an independent reading of conlleval."""

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.tasks.tagging.decoding import best_tags
from bertune.tasks.tagging.metrics import entity_metrics
from bertune.tasks.tagging.schemes import Chunk, chunks, guess_scheme, legal_moves, model_labels, tags_of, violations

TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y"]), max_size=12)
SCHEMES = ("iob1", "bio", "bioes", "io")


class Counts(NamedTuple):
    right: int
    found: int
    true: int


def conlleval(gold: list[str], guessed: list[str]) -> dict[str, Counts]:
    """The state machine of the CoNLL shared tasks' script, written from its description: counts by type."""

    def parse(tag: str) -> tuple[str, str]:
        return ("O", "") if tag == "O" else (tag[0], tag[2:])

    def ends(prev: tuple[str, str], here: tuple[str, str]) -> bool:
        (p, p_type), (t, t_type) = prev, here
        closing = p in "ES" or (p in "BI" and t in "BSO")
        return p != "O" and (closing or p_type != t_type)

    def starts(prev: tuple[str, str], here: tuple[str, str]) -> bool:
        (p, p_type), (t, t_type) = prev, here
        opening = t in "BS" or (t in "EI" and p in "ESO")
        return t != "O" and (opening or p_type != t_type)

    right: dict[str, int] = {}
    found: dict[str, int] = {}
    true: dict[str, int] = {}
    inside = False
    prev_gold, prev_guess = ("O", ""), ("O", "")
    for a, b in itertools.chain(zip(gold, guessed, strict=True), [("O", "O")]):
        here_gold, here_guess = parse(a), parse(b)
        if inside:
            end_gold, end_guess = ends(prev_gold, here_gold), ends(prev_guess, here_guess)
            if end_gold and end_guess and prev_gold[1] == prev_guess[1]:
                inside = False
                right[prev_gold[1]] = right.get(prev_gold[1], 0) + 1
            elif end_gold != end_guess or here_gold[1] != here_guess[1]:
                inside = False
        start_gold, start_guess = starts(prev_gold, here_gold), starts(prev_guess, here_guess)
        inside = inside or (start_gold and start_guess and here_gold[1] == here_guess[1])
        if start_gold:
            true[here_gold[1]] = true.get(here_gold[1], 0) + 1
        if start_guess:
            found[here_guess[1]] = found.get(here_guess[1], 0) + 1
        prev_gold, prev_guess = here_gold, here_guess
    return {name: Counts(right.get(name, 0), found.get(name, 0), true.get(name, 0)) for name in true | found}


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"])
        ),
        max_size=14,
    )
)
def test_metrics_equal_conlleval(pairs: list[tuple[str, str]]) -> None:
    gold, guessed = [a for a, _ in pairs], [b for _, b in pairs]
    ours = entity_metrics(*([[(c.label, (c.first, c.end)) for c in chunks(tags)]] for tags in (gold, guessed)))
    theirs = conlleval(gold, guessed)
    counts = [Counts(*map(sum, zip(*theirs.values(), strict=True)))] if theirs else [Counts(0, 0, 0)]
    for suffix, (right, found, true) in [("", counts[0]), *((f"/{name}", c) for name, c in theirs.items())]:
        precision, recall = right / found if found else 0.0, right / true if true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if right else 0.0
        got = tuple(ours[f"{name}{suffix}"] for name in ("precision", "recall", "f1"))
        assert got == pytest.approx((precision, recall, f1))


@settings(deadline=None)
@given(TAGS)
def test_chunks_equal_conlleval(tags: list[str]) -> None:
    found = conlleval(tags, tags)
    ours = chunks(tags)
    assert {name: sum(c.label == name for c in ours) for name in found} == {name: c.true for name, c in found.items()}


@settings(deadline=None)
@given(TAGS, st.sampled_from(SCHEMES))
def test_entities_survive_every_scheme(tags: list[str], scheme: str) -> None:
    found = chunks(tags)
    written = tags_of(found, len(tags), scheme)
    touching = any(a.end == b.first and a.label == b.label for a, b in itertools.pairwise(found))
    if scheme != "io" or not touching:
        assert chunks(written) == found
    assert violations(written, scheme) == []


@pytest.mark.parametrize(
    ("tags", "scheme", "expected"),
    [
        ("I-X I-X O I-Y", "iob1", [("X", 0, 2), ("Y", 3, 4)]),
        ("I-X B-X I-Y", "iob1", [("X", 0, 1), ("X", 1, 2), ("Y", 2, 3)]),
        ("B-X I-X B-X", "bio", [("X", 0, 2), ("X", 2, 3)]),
        ("B-X I-X E-X S-X", "bioes", [("X", 0, 3), ("X", 3, 4)]),
        ("B-X L-X U-Y", "bioes", [("X", 0, 2), ("Y", 2, 3)]),
        ("PER PER O LOC", "io", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("O B-X-Y I-X-Y", "bio", [("X-Y", 1, 3)]),
    ],
)
def test_schemes(tags: str, scheme: str, expected: list[tuple[str, int, int]]) -> None:
    assert chunks(tags.split()) == [Chunk(*one) for one in expected]
    assert violations(tags.split(), scheme) == []


@pytest.mark.parametrize(
    ("sentences", "scheme"),
    [
        (["I-X I-X O", "I-X B-X"], "iob1"),
        (["B-X I-X", "O B-X"], "bio"),
        (["B-X I-X", "O I-X O"], "bio"),
        (["I-X O I-Y", "O B-Y", "I-X"], "iob1"),
        (["B-X E-X O S-Y"], "bioes"),
        (["I-X I-X O"], "io"),
        (["PER O LOC"], "io"),
    ],
)
def test_the_scheme_is_told_by_the_tags(sentences: list[str], scheme: str) -> None:
    assert guess_scheme(one.split() for one in sentences) == scheme


@pytest.mark.parametrize(
    ("tags", "scheme", "at", "told"),
    [
        ("O I-X", "bio", 1, "'I-X' may not follow 'O'; an entity begins with B-"),
        ("I-X", "bio", 0, "may not follow the sentence's start"),
        ("B-X I-Y", "bio", 1, "'I-Y' may not follow 'B-X'"),
        ("B-X O", "bioes", 1, "'O' may not follow 'B-X'"),
        ("S-X I-X E-X", "bioes", 1, "'I-X' may not follow 'S-X'"),
        ("B-X I-X", "bioes", 1, "ends inside an entity"),
        ("B-X E-X", "bio", 1, "does not belong to the BIO scheme"),
        ("I-X B-X", "io", 1, "does not belong to the IO scheme"),
    ],
)
def test_illegal_tags(tags: str, scheme: str, at: int, told: str) -> None:
    found = violations(tags.split(), scheme)
    assert found[0][0] == at
    assert told in found[0][1]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4), st.integers(0, 2**32 - 1), st.sampled_from(["bio", "bioes", "io"]))
def test_decoding_gives_the_best_legal_sequence(words: int, seed: int, scheme: str) -> None:
    labels = model_labels(("X", "Y"), scheme) if scheme != "bioes" else model_labels(("X",), scheme)
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(len(labels)), words)
    (path,) = best_tags([probabilities.reshape(words, len(labels))], labels, scheme)
    legal = [
        ways
        for ways in itertools.product(range(len(labels)), repeat=words)
        if not violations([labels[i] for i in ways], scheme)
    ]
    best = max(legal, key=lambda ways: sum(np.log(probabilities[i, way]) for i, way in enumerate(ways)))
    assert tuple(path.tolist()) == best


def test_sentences_of_all_lengths_decode_together() -> None:
    labels = model_labels(("X",), "bio")
    generator = np.random.default_rng(0)
    parts = [generator.dirichlet(np.ones(3), int(n)) for n in generator.integers(0, 9, 40)]
    together = best_tags(parts, labels, "bio")
    for part, path in zip(parts, together, strict=True):
        assert path.tolist() == best_tags([part], labels, "bio")[0].tolist()


def test_moves_of_bioes() -> None:
    labels = ("O", "B-X", "I-X", "E-X", "S-X", "E-Y")
    start, moves, end = legal_moves(labels, "bioes")
    assert start.tolist() == [True, True, False, False, True, False]
    assert end.tolist() == [True, False, False, True, True, True]
    assert moves[1].tolist() == [False, False, True, True, False, False]
