"""The Treebank's words, beside NLTK's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize.destructive import NLTKWordTokenizer

from bertune.tasks.squad.treebank import treebank_words

PIECES = st.sampled_from(
    [*"abcNS .,:;!?'\"`()[]{}<>*%&$@#-…«»“”‘’„\u2013\u2014\n\t0129", "can", "not", "gonna", "'tis", "'ll", "n't", "''",
     "``", "..", "--", "don't", "O'Neill's", "wanna ", "d'ye", "3.5", "1,000", "it's", " 'twas", "é", "Straße"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_any_text_is_cut_as_nltk_cuts_it(text: str) -> None:
    assert treebank_words(text) == NLTKWordTokenizer().tokenize(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("They'll cost $3.88 (3,36 euros).", ["They", "'ll", "cost", "$", "3.88", "(", "3,36", "euros", ")", "."]),
        ('"cannot" gonna', ["``", "can", "not", "''", "gon", "na"]),
        ("NBA", ["NBA"]),
        ("", []),
    ],
)
def test_by_hand(text: str, words: list[str]) -> None:
    assert treebank_words(text) == words
