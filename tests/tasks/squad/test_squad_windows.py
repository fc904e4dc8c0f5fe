"""Windows: nothing of a context is lost, and answers come back character for character."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bertune.errors import InputError
from bertune.features import Ragged
from bertune.tasks.squad import windows as module
from bertune.tasks.squad.reading import Answer, QuestionExample, read_questions
from bertune.tasks.squad.windows import Windows, build_windows
from bertune.tokenization.special_tokens import SpecialTokens
from bertune.tokenization.tokenizer import Tokenizer

MakeQuestion = Callable[..., QuestionExample]
UNITS = [
    "the",
    "team",
    "won",
    "new york",
    "played",
    "x9",
    "...",
    "3.5%",
    "é",
    "İ",
    "한",
    "水",
    "枪",
    "東京",
    "はひ",
    "ー",
    "☃☃",
    "😀",
]


def target(windows: Windows, window: int, context: str) -> str | None:
    """The text at the window's start and end position; None at [CLS]."""
    start, end = int(windows.start_position[window]), int(windows.end_position[window])
    if start == 0:
        assert end == 0
        return None
    begin = int(windows.context_start[window])
    return context[windows.char_start[window][start - begin] : windows.char_end[window][end - begin]]


def test_layout(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    context = "The team won. Who played in New York"
    windows = build_windows(
        [make_question(context, "York")], tokenizer, training=True, max_seq_length=10, doc_stride=3, max_query_length=2
    )
    asked = tokenizer.encode(["who won"])[0].tolist()  # the third token of "who won?" is cut off
    pieces = tokenizer.encode([context])[0].tolist()
    assert len(pieces) == 10
    rows = [pieces[0:5], pieces[3:8], pieces[6:10]]
    cls, sep = tokenizer.special.cls, tokenizer.special.sep
    assert [windows.input_ids[w].tolist() for w in range(3)] == [[cls, *asked, sep, *row, sep] for row in rows]
    assert [windows.segment_ids[w].tolist() for w in range(3)] == [[0] * 4 + [1] * (len(row) + 1) for row in rows]
    assert windows.context_start.tolist() == [4, 4, 4]
    assert windows.example_index.tolist() == [0, 0, 0]
    assert windows.max_context.values.tolist() == [1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1]
    assert windows.start_position.tolist() == [0, 0, 7]
    assert windows.end_position.tolist() == [0, 0, 7]
    assert target(windows, 2, context) == "York"
    assert (windows.questions_cut, windows.unaligned, len(windows)) == (1, (), 3)


@pytest.mark.parametrize(
    ("context", "answer"),
    [
        ("玩家以水枪打敌人。水枪", "水枪"),
        ("东京(東京)は日本", "東京"),
        ("ここはひらがな", "ひらがな"),  # a part of an unspaced word that the vocabulary does not know whole
        ("won 3.5% in Paris!", "3.5%"),
        ("the 😀 team won", "team"),
        ("ΟΔΟΣ The Team", "The"),
        ("é\u0301e team", "team"),
    ],
)
def test_exact_characters(tokenizer: Tokenizer, make_question: MakeQuestion, context: str, answer: str) -> None:
    windows = build_windows([make_question(context, answer)], tokenizer, training=True, max_query_length=8)
    expected = context if answer == "ひらがな" else answer  # "ここはひらがな" is one word and so one [UNK]
    assert target(windows, 0, context) == expected


def test_a_syllable_in_several_tokens(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    windows = build_windows([make_question("the 한 team", "한")], tokenizer, training=True)
    assert windows.end_position[0] - windows.start_position[0] == 2
    assert target(windows, 0, "the 한 team") == "한"


def naive_windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    spans, start = [], 0
    while True:
        length = min(tokens - start, room)
        spans.append((start, length))
        if start + length == tokens:
            return spans
        start += min(length, stride)


def naive_max_context(spans: Sequence[tuple[int, int]], index: int, token: int) -> bool:
    scores = [
        min(token - start, start + length - 1 - token) + 0.01 * length if start <= token < start + length else -1.0
        for start, length in spans
    ]
    return scores.index(max(scores)) == index


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[tuple[str, int, int]], int, int, int]:
    """Contexts with a first and last unit of an answer, and three lengths."""
    examples = []
    for _ in range(draw(st.integers(1, 3))):
        units = draw(st.lists(st.sampled_from(UNITS), min_size=1, max_size=25))
        gaps = draw(st.lists(st.sampled_from(["", " ", "\n", "\u3000"]), min_size=len(units), max_size=len(units)))
        context = "".join(gap + unit for gap, unit in zip(gaps, units, strict=True))
        first = draw(st.integers(0, len(units) - 1))
        last = draw(st.integers(first, len(units) - 1))
        ends = np.cumsum([len(gap) + len(unit) for gap, unit in zip(gaps, units, strict=True)])
        examples.append((context, int(ends[first]) - len(units[first]), int(ends[last])))
    query = draw(st.integers(1, 6))
    return examples, query + 3 + draw(st.integers(1, 12)), draw(st.integers(1, 14)), query


@given(case=cases())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_token_is_lost_and_every_answer_comes_back(
    tokenizer: Tokenizer, case: tuple[list[tuple[str, int, int]], int, int, int]
) -> None:
    contexts, longest, stride, query = case
    examples = [
        QuestionExample(str(i), "who won in paris?", text, (Answer(text[start:end], start),), False, None, "")
        for i, (text, start, end) in enumerate(contexts)
    ]
    ids, starts, ends = tokenizer.encode_with_offsets([text for text, _, _ in contexts])
    windows = build_windows(
        examples, tokenizer, training=True, max_seq_length=longest, doc_stride=stride, max_query_length=query
    )
    assert windows.input_ids.lengths.max() <= longest
    assert windows.unaligned == ()
    asked = min(query, 5)
    for number, (context, begin, end) in enumerate(contexts):
        mine = np.flatnonzero(windows.example_index == number)
        spans = naive_windows(len(ids[number]), longest - 3 - asked, stride)
        assert len(mine) == len(spans)
        first = int(np.flatnonzero(ends[number] > begin)[0])
        last = int(np.flatnonzero(starts[number] < end)[-1])
        for index, (window, (start, length)) in enumerate(zip(mine.tolist(), spans, strict=True)):
            where = slice(start, start + length)
            at = int(windows.context_start[window])
            assert windows.input_ids[window][at:-1].tolist() == ids[number][where].tolist()
            assert windows.char_start[window].tolist() == starts[number][where].tolist()
            assert windows.char_end[window].tolist() == ends[number][where].tolist()
            assert windows.max_context[window].tolist() == [
                naive_max_context(spans, index, token) for token in range(start, start + length)
            ]
            inside = start <= first and last < start + length
            got = target(windows, window, context)
            assert (got is not None) == inside
            # Units that stand together may share one [UNK], which is wider than the answer; never narrower.
            aligned = int(starts[number][first]) == begin and int(ends[number][last]) == end
            assert got is None or (got == context[begin:end] if aligned else context[begin:end] in got)
        covered = {token for start, length in spans for token in range(start, start + length)}
        assert covered == set(range(len(ids[number])))
        assert sum(int(windows.max_context[window].sum()) for window in mine.tolist()) == len(ids[number])


def test_answers_that_match_no_token(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    examples = [
        make_question("the team won", "team", name="good"),
        make_question("the team won", "lions", name="absent"),  # its start is -1
        QuestionExample("blank", "who?", "the\u200b\u200bteam", (Answer("\u200b", 3),), False, None, ""),
        make_question("the team won", name="impossible"),
    ]
    trained = build_windows(examples, tokenizer, training=True)
    assert trained.unaligned == ("absent", "blank")
    assert trained.example_index.tolist() == [0, 3]
    judged = build_windows(examples, tokenizer, training=False)
    assert judged.unaligned == ("absent", "blank")
    assert judged.example_index.tolist() == [0, 1, 2, 3]
    assert (judged.start_position > 0).tolist() == [True, False, False, False]


def test_the_first_answer_that_is_there_is_the_target(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    windows = build_windows([make_question("the team won", "lions", "won", "team")], tokenizer, training=True)
    assert target(windows, 0, "the team won") == "won"


def test_a_context_without_tokens_still_gets_a_window(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    windows = build_windows([make_question("\u200b"), make_question("won")], tokenizer, training=False)
    assert windows.example_index.tolist() == [0, 1]
    assert windows.char_start.lengths.tolist() == [0, 1]
    assert windows.input_ids[0].tolist()[-2:] == [tokenizer.special.sep] * 2


def test_no_questions(tokenizer: Tokenizer) -> None:
    assert len(build_windows([], tokenizer, training=True)) == 0


class CountingTokenizer:
    """Remembers what it was given."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.special: SpecialTokens = inner.special
        self.contexts: list[str] = []

    def encode(self, texts: Sequence[str]) -> Ragged:
        return self.inner.encode(texts)

    def encode_with_offsets(self, texts: Sequence[str]) -> tuple[Ragged, Ragged, Ragged]:
        self.contexts.extend(texts)
        return self.inner.encode_with_offsets(texts)


def test_a_shared_context_is_tokenized_once(tokenizer: Tokenizer, make_question: MakeQuestion) -> None:
    counting = CountingTokenizer(tokenizer)
    examples = [make_question("the team won", "team"), make_question("paris", "paris"), make_question("the team won")]
    windows = build_windows(examples, counting, training=True)  # type: ignore[arg-type]
    assert counting.contexts == ["the team won", "paris"]
    assert windows.char_start.lengths.tolist() == [3, 1, 3]


def test_chunks_make_no_difference(
    tokenizer: Tokenizer, make_question: MakeQuestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [
        make_question(f"{'水枪打敌人' * n} はひ won {'日本' * 9}", "won" if n % 3 else "lions", name=str(n))
        for n in range(9)
    ]
    lengths: dict[str, Any] = {"max_seq_length": 20, "doc_stride": 5, "max_query_length": 6}
    for training in (True, False):
        monkeypatch.setattr(module, "EXAMPLES_AT_A_TIME", 4096)
        whole = build_windows(examples, tokenizer, training=training, **lengths)
        monkeypatch.setattr(module, "EXAMPLES_AT_A_TIME", 2)
        parts = build_windows(examples, tokenizer, training=training, **lengths)
        assert len(whole) > 9
        for name in Windows.__slots__:
            one, other = getattr(whole, name), getattr(parts, name)
            if isinstance(one, Ragged):
                np.testing.assert_array_equal(one.values, other.values)
                np.testing.assert_array_equal(one.offsets, other.offsets)
            else:
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("lengths", "told"),
    [((67, 128, 64), "max_seq_length is 67.*at least 68"), ((384, 0, 64), "doc_stride is 0"), ((384, 9, 0), "is 0")],
)
def test_lengths_that_leave_no_room(tokenizer: Tokenizer, lengths: tuple[int, int, int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        build_windows(
            [],
            tokenizer,
            training=True,
            max_seq_length=lengths[0],
            doc_stride=lengths[1],
            max_query_length=lengths[2],
        )


@pytest.mark.parametrize(
    ("file", "widened"),
    [
        # The only answers that end inside a word piece; the second is a slip of the data.
        ("data/squad/train-v2.0.json", {"Japan": "Japanese"}),
        ("data/squad/xquad.en.json", {"7,000,000 square kilometres (2,70": "7,000,000 square kilometres (2,700"}),
    ],
)
def test_real_answers_come_back(shared: Path, google_tokenizer: Tokenizer, file: str, widened: dict[str, str]) -> None:
    examples, _ = read_questions(shared / file, labelled=True)
    windows = build_windows(
        examples, google_tokenizer, training=True, max_seq_length=128, doc_stride=64, max_query_length=24
    )
    assert windows.unaligned == ()
    found = {}
    for window in range(len(windows)):
        example = examples[int(windows.example_index[window])]
        text = target(windows, window, example.context)
        if text is not None:
            found[example.id] = (example.answers[0].text, text)
    assert {gold: text for gold, text in found.values() if gold != text} == widened
    answerable = sum(not example.is_impossible for example in examples)
    assert answerable - len(found) <= 3  # answers longer than a window's overlap may lie in none
