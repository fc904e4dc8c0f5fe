"""Shared heads: shapes, and what a Hugging Face folder says of them."""

import dataclasses
from pathlib import Path

import pytest
import torch

from bertune.checkpoints.names import Rename
from bertune.conformance import tiny_encoder
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.shared.heads import pooled_head, token_head
from bertune.tasks.shared.huggingface import is_for, label_settings, labels_of, linear_in_folder


@pytest.mark.parametrize("layers", ["last", "mix", "last4"])
def test_shapes(layers: str, tmp_path: Path) -> None:
    """Outputs for every sequence or token, in float32 whatever the encoder computes in."""
    config = tiny_encoder(tmp_path)[0].config
    kept = tuple(torch.randn(7, 16, dtype=torch.bfloat16) for _ in range(5))
    output = EncoderOutput(kept[-1], torch.randn(2, 16, dtype=torch.bfloat16), kept)
    layout = Layout.packed([3, 4])
    for head, rows in ((pooled_head(config, 3, layers), 2), (token_head(config, 3, layers), 7)):
        logits = head(output, layout)
        assert (tuple(logits.shape), logits.dtype) == ((rows, 3), torch.float32)


def test_a_folder_names_a_head_on_several_layers_apart() -> None:
    last = linear_in_folder("ForQuestionAnswering", "last", tensor="qa_outputs")
    assert last.architecture == "ForQuestionAnswering"
    assert last.names[0] == Rename("weight", ("qa_outputs.weight",))
    mix = linear_in_folder("ForQuestionAnswering", "mix", tensor="qa_outputs")
    assert mix.architecture == "Model"
    assert [name.theirs[0] for name in mix.names] == ["head.weight", "head.bias", "head.mix.weights", "head.mix.scale"]


def test_labels_are_read_back_in_their_order() -> None:
    labels = tuple(f"label {i}" for i in range(11))
    settings = label_settings(labels, "single_label_classification")
    assert labels_of(settings) == labels
    assert labels_of({}) == labels_of(label_settings(["LABEL_0", "LABEL_1"])) == ()


def test_too_few_layers(tmp_path: Path) -> None:
    config = dataclasses.replace(tiny_encoder(tmp_path)[0].config, num_hidden_layers=3)
    with pytest.raises(InputError, match="--layers last4: the encoder has only 3 layers"):
        pooled_head(config, 2, "last4")


def test_what_a_folder_says_of_its_head() -> None:
    mix = linear_in_folder("ForQuestionAnswering", "mix", tensor="qa_outputs").settings
    assert is_for({"architectures": ["BertModel"], **mix}, "ForQuestionAnswering")
    assert not is_for({"architectures": ["BertModel"], **mix}, "ForMultipleChoice", default=True)
    assert is_for({"architectures": ["RobertaForTokenClassification"]}, "ForTokenClassification")
    assert not is_for({"architectures": ["RobertaForTokenClassification"]}, "ForSequenceClassification", default=True)
    for silent in ({}, {"architectures": ["BertModel"]}, {"architectures": None}):
        assert is_for(silent, "ForSequenceClassification", default=True)
        assert not is_for(silent, "ForSequenceClassification")
