"""The layer that a head ends in is found by what it does, whatever it is called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.features import Features
from bertune.model import final_layer as module
from bertune.model.calibration import folded
from bertune.model.final_layer import final_layer
from bertune.network import Network
from tests.export.test_families_and_heads import features_of, network_of


class Deep(nn.Module):
    """Two layers of the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.drop = nn.Linear(16, 16), nn.Dropout(0.5)
        self.stack = nn.Sequential(nn.Tanh(), nn.Linear(16, 16))

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        result: Tensor = self.stack(self.drop(self.inner(output.pooled_output)))
        return result


class Plain(nn.Linear):
    """Is the layer itself."""

    def __init__(self) -> None:
        super().__init__(16, 3, bias=False)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # type: ignore[override]
        return super().forward(output.pooled_output)


class Shifted(nn.Module):
    """Thresholds that a temperature of the layer alone would not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.thresholds = nn.Linear(16, 3), nn.Parameter(torch.ones(3))

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        result: Tensor = self.layer(output.pooled_output) - self.thresholds
        return result


class Positive(nn.Module):
    """Scales with its first layer by one number, but not by one for each output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Linear(16, 3), nn.Parameter(torch.randn(3, 3))

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        return torch.relu(self.first(output.pooled_output)) @ self.weight


class Cosine(nn.Module):
    """Divides its weights by their length."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3, bias=False)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        return nn.functional.linear(output.pooled_output, nn.functional.normalize(self.layer.weight))


@pytest.fixture(autouse=True)
def from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks count as those of a user's file."""
    monkeypatch.setattr(module, "task_file_of", lambda _: "a file")


def with_head(head: nn.Module) -> tuple[Network, Features]:
    torch.manual_seed(1)
    network = network_of("bert")
    return Network(network.encoder, head), features_of(network)


TASK: Any = None


@pytest.mark.parametrize(
    ("head", "each", "expected"),
    [
        (Deep, False, "head.stack.1"),
        (Deep, True, "head.stack.1"),
        (Plain, False, "head"),
        (Shifted, False, None),
        (Positive, False, "head.first"),
        (Positive, True, None),
        (Cosine, False, None),
        (nn.Identity, False, None),
    ],
)
def test_the_layer_is_found_by_what_it_does(head: type[nn.Module], each: bool, expected: str | None) -> None:
    if head is nn.Identity:
        head = _TakesPooled
    network, features = with_head(head())
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    assert final_layer(network, TASK, features, each=each) == expected
    assert all(one.training for one in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class _TakesPooled(nn.Module):
    """Has no layer at all."""

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        return output.pooled_output


def test_weights_folded_there_divide_the_logits(tmp_path: Path) -> None:
    network, features = with_head(Deep())
    from bertune.inference.evaluation import infer

    before = infer(network, features).logits
    temperatures = np.linspace(0.5, 3, 16)
    layer = final_layer(network, TASK, features, each=True)
    assert layer is not None
    network.load_state_dict(folded(network.state_dict(), temperatures.tolist(), layer))
    for one, other in zip(infer(network, features).logits, before, strict=True):
        np.testing.assert_allclose(one, other / temperatures, rtol=1e-4, atol=1e-6)
