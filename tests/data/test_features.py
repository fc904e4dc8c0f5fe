"""Sequences of pieces, cut as google-research/bert cuts them, and packed on one axis."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.data.pairs import join_pair
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.features import IGNORED, Features, Ragged
from bertune.network import ROUND_TOKENS, pack
from bertune.tokenization.special_tokens import SpecialTokens

CLS, SEP = 1, 2
SPECIAL = SpecialTokens(pad=0, unk=0, cls=CLS, sep=SEP, mask=None)
pieces = st.lists(st.integers(3, 99), max_size=12)


def naive(a: Sequence[int], b: Sequence[int], limit: int, between: int) -> tuple[list[int], list[int]]:
    """One token at a time from the longer side, as the original does it."""
    a, b = list(a), list(b)
    if b:
        while len(a) + len(b) > limit - 2 - between:
            (a if len(a) > len(b) else b).pop()
    else:
        a = a[: limit - 2]
    between = between if b else 1
    ids = [CLS, *a, *[SEP] * between, *([*b, SEP] if b else [])]
    return ids, [0] * (len(a) + 1 + between) + [1] * (len(ids) - len(a) - 1 - between)


@given(st.lists(st.tuples(pieces, pieces), max_size=8), st.integers(5, 30), st.sampled_from([1, 2, 3]))
def test_pairs_are_cut_like_the_original(texts: list[tuple[list[int], list[int]]], limit: int, between: int) -> None:
    first = Ragged.from_lists([a for a, _ in texts])
    second = Ragged.from_lists([b for _, b in texts])
    ids, segments, cut = join_pair(first, second, replace(SPECIAL, separators=between), limit)
    expected = [naive(a, b, limit, between) for a, b in texts]
    assert [row.tolist() for row in map(ids.__getitem__, range(len(ids)))] == [row for row, _ in expected]
    assert [row.tolist() for row in map(segments.__getitem__, range(len(ids)))] == [row for _, row in expected]
    whole = [len(a) + len(b) + (2 + between if b else 2) for a, b in texts]
    assert cut.tolist() == [length > limit for length in whole]


@given(st.lists(pieces, max_size=8), st.integers(3, 30))
def test_single_texts(texts: list[list[int]], limit: int) -> None:
    ids, segments, cut = join_pair(Ragged.from_lists(texts), None, SPECIAL, limit)
    assert [ids[i].tolist() for i in range(len(ids))] == [[CLS, *text[: limit - 2], SEP] for text in texts]
    assert not segments.values.any()
    assert segments.offsets.tolist() == ids.offsets.tolist()
    assert cut.tolist() == [len(text) > limit - 2 for text in texts]


@given(pieces, pieces, st.integers(3, 8))
def test_no_sequence_is_longer_than_the_limit(a: list[int], b: list[int], limit: int) -> None:
    ids, _, _ = join_pair(Ragged.from_lists([a]), Ragged.from_lists([b]), SPECIAL, limit)
    assert len(ids[0]) <= limit
    assert ids[0][0] == CLS
    assert ids[0][-1] == SEP


def test_a_limit_below_the_special_tokens() -> None:
    one, two = Ragged.from_lists([[5]]), replace(SPECIAL, separators=2)
    assert join_pair(one, one, two, 4)[0][0].tolist() == [CLS, SEP]
    with pytest.raises(InputError, match="--max-seq-length 3: no room"):
        join_pair(one, one, two, 3)
    assert len(join_pair(one, None, two, 3)[0][0]) == 3


lists = st.lists(st.lists(st.integers(-5, 5), max_size=5), max_size=8)


@given(lists, st.data())
def test_take(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.from_lists(rows)
    wanted = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12)) if rows else []
    taken = ragged.take(np.array(wanted, np.int64))
    assert len(taken) == len(wanted)
    assert [taken[i].tolist() for i in range(len(taken))] == [rows[i] for i in wanted]
    assert taken.values.dtype == np.int32
    assert taken.lengths.tolist() == [len(rows[i]) for i in wanted]
    with pytest.raises(IndexError):
        taken[len(wanted)]


def features(rows: Sequence[Sequence[int]], targets: dict[str, Any] | None = None) -> Features:
    """Features whose segments are 1 from the middle on."""
    ids = Ragged.from_lists(rows)
    segments = Ragged.from_lists([[int(i >= len(row) // 2) for i in range(len(row))] for row in rows])
    return Features(ids, segments, np.arange(len(rows), dtype=np.int32), targets or {})


sequences = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=40), min_size=1, max_size=9)


@given(sequences, st.randoms())
def test_pack(rows: list[list[int]], chance: Any) -> None:
    marks = Ragged.from_lists([[token * 2 for token in row] for row in rows])
    labels = np.arange(len(rows), dtype=np.int32) + 7
    order = np.array(chance.sample(range(len(rows)), chance.randint(1, len(rows))))
    batch = pack(features(rows, {"label": labels, "marks": marks}), order)
    real = sum(len(rows[i]) for i in order)
    total = len(batch.input_ids)
    assert total % ROUND_TOKENS == 0
    assert real <= total < real + ROUND_TOKENS
    assert batch.layout.real == real
    assert batch.layout.total == total == len(batch.positions) == len(batch.segment_ids)
    assert batch.rows.tolist() == order.tolist()
    assert batch.targets["label"].tolist() == [i + 7 for i in order]
    for place, (start, length) in enumerate(
        zip(batch.layout.starts.tolist(), batch.layout.lengths.tolist(), strict=True)
    ):
        row = rows[order[place]]
        part = slice(start, start + length)
        assert batch.input_ids[part].tolist() == row
        assert batch.positions[part].tolist() == list(range(len(row)))
        assert batch.segment_ids[part].tolist() == [int(i >= len(row) // 2) for i in range(len(row))]
        assert batch.targets["marks"][part].tolist() == [token * 2 for token in row]
    assert batch.targets["marks"][real:].tolist() == [IGNORED] * (total - real)
    assert not batch.input_ids[real:].any()
    assert not batch.positions[real:].any()


def test_targets_keep_their_kind() -> None:
    columns = {"score": np.array([0.5, 1.5], np.float32), "label": np.array([1, 0], np.int32), "span": np.eye(2, 2, 0)}
    batch = pack(features([[1], [2, 3]], columns), np.array([1, 0]))
    assert batch.targets["score"].tolist() == [1.5, 0.5]
    assert batch.targets["score"].dtype == torch.float32
    assert batch.targets["label"].dtype == torch.int64
    assert batch.targets["span"].shape == (2, 2)


@settings(max_examples=15, deadline=None)
@given(sequences)
def test_neither_neighbours_nor_the_tail_reach_a_sequence(rows: list[list[int]]) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    encoder = Encoder(config).eval()
    some = features(rows)
    with torch.inference_mode():
        batch = pack(some, np.arange(len(rows)))
        together = encoder(batch.input_ids, batch.segment_ids, batch.positions, batch.layout)
        start = 0
        for i, row in enumerate(rows):
            one = pack(some, np.array([i]))
            alone = encoder(one.input_ids, one.segment_ids, one.positions, one.layout)
            mine = together.sequence_output[start : start + len(row)]
            assert torch.allclose(mine, alone.sequence_output[: len(row)], atol=1e-5)
            assert torch.allclose(together.pooled_output[i], alone.pooled_output[0], atol=1e-5)
            start += len(row)


@pytest.mark.parametrize("together", [False, True])
def test_a_batch_costs_what_it_holds_however_many_sequences_there_are(together: bool) -> None:
    count = 300_000
    ids = Ragged(np.zeros(2 * count, np.int32), np.arange(0, 2 * count + 1, 2))
    index = np.arange(count, dtype=np.int32) // (2 if together else 1)
    targets: dict[str, Any] = {"label": np.zeros(count, np.int32), "tags": ids}
    features = Features(ids, ids, index, targets, together=together)
    units = np.array([5, count // 2 - 1, 7])
    pack(features, units)
    tracemalloc.start()  # numpy tells it of every array
    batch = pack(features, units)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch.rows.tolist() == ([10, 11, count - 2, count - 1, 14, 15] if together else units.tolist())
    assert most < 100_000  # bytes; one number for every sequence would be 1.2 million or more
