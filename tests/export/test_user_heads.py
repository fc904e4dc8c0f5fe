"""Heads of task files are exported by PyTorch behind the encoder's graph, or refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.export.files import save_graph
from bertune.export.network import network_model
from bertune.export.running import pytorch_rows
from bertune.inference.onnx_model import OnnxModel
from bertune.network import Network
from tests.export.test_families_and_heads import features_of, network_of


class TwoLayers(nn.Module):
    """Reads the pooled output, and says so."""

    reads = "pooled_output"

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        result: Tensor = self.second(torch.relu(self.first(output.pooled_output)))
        return result


class OfTokens(nn.Module):
    """A row for every token, out of several layers."""

    needs_layers = True

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 2)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        result: Tensor = self.linear(torch.cat([output.sequence_output, output.layers[1]], 1))
        return result


class LastTokens(nn.Module):
    """Reads the layout."""

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        last = output.sequence_output[layout.starts + layout.lengths - 1]
        return torch.cat([last.mean(1, keepdim=True), layout.first_tokens(output.sequence_output)[:, :2]], 1)


class Sorts(nn.Module):
    """An operator that ONNX does not have."""

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        found: Tensor = torch.linalg.svdvals(output.pooled_output.float() @ output.pooled_output.float().T)
        return found[:, None]


class OneNumber(nn.Module):
    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        return output.pooled_output.sum()


class Broken(nn.Module):
    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        return output.pooled_output[:, 99]


def with_head(head: nn.Module) -> Network:
    torch.manual_seed(1)
    return Network(network_of("bert").encoder, head).eval()


@pytest.mark.parametrize("head", [TwoLayers, OfTokens, LastTokens])
def test_a_head_of_tensors_alone_is_exported(head: type[nn.Module], tmp_path: Path) -> None:
    network = with_head(head())
    save_graph(network_model(network, "Model"), tmp_path / "model.onnx")
    model, features = OnnxModel(tmp_path / "model.onnx"), features_of(network)
    for found in (model.rows(features), model.run(features, np.arange(len(features)))):
        for one, two in zip(found, pytorch_rows(network, features), strict=True):
            np.testing.assert_allclose(one, two, atol=2e-5)


@pytest.mark.parametrize(
    ("head", "told"),
    [(Sorts, "PyTorch cannot export the head Sorts"), (OneNumber, r"shape \(\)"), (Broken, "cannot be run by itself")],
)
def test_other_heads_are_refused_with_the_reason(head: type[nn.Module], told: str) -> None:
    with pytest.raises(InputError, match=told):
        network_model(with_head(head()), "Model")
