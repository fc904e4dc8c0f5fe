"""BERT with `position_embedding_type` relative_key and relative_key_query.

transformers 5 has dropped both, so the reference here is their definition (Shaw et al., 2018; Huang et al., 2020), on
tensors under the names of transformers 4.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from bertune.checkpoints.huggingface import config_from_json, config_to_json, encoder_names
from bertune.checkpoints.names import to_ours
from bertune.encoder.encoder import Encoder
from tests import tiny
from tests.checkpoints.test_families import Inputs
from tests.tiny import FAST, done, opinions, write_rows

KINDS = ("relative_key", "relative_key_query")


def settings(kind: str) -> dict[str, object]:
    return tiny.settings(position_embedding_type=kind)


def relative_tensors(kind: str) -> dict[str, Tensor]:
    """Tensors of a whole encoder, with the distances' of each layer."""
    config = settings(kind)
    made = tiny.tensors(config)
    positions, layers = int(str(config["max_position_embeddings"])), int(str(config["num_hidden_layers"]))
    for i in range(layers):
        table = torch.randn(2 * positions - 1, 8, generator=torch.Generator().manual_seed(i))
        made[f"encoder.layer.{i}.attention.self.distance_embedding.weight"] = table * 0.3
    return made


def reference(tensors: dict[str, Tensor], kind: str, inputs: Inputs) -> Tensor:
    """The last layer's output, sequence by sequence: no padding, no batch."""

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"], 1e-12)

    found = []
    for ids, segments, mask in zip(inputs.ids, inputs.segments, inputs.mask, strict=True):
        x = tensors["embeddings.word_embeddings.weight"][ids[mask]]
        x = norm(x + tensors["embeddings.token_type_embeddings.weight"][segments[mask]], "embeddings.LayerNorm")
        place = torch.arange(len(x))
        for i in range(2):
            name = f"encoder.layer.{i}"
            q, k, v = (linear(x, f"{name}.attention.self.{p}").view(-1, 2, 8) for p in ("query", "key", "value"))
            distance = tensors[f"{name}.attention.self.distance_embedding.weight"][place[:, None] - place + 63]
            scores = torch.einsum("lhd,rhd->hlr", q, k) + torch.einsum("lhd,lrd->hlr", q, distance)
            if kind == "relative_key_query":
                scores = scores + torch.einsum("rhd,lrd->hlr", k, distance)
            context = torch.einsum("hlr,rhd->lhd", torch.softmax(scores / math.sqrt(8), -1), v).reshape(-1, 16)
            x = norm(x + linear(context, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
            up = F.gelu(linear(x, f"{name}.intermediate.dense"))
            x = norm(x + linear(up, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        found.append(x)
    return torch.cat(found)


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_gradients_equal_the_definition(kind: str, form: str) -> None:
    theirs = {name: tensor.requires_grad_() for name, tensor in relative_tensors(kind).items()}
    config = config_from_json(settings(kind), "config.json")
    encoder, inputs = Encoder(config).eval(), Inputs()
    encoder.load_state_dict(to_ours(encoder_names(config), {n: t.detach() for n, t in theirs.items()})[0])
    expected = reference(theirs, kind, inputs)
    found = inputs.real(inputs.ours(encoder, form)[0].sequence_output, form)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    weights = torch.randn(found.shape)
    (found * weights).sum().backward()  # type: ignore[no-untyped-call]
    (expected * weights).sum().backward()  # type: ignore[no-untyped-call]
    wanted, _, _ = to_ours(encoder_names(config), {n: t.grad for n, t in theirs.items() if t.grad is not None})
    for name, parameter in encoder.named_parameters():
        if not name.startswith("pooler"):
            assert parameter.grad is not None, name
            torch.testing.assert_close(parameter.grad, wanted[name], atol=1e-4, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_predicts_and_keeps_its_kind(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tiny.write_encoder(tmp_path / "encoder", position_embedding_type=kind)
    save_file(relative_tensors(kind), source / "model.safetensors", metadata={"format": "pt"})
    train = write_rows(tmp_path / "train.csv", opinions(16))
    data = ["--task", "text-classification", "--train", train, "--validation", train]
    done(capsys, "train", *data, "--encoder", source, "--output", tmp_path / "out", *FAST, "--epochs", "1")
    done(capsys, "predict", "--model", tmp_path / "out", "--input", train, "--output", tmp_path / "answers.jsonl")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 16
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["position_embedding_type"] == kind
    assert any("distance_embedding" in name for name in tiny.weights(tmp_path / "out"))
    config = config_from_json(settings(kind), "config.json")
    assert config_from_json(config_to_json(config), "config.json") == config
