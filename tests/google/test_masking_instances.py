"""Instances record for record as google-research/bert wrote them."""

from pathlib import Path

import numpy as np
import pytest

from bertune.google.masking_instances import InstanceOptions, google_instances, google_record
from bertune.tensorflow_formats.tfrecord import read_records
from bertune.tokenization.tokenizer import Tokenizer


@pytest.mark.parametrize(("name", "whole"), [("instances", False), ("instances.wwm", True)])
def test_instances_equal_the_originals(name: str, whole: bool, shared: Path) -> None:
    vocab_file = shared / "golden/tiny/vocab.txt"
    tokenizer = Tokenizer.from_vocab(vocab_file)
    documents: list[list[list[str]]] = [[]]
    for line in (shared / "golden/pretraining/corpus.txt").read_text(encoding="utf-8").split("\n"):
        if line.strip():
            documents[-1].append(tokenizer.tokenize(line))
        else:
            documents.append([])
    vocabulary = [line.strip() for line in vocab_file.read_text(encoding="utf-8").split("\n")][:-1]
    ids = {token: index for index, token in enumerate(vocabulary)}
    options = InstanceOptions(
        do_whole_word_mask=whole, max_seq_length=64, max_predictions_per_seq=10, dupe_factor=1, random_seed=12345
    )
    made = [google_record(instance, ids, options) for instance in google_instances(documents, vocabulary, options)]
    expected = list(read_records(shared / f"golden/pretraining/{name}.tf_record"))
    assert len(made) == len(expected) > 300
    for number, (ours, theirs) in enumerate(zip(made, expected, strict=True)):
        assert ours.keys() == theirs.keys()
        for key, values in theirs.items():
            np.testing.assert_array_equal(ours[key], values, err_msg=f"record {number}, {key}")
            assert ours[key].dtype == values.dtype
