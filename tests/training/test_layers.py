"""Which layers learn, and how fast."""

from pathlib import Path
from typing import Any

import pytest
import torch

import bertune
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder, Layer
from bertune.errors import InputError
from bertune.options import AdamWOptions
from bertune.training.layers import layer_rates, prepare_layers
from bertune.training.loop.optimizer import AdamW
from bertune.training.train import train
from tests.tiny import opinions, weights, write_encoder, write_rows


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Trains a tiny encoder; the changed tensors' names by their Hugging Face layers."""
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))

    def start(**more: Any) -> set[str]:
        train(
            task="text-classification", encoder=tmp_path / "encoder", train=data, output=tmp_path / "model",
            max_seq_length=16, batch_size=8, epochs=1, device="cpu", **more,
        )  # fmt: skip
        before = {f"bert.{name}": value for name, value in weights(tmp_path / "encoder").items()}
        after = weights(tmp_path / "model")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        return {".".join(name.split(".")[1:4]) if ".layer." in name else name.split(".")[1] for name in changed}

    return start


def test_everything_learns(run: Any) -> None:
    assert run() == {"embeddings", "encoder.layer.0", "encoder.layer.1", "pooler"}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_frozen_layers_are_saved_bit_for_bit(run: Any, precision: str) -> None:
    assert run(frozen_layers=1, precision=precision) == {"encoder.layer.1", "pooler"}


def test_frozen_embeddings_alone(run: Any) -> None:
    assert run(frozen_layers=0) == {"encoder.layer.0", "encoder.layer.1", "pooler"}


def test_reinitialized_layers_are_new() -> None:
    encoder = Encoder(
        EncoderConfig(vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=8)
    )
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.fill_(7.0)
    prepare_layers(encoder, frozen=None, reinitialized=1)
    sevens = {name for name, value in encoder.named_parameters() if bool((value == 7).all())}
    assert {name.split(".")[1] for name in sevens if name.startswith("layers.")} == {"0", "1"}
    assert not any(name.startswith("pooler") for name in sevens)
    top = encoder.layers[2]
    assert isinstance(top, Layer)
    assert top.attention_norm.weight.tolist() == [1.0] * 8
    assert top.feed_forward.up.bias.tolist() == [0.0] * 8
    assert top.feed_forward.up.weight.abs().max() <= 0.04 + 1e-6


def test_rates_fall_from_the_top() -> None:
    rate = layer_rates(2, 0.5)
    names = ["head.weight", "encoder.pooler.weight", "encoder.layers.1.attention.qkv.weight"]
    names += ["encoder.layers.0.feed_forward.up.bias", "encoder.embeddings.word.weight"]
    assert [rate(name) for name in names] == [1.0, 1.0, 0.5, 0.25, 0.125]


def test_a_weights_step_is_its_rates() -> None:
    parameters = [(name, torch.nn.Parameter(torch.ones(4, 4))) for name in ("fast", "slow")]
    optimizer = AdamW(parameters, AdamWOptions(weight_decay=0.0), {"fast": 1.0, "slow": 0.25}.__getitem__)
    for _, parameter in parameters:
        parameter.grad = torch.ones(4, 4)
    optimizer.step(0.1)
    fast, slow = (1 - parameter[0, 0].item() for _, parameter in parameters)
    assert slow == pytest.approx(fast / 4, rel=1e-5)
    assert fast == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"frozen_layers": 3}, "frozen_layers 3: the encoder has 2 layers"),
        ({"reinitialize_layers": 3}, "reinitialize_layers 3: the encoder has 2 layers"),
        ({"frozen_layers": 2, "reinitialize_layers": 1}, "of 2 layers some are both"),
        ({"frozen_layers": -1}, "frozen_layers -1: must be at least 0"),
        ({"layer_decay": 0.0}, "layer_decay 0.0: must be above 0"),
    ],
)
def test_impossible_options(run: Any, tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        run(**options)
    assert not (tmp_path / "model").exists()


def test_a_run_with_all_of_it_gives_a_model(run: Any, tmp_path: Path) -> None:
    run(frozen_layers=1, reinitialize_layers=1, layer_decay=0.9)
    before, after = weights(tmp_path / "encoder"), weights(tmp_path / "model")
    changed = {name for name in before if not torch.equal(before[name], after[f"bert.{name}"])}
    assert {name.split(".")[2] for name in changed if name.startswith("encoder")} == {"1"}
    assert not any(name.startswith("embeddings") for name in changed)
    answer = bertune.load(tmp_path / "model").predict(["a good film"])[0]
    assert answer["score"] == answer["scores"][answer["label"]] == max(answer["scores"].values())
