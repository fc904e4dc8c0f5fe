"""What every result of a benchmark says of its machine, and the limit that rates are divided by."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import compare, finetune, machine, predict
from benchmarks.own import operations_per_sequence
from bertune import processor
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.network import Network


def test_every_result_names_processor_instruction_set_threads_and_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    (tmp_path / "benchmarks").mkdir()
    machine.save_result("startup", {"help": 0.02})
    machine.save_result("train", {"ratio": 2.0, "machine": {"cpu": "another", "instruction_set": "x86-64-v3"}})
    (file,) = (tmp_path / "benchmarks/results").iterdir()
    first, second = map(json.loads, file.read_text().splitlines())
    facts = first["machine"]
    assert (facts["instruction_set"], facts["threads"]) == (processor.level(), torch.get_num_threads())
    assert processor.model_name() in facts["cpu"]
    assert facts["torch"] == torch.__version__
    assert second["machine"] == {"cpu": "another", "instruction_set": "x86-64-v3"}, "facts of the measured process stay"
    assert capsys.readouterr().out.splitlines() == file.read_text().splitlines()


def test_avx2_holds_bertune_and_the_libraries_of_its_peers() -> None:
    variables = machine.environment("avx2")
    assert variables == machine.environment("x86-64-v3") == processor.held_to("x86-64-v3")
    assert variables["ATEN_CPU_CAPABILITY"] == "avx2"
    assert machine.environment(None) == {}


@pytest.mark.parametrize(
    ("fields", "core"),
    [((25, 17), "Zen 4"), ((25, 0x61), "Zen 4"), ((25, 1), "Zen 3"), ((23, 49), "Zen 2"), ((26, 2), "Zen 5")],
)
def test_amd_cores_have_their_names(fields: tuple[int, int], core: str) -> None:
    assert machine.amd_core(*fields) == core


def test_a_family_without_a_name_has_none() -> None:
    assert machine.amd_core(99, 1) is None


def test_the_rate_is_that_of_the_fastest_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "TOKENS", (32,))
    found = machine.matrix_rate("fp32", torch.device("cpu"))
    assert found["gflops"] == max(found["routes"].values()) == found["routes"][found["route"]]
    assert "PyTorch's default" in found["routes"]


def test_the_work_is_what_an_answer_from_the_first_token_needs() -> None:
    config = EncoderConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    network = Network(Encoder(config), torch.nn.Linear(8, 2))
    layer = 12 * 8 * 8  # queries, keys, values, output: 4 H²; feed-forward: 8 H²
    assert operations_per_sequence(network, 10.0) == 2 * (10 * layer + 10 * 2 * 64 + (layer - 2 * 64))


def test_each_precision_meets_the_peers_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", "--isa", "avx2", "--encoder", "minilm"])
    (only,) = predict.comparisons(compare.choose(""))
    assert only.own == ("fp32",)
    assert [peer.name for peer in only.peers] == [
        "Trainer fp32",
        "transformers fp32",
        "openvino fp32",
        "onnxruntime fp32",
    ]
    monkeypatch.setattr(sys, "argv", ["finetune", "--precision", "fp32", "--precision", "int8", "--full"])
    both = finetune.comparisons(compare.choose(""))
    assert [(one.encoder, one.own) for one in both] == [("minilm", ("fp32",)), ("bert-base", ("fp32",))]
    assert both[0].peers[1].name == "Trainer fp32, padded to 128"
