"""Features of questions exactly as google-research/bert's run_squad.py makes them.

Contexts are split into words at white space, and every word is tokenized by itself; answers are tightened to the
tokens of their text. For parity with files, checkpoints and scripts of that time; `windows` is the modern way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError, Problems
from bertune.features import IntArray, Ragged
from bertune.tasks.squad.reading import QuestionExample
from bertune.tasks.squad.windows import check_lengths, cut_questions, lay_out, positions, ranges

if TYPE_CHECKING:
    from bertune.tokenization.tokenizer import Tokenizer

FIRST_UNIQUE_ID = 1_000_000_000
_WORD = re.compile("[^ \t\r\n\u202f]+")  # the white space of run_squad.py, narrower than Unicode's


@dataclass(frozen=True, slots=True)
class GoogleExample:
    """A question as run_squad.py reads it.

    words: of the context.
    start_word, end_word: first and last word of the answer, -1 without one (or in white space before all words).
    """

    id: str
    question: str
    words: tuple[str, ...]
    answer_text: str
    start_word: int
    end_word: int
    is_impossible: bool


@dataclass(frozen=True, slots=True)
class GoogleFeatures:
    """Every window, in order, as columns. Shape of the flat ones: (windows,).

    unique_id: 1000000000, 1000000001, …
    example_index: index into the examples.  doc_span_index: number of the window within its question.
    input_ids, segment_ids: without padding.
    context_start: position inside the window of the first context token.
    words: index of the context word of every context token ("token_to_orig_map").
    max_context: 1 where the window shows the token best, else 0 ("token_is_max_context").
    start_position, end_position: the answer's tokens, 0 where it is not inside; all 0 when not training.
    is_impossible: 1 for windows of unanswerable questions.
    """

    unique_id: npt.NDArray[np.int64]
    example_index: IntArray
    doc_span_index: IntArray
    input_ids: Ragged
    segment_ids: Ragged
    context_start: IntArray
    words: Ragged
    max_context: Ragged
    start_position: IntArray
    end_position: IntArray
    is_impossible: IntArray

    def __len__(self) -> int:
        return len(self.unique_id)


def google_examples(
    questions: Sequence[QuestionExample], *, training: bool, version_2: bool
) -> tuple[list[GoogleExample], list[str]]:
    """Questions with their contexts as words, and the ids of those that training skips.

    Training skips a question when the words of its answer's span do not contain the answer's text. Prediction looks
    at no answers. `is_impossible` counts only with `version_2`.

    Args:
        questions: read with `strict=False`, to take files as they are.
        training: find the answers.
        version_2: SQuAD 2.0, with unanswerable questions (the flag version_2_with_negative).

    Raises:
        InputError: training with a question that has not exactly one answer, or whose answer_start lies outside.
    """
    split: dict[str, tuple[tuple[str, ...], list[int]]] = {}
    examples: list[GoogleExample] = []
    skipped: list[str] = []
    problems = Problems()
    for question in questions:
        if question.context not in split:
            split[question.context] = _split_words(question.context)
        words, word_of = split[question.context]
        impossible = training and version_2 and question.is_impossible
        text, start, end = "", -1, -1
        if training and not impossible:
            try:
                text, start, end = _answer_words(question, word_of, version_2)
            except InputError as error:
                problems.add(str(error))
                continue
            # str.split knows more white space than the words do, so such an answer is not found; as in the original.
            if " ".join(text.split()) not in " ".join(words[start : end + 1]):
                skipped.append(question.id)
                continue
        examples.append(GoogleExample(question.id, question.question, words, text, start, end, impossible))
    problems.raise_if_any()
    return examples, skipped


def google_features(
    examples: Sequence[GoogleExample],
    tokenizer: "Tokenizer",
    *,
    training: bool,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    max_query_length: int = 64,
) -> GoogleFeatures:
    """Windows over every context. A context without words gets none.

    Args:
        examples: from `google_examples`; their order is kept (run_squad.py shuffles training questions beforehand).
        tokenizer: Google's word pieces.
        training: fill in the positions.
        max_seq_length: tokens of a window, special ones counted.
        doc_stride: tokens between the starts of two windows.
        max_query_length: tokens of the question that are kept.

    Raises:
        InputError: lengths that leave no room.
    """
    check_lengths(max_seq_length, doc_stride, max_query_length, tokenizer.special.separators)
    distinct = {id(example.words): example.words for example in examples}  # `google_examples` shares them
    numbers = {key: number for number, key in enumerate(distinct)}
    context_of = np.array([numbers[id(example.words)] for example in examples], np.int64)
    contexts, words = _tokenize_words(list(distinct.values()), tokenizer)
    layout = lay_out(
        cut_questions(tokenizer.encode([example.question for example in examples]), max_query_length),
        contexts,
        context_of,
        tokenizer.special,
        (max_seq_length, doc_stride),
        always=False,
    )
    targets = np.full((len(examples), 2), -1, np.int64)
    if training:
        answers = tokenizer.encode([example.answer_text for example in examples])
        for index, example in enumerate(examples):
            if not example.is_impossible:
                number = int(context_of[index])
                targets[index] = _answer_tokens(example, contexts[number], words[number], answers[index])
    start, end = positions(layout, targets)
    windows = len(layout.example_index)
    counts = np.bincount(layout.example_index, minlength=len(examples)).astype(np.int64)
    impossible = np.array([example.is_impossible for example in examples], np.int32)
    return GoogleFeatures(
        unique_id=FIRST_UNIQUE_ID + np.arange(windows, dtype=np.int64),
        example_index=layout.example_index,
        doc_span_index=ranges(np.zeros_like(counts), counts).astype(np.int32),
        input_ids=layout.input_ids,
        segment_ids=layout.segment_ids,
        context_start=layout.context_start,
        words=Ragged.from_lengths(words.values[layout.source], layout.length),
        max_context=layout.max_context,
        start_position=start,
        end_position=end,
        is_impossible=impossible[layout.example_index],
    )


def _split_words(context: str) -> tuple[tuple[str, ...], list[int]]:
    """The words, and for every character its word; white space belongs to the word before, at the beginning to -1."""
    words: list[str] = []
    word_of: list[int] = []
    for match in _WORD.finditer(context):
        word_of.extend([len(words) - 1] * (match.start() - len(word_of)))
        word_of.extend([len(words)] * len(match.group()))
        words.append(match.group())
    word_of.extend([len(words) - 1] * (len(context) - len(word_of)))
    return tuple(words), word_of


def _answer_words(question: QuestionExample, word_of: Sequence[int], version_2: bool) -> tuple[str, int, int]:
    """Text, first and last word of the only answer."""
    name = f"{question.where} (id {question.id!r})"
    if len(question.answers) != 1:
        hint = "" if version_2 or question.answers else "; is this SQuAD 2.0, wanting version_2_with_negative?"
        raise InputError(f"{name} has {len(question.answers)} answers; training needs exactly one a question{hint}")
    answer = question.answers[0]
    last = answer.start + len(answer.text) - 1
    if not 0 <= answer.start < len(word_of) or last >= len(word_of):
        raise InputError(
            f"{name}: answer_start {answer.start} with {answer.text[:60]!r} reaches outside the context of "
            f"{len(word_of)} characters"
        )
    return answer.text, word_of[answer.start], word_of[last]


def _tokenize_words(contexts: Sequence[tuple[str, ...]], tokenizer: "Tokenizer") -> tuple[Ragged, Ragged]:
    """Tokens of every context, word by word, and the word of each token. Every distinct word is tokenized once."""
    numbers: dict[str, int] = {}
    flat = np.array([numbers.setdefault(word, len(numbers)) for words in contexts for word in words], np.int64)
    lengths = np.array([len(words) for words in contexts], np.int64)
    pieces = tokenizer.encode(list(numbers))
    tokens = pieces.take(flat)
    places = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    offsets = tokens.offsets[places]
    word = np.repeat(ranges(np.zeros_like(lengths), lengths), tokens.lengths)
    return Ragged(tokens.values, offsets), Ragged(word.astype(np.int32), offsets)


def _answer_tokens(example: GoogleExample, tokens: IntArray, words: IntArray, answer: IntArray) -> tuple[int, int]:
    """First and last context token of the answer: its own tokens where they stand in its words, else those words'.

    Where they stand several times, the first counts. (run_squad.py joins tokens by spaces and compares texts; tokens
    hold no spaces, so comparing ids is the same.)
    """
    count = len(example.words)
    first = int(np.searchsorted(words, example.start_word))
    last = (
        int(np.searchsorted(words, example.end_word, side="right")) - 1
        if example.end_word < count - 1
        else len(words) - 1
    )
    size = len(answer)
    for begin in range(first, last + 2 - size if size else first):
        if np.array_equal(tokens[begin : begin + size], answer):
            return begin, begin + size - 1
    return first, last
