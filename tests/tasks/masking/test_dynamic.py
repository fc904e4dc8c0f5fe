"""Masks: how many, of which kinds, whole words, and what they depend on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.features import IGNORED, Ragged
from bertune.tasks.masking.dynamic import Masking, mask

CLS, SEP, MASK, FIRST, VOCABULARY = 2, 3, 4, 5, 50
RULES = Masking(MASK, VOCABULARY, (0, CLS, SEP, MASK))
WHOLE = Masking(MASK, VOCABULARY, (0, CLS, SEP, MASK), whole_words=True)

token = st.integers(FIRST, VOCABULARY - 1)
body = st.lists(st.tuples(token, st.booleans()).map(lambda t: ~t[0] if t[1] else t[0]), min_size=1, max_size=60)
sequences = st.lists(body.map(lambda tokens: [CLS, *tokens, SEP]), min_size=1, max_size=6).map(Ragged.from_lists)


@settings(max_examples=60, deadline=None)
@given(sequences, st.booleans(), st.integers(0, 2**31), st.integers(0, 1000))
def test_masks_keep_to_their_number_and_leave_the_rest(taken: Ragged, whole: bool, seed: int, epoch: int) -> None:
    rows = np.arange(len(taken)) * 7
    ids, labels = mask(taken, WHOLE if whole else RULES, seed=seed, epoch=epoch, rows=rows)
    true = np.where(taken.values < 0, ~taken.values, taken.values)
    chosen = labels != IGNORED
    assert (labels[chosen] == true[chosen]).all()
    assert (ids[~chosen] == true[~chosen]).all()
    assert not np.isin(true[chosen], (CLS, SEP)).any()
    for i, length in enumerate(taken.lengths):
        inside = slice(taken.offsets[i], taken.offsets[i + 1])
        wanted = max(1, round(length * 0.15))
        number = int(chosen[inside].sum())
        assert 1 <= number <= wanted
        if not whole:
            assert number == min(wanted, length - 2)
        else:
            words = np.cumsum((taken.values[inside] >= 0) | (np.arange(length) == 1))
            split = [w for w in np.unique(words) if 0 < chosen[inside][words == w].sum() < (words == w).sum()]
            assert not split or (len(split) == 1 and number == wanted)  # only a single word that is too long is cut


@settings(max_examples=20, deadline=None)
@given(sequences, st.integers(0, 1000))
def test_a_sequences_masks_do_not_depend_on_its_batch(taken: Ragged, seed: int) -> None:
    rows = np.arange(len(taken))
    together = mask(taken, WHOLE, seed=seed, epoch=3, rows=rows)
    for i in rows:
        alone = mask(taken.take(np.array([i])), WHOLE, seed=seed, epoch=3, rows=np.array([i]))
        inside = slice(taken.offsets[i], taken.offsets[i + 1])
        for all_rows, one_row in zip(together, alone, strict=True):
            np.testing.assert_array_equal(all_rows[inside], one_row)


def test_kinds_come_in_eighty_ten_ten_and_change_every_epoch() -> None:
    chance = np.random.default_rng(0)
    taken = Ragged.from_lists([[CLS, *chance.integers(FIRST, VOCABULARY, 126), SEP] for _ in range(400)])
    ids, labels = mask(taken, RULES, seed=1, epoch=0, rows=np.arange(400))
    chosen = labels != IGNORED
    assert chosen.sum() == 400 * 19
    shares = [(ids[chosen] == MASK).mean(), (ids[chosen] == labels[chosen]).mean()]
    np.testing.assert_allclose(shares, [0.8 + 0.1 / VOCABULARY, 0.1 + 0.1 / VOCABULARY], atol=0.015)
    drawn = ids[chosen & (ids != MASK) & (ids != labels)]
    assert len(np.unique(drawn)) > VOCABULARY - 5  # uniform over the whole vocabulary
    again = mask(taken, RULES, seed=1, epoch=0, rows=np.arange(400))[0]
    np.testing.assert_array_equal(ids, again)
    for seed, epoch in ((1, 1), (2, 0)):
        other = mask(taken, RULES, seed=seed, epoch=epoch, rows=np.arange(400))[1] != IGNORED
        assert 0.1 < (other & chosen).sum() / chosen.sum() < 0.2  # as two independent draws overlap
