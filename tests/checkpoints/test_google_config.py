"""`bert_config.json` there and back."""

from pathlib import Path

import pytest

from bertune.checkpoints.google_config import (
    config_from_bert_json,
    config_to_bert_json,
    read_bert_config,
)
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

TINY = EncoderConfig(
    vocab_size=11,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    hidden_act="gelu_tanh",
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.25,
    max_position_embeddings=10,
    type_vocab_size=3,
    initializer_range=0.01,
)


class TestConfig:
    def test_defaults_of_the_original(self) -> None:
        found = config_from_bert_json({"vocab_size": 5, "pooler_type": "first_token_transform"}, "x")
        assert found == EncoderConfig(vocab_size=5, hidden_act="gelu_tanh", type_vocab_size=16)

    def test_there_and_back(self) -> None:
        assert config_from_bert_json(config_to_bert_json(TINY), "x") == TINY
        for activation in ("relu", "tanh", "linear"):
            config = EncoderConfig(vocab_size=5, hidden_act=activation)
            assert config_from_bert_json(config_to_bert_json(config), "x") == config
        assert config_to_bert_json(EncoderConfig(vocab_size=5, hidden_act="gelu"))["hidden_act"] == "gelu"

    @pytest.mark.parametrize(
        ("name", "ours"), [(None, "linear"), ("", "linear"), ("GELU", "gelu_tanh"), ("relu", "relu")]
    )
    def test_activations(self, name: object, ours: str) -> None:
        assert config_from_bert_json({"vocab_size": 5, "hidden_act": name}, "x").hidden_act == ours

    def test_all_problems_with_file_and_key(self) -> None:
        data = {"hidden_size": "768", "num_hidden_layers": 2.5, "hidden_act": "swish", "hidden_dropout_prob": 1}
        with pytest.raises(InputError) as caught:
            config_from_bert_json(data, "a/bert_config.json")
        message = str(caught.value)
        for part in (
            "vocab_size is missing",
            "hidden_size is '768'",
            "num_hidden_layers is 2.5",
            "hidden_act is 'swish'",
        ):
            assert f"a/bert_config.json: {part}" in message
        assert "hidden_dropout_prob is 1, but must be a number in [0, 1)" in message
        with pytest.raises(InputError, match="x: hidden_size 10 is not divisible by num_attention_heads 3"):
            config_from_bert_json({"vocab_size": 1, "hidden_size": 10, "num_attention_heads": 3}, "x")

    @pytest.mark.parametrize("text", ["{", "[1]", "\x00", '{"vocab_size": NaN}', "[" * 100_000])
    def test_no_json_object(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "bert_config.json").write_text(text)
        with pytest.raises(InputError, match=r"bert_config\.json: "):
            read_bert_config(tmp_path / "bert_config.json")
