"""Decoding: the best spans of all windows, as a search through every span finds them."""

from collections.abc import Callable

import numpy as np
import pytest

from bertune.errors import InputError
from bertune.tasks.squad.decoding import Decoded, Logits, decode_answers
from bertune.tasks.squad.reading import QuestionExample
from bertune.tasks.squad.windows import Windows, build_windows
from bertune.tokenization.tokenizer import Tokenizer

MakeQuestion = Callable[..., QuestionExample]
CONTEXT = "The team won in Paris. Who played? The team played in New York."


def logits_of(windows: Windows, *peaks: tuple[int, int, float]) -> Logits:
    """Zero but for (window, position, value)."""
    logits = np.zeros(len(windows.input_ids.values), np.float32)
    for window, position, value in peaks:
        logits[int(windows.input_ids.offsets[window]) + position] = value
    return logits


def search(
    windows: Windows, starts: Logits, ends: Logits, context: str, index: int, longest: int
) -> list[tuple[float, str, int, int]]:
    """Every legal span of a question, best first, each text once."""
    found = []
    for window in np.flatnonzero(windows.example_index == index).tolist():
        base = int(windows.input_ids.offsets[window]) + int(windows.context_start[window])
        froms, tos = windows.char_start[window].tolist(), windows.char_end[window].tolist()
        for first in range(len(froms)):
            if not windows.max_context[window][first]:
                continue
            for last in range(first, min(first + longest, len(froms))):
                score = float(starts[base + first]) + float(ends[base + last])
                found.append((score, context[froms[first] : tos[last]], froms[first], tos[last]))
    best: dict[str, tuple[float, str, int, int]] = {}
    for entry in sorted(found, key=lambda entry: -entry[0]):
        best.setdefault(entry[1], entry)
    return list(best.values())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("n_best", "longest"), [(1, 30), (5, 3), (20, 30)])
def test_equals_a_search_through_every_span(
    tokenizer: Tokenizer, make_question: MakeQuestion, seed: int, n_best: int, longest: int
) -> None:
    random = np.random.default_rng(seed)
    units = ["the", "team", "won", "水枪", "3.5", "New York", "played"]
    examples = [make_question(" ".join(random.choice(units, size))) for size in (1, 30, 60)]
    windows = build_windows(examples, tokenizer, training=False, max_seq_length=40, doc_stride=12, max_query_length=6)
    assert len(windows) > 5
    # The values are powers of two apart in steps of 1/256, so every sum is exact and ties are rare.
    starts, ends = (
        (random.integers(-2000, 2000, len(windows.input_ids.values)) / 256).astype(np.float32) for _ in range(2)
    )
    decoded = decode_answers(
        windows, starts, ends, examples, n_best=n_best, max_answer_length=longest, null_threshold=None
    )
    for index, (example, result) in enumerate(zip(examples, decoded, strict=True)):
        expected = search(windows, starts, ends, example.context, index, longest)
        assert result.best.text == expected[0][1]
        # Beyond the first, candidates of the same text may crowd others out of a window's share of 2 · n_best.
        values = [candidate.logit for candidate in result.candidates]
        assert values == sorted(values, reverse=True)
        assert len({candidate.text for candidate in result.candidates}) == len(result.candidates) <= n_best
        known = {(text, start, end): score for score, text, start, end in expected}
        for candidate in result.candidates:
            assert candidate.text == example.context[candidate.start : candidate.end]
            assert known.get((candidate.text, candidate.start, candidate.end)) == candidate.logit
        assert sum(candidate.score for candidate in result.candidates) == pytest.approx(1.0)
        weights = np.exp(np.array(values) - values[0])
        assert [c.score for c in result.candidates] == pytest.approx((weights / weights.sum()).tolist())


@pytest.mark.parametrize(("n_best", "longest"), [(1, 1), (20, 30), (50, 4)])
def test_all_candidates_of_a_search_where_every_text_is_different(
    tokenizer: Tokenizer, make_question: MakeQuestion, n_best: int, longest: int
) -> None:
    random = np.random.default_rng(5)
    example = make_question("".join(chr(0x4E00 + number) for number in range(70)))
    windows = build_windows([example], tokenizer, training=False, max_seq_length=40, doc_stride=12, max_query_length=6)
    starts, ends = (random.normal(size=len(windows.input_ids.values)) for _ in range(2))
    result = decode_answers(
        windows, starts, ends, [example], n_best=n_best, max_answer_length=longest, null_threshold=None
    )[0]
    expected = search(windows, starts, ends, example.context, 0, longest)[:n_best]
    assert len(expected) == n_best
    assert [(c.logit, c.text, c.start, c.end) for c in result.candidates] == expected


def decode_one(
    tokenizer: Tokenizer, example: QuestionExample, starts: list[tuple[int, int, float]],
    ends: list[tuple[int, int, float]], null_threshold: float | None = 0.0,
) -> Decoded:  # fmt: skip
    windows = build_windows([example], tokenizer, training=False)
    return decode_answers(
        windows, logits_of(windows, *starts), logits_of(windows, *ends), [example], null_threshold=null_threshold
    )[0]


def test_exact_span_and_probabilities(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question("It: (Paris) won", question="who won?")  # [CLS] who won ? [SEP] i ##t : ( paris ) won
    result = decode_one(tokenizer, example, [(0, 9, 20.0)], [(0, 9, 20.0)])
    assert (result.best.text, result.best.start, result.best.end, result.best.logit) == ("Paris", 5, 10, 40.0)
    assert result.best is result.span is result.candidates[0]
    assert result.best.score == pytest.approx(1.0)
    assert result.null_odds == -40.0
    assert "" in {candidate.text for candidate in result.candidates}


def test_never_the_question(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question("the team won", question="who won?")
    result = decode_one(tokenizer, example, [(0, 1, 50.0), (0, 5, 1.0)], [(0, 2, 50.0), (0, 8, 50.0), (0, 6, 1.0)])
    assert result.best.text == "the team"


@pytest.mark.parametrize(("threshold", "answer"), [(None, "team"), (3.5, "team"), (3.0, "team"), (2.5, ""), (0.0, "")])
def test_null_threshold(
    tokenizer: Tokenizer, make_question: MakeQuestion, threshold: float | None, answer: str
) -> None:
    example = make_question("the team won", question="who won?")
    result = decode_one(tokenizer, example, [(0, 0, 4.0), (0, 6, 4.0)], [(0, 0, 6.0), (0, 6, 3.0)], threshold)
    assert (result.best.text, result.null_odds) == (answer, 3.0)
    assert result.span is not None
    assert (result.span.text, result.span.logit) == ("team", 7.0)
    assert (result.best.start, result.best.end) == ((4, 8) if answer else (0, 0))
    assert ("" in {candidate.text for candidate in result.candidates}) == (threshold is not None)


def test_no_answer_is_the_least_over_the_windows(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question(CONTEXT)
    windows = build_windows([example], tokenizer, training=False, max_seq_length=12, doc_stride=4, max_query_length=4)
    assert len(windows) == 4
    starts = logits_of(windows, (0, 0, 9.0), (1, 0, 2.0), (2, 0, 7.0), (3, 0, 5.0), (3, 6, 0.5))
    result = decode_answers(windows, starts, starts * 0, [example])[0]
    assert result.null_odds == 2.0 - 0.5
    assert result.best.text == ""


def test_windows_of_a_question_are_joined(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    examples = [make_question("won"), make_question(CONTEXT), make_question("won")]
    windows = build_windows(examples, tokenizer, training=False, max_seq_length=20, doc_stride=5, max_query_length=4)
    last = int(np.flatnonzero(windows.example_index == 1)[-1])
    place = int(windows.context_start[last]) + int(np.flatnonzero(windows.max_context[last])[-1])
    logits = logits_of(windows, (last, place, 9.0))
    decoded = decode_answers(windows, logits, logits, examples)
    assert [result.best.text for result in decoded] == ["won", ".", "won"]
    assert decoded[1].best.end == len(CONTEXT)


def test_a_text_that_stands_twice_is_one_candidate(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question("team won team", question="who won?")
    result = decode_one(tokenizer, example, [(0, 5, 1.0), (0, 7, 9.0)], [(0, 5, 9.0), (0, 7, 2.0)])
    assert [(c.start, c.logit) for c in result.candidates if c.text == "team"] == [(9, 11.0)]


def test_the_same_text_crowds_no_other_out(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question("team won team", question="who?")  # [CLS] who ? [SEP] team won team [SEP]
    windows = build_windows([example], tokenizer, training=False)
    logits = logits_of(windows, (0, 4, 9.0), (0, 5, 5.0), (0, 6, 8.0))
    result = decode_answers(windows, logits, logits, [example], n_best=2, max_answer_length=1)[0]
    assert [(c.text, c.start, c.logit) for c in result.candidates if c.text] == [("team", 0, 18.0), ("won", 5, 10.0)]


def test_a_context_without_tokens_has_no_answer(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    for threshold in (None, 0.0, -5.0):
        result = decode_one(tokenizer, make_question("\u200b"), [], [], threshold)
        assert (result.best.text, result.best.score, result.span) == ("", 1.0, None)


def test_bad_options_and_logits(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    example = make_question("won")
    windows = build_windows([example], tokenizer, training=False)
    zeros = logits_of(windows)
    for options in ({"n_best": 0}, {"max_answer_length": 0}):
        with pytest.raises(InputError, match="at least 1"):
            decode_answers(windows, zeros, zeros, [example], **options)
    for value in (np.nan, np.inf):
        with pytest.raises(InputError, match="not numbers"):
            decode_answers(windows, zeros, zeros + np.float32(value), [example])
    with pytest.raises(ValueError, match="shape"):
        decode_answers(windows, zeros[1:], zeros, [example])
