"""Heads on several layers, in every task: saved, loaded, and what transformers makes of the folder."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from bertune.checkpoints.source import open_checkpoint
from bertune.conformance import tiny_encoder
from bertune.encoder.encoder import EncoderOutput
from bertune.errors import InputError
from bertune.model.build import build_network
from bertune.model.folder import save_model
from bertune.model.provenance import Provenance
from bertune.network import Network
from bertune.tasks.registry import new_task
from bertune.tasks.shared.layers import LayerMix
from bertune.tokenization.text_encoding import TextEncoding
from tests.conformance import SAMPLES, Case, each_check
from tests.tiny import FAST, done, train

DATA = {
    "text-classification": "intents/train.csv",
    "token-classification": "entities/train.conll",
    "question-answering": "handbook/train.json",
    "regression": "similarity/train.csv",
    "multi-label-classification": "topics/train.csv",
    "multiple-choice": "choices/train.jsonl",
    "embedding": "similarity/train.csv",
}


def test_layer_mixes(tmp_path: Path) -> None:
    config = tiny_encoder(tmp_path)[0].config
    layers = tuple(torch.full((2, 16), float(i)) for i in range(5))
    output = EncoderOutput(layers[-1], torch.zeros(1, 16), layers)
    mix = LayerMix(config, "mix")
    torch.testing.assert_close(mix(output), torch.full((2, 16), 2.0))  # equal shares at first
    with torch.no_grad():
        mix.weights[3] = 100.0
        mix.scale.fill_(2.0)
    torch.testing.assert_close(mix(output), torch.full((2, 16), 6.0))
    last4 = LayerMix(config, "last4")
    assert last4.width == 64
    assert last4(output)[0, ::16].tolist() == [1.0, 2.0, 3.0, 4.0]


@each_check
@pytest.mark.parametrize(
    ("task", "layers"), [*((task, "mix") for task in DATA), ("text-classification", "last4"), ("embedding", "last4")]
)
def test_heads_on_several_layers_conform(task: str, layers: str, check: Any, tmp_path: Path) -> None:
    more = {"max_query_length": 24} if task == "question-answering" else {}
    check(Case(task, SAMPLES / DATA[task], {"layers": layers, **more}), tmp_path)


def saved(task: str, tmp_path: Path) -> tuple[Path, Network]:
    """A model folder of a task on a mix of layers, and the network in it, whose head has no trivial number."""
    data = SAMPLES / DATA[task]
    made = new_task(task, {"layers": "mix"})
    made = made.fit(list(made.read(data, labelled=True)), path=data, settings={})
    encoder, tokenizer = tiny_encoder(tmp_path)
    network = Network(encoder, made.new_head(encoder.config))
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter)
    folder = tmp_path / "model"
    save_model(
        folder,
        (encoder.config, network.state_dict()),
        made,
        TextEncoding(tokenizer, 32),
        Provenance("tiny", {}, {}),
        {},
    )
    return folder, network


@pytest.mark.parametrize("task", DATA)
def test_transformers_loads_the_encoder_and_the_card_says_that_the_head_is_left_out(task: str, tmp_path: Path) -> None:
    folder, network = saved(task, tmp_path)
    theirs = transformers.AutoModel.from_pretrained(folder)
    table = theirs.get_input_embeddings().weight
    torch.testing.assert_close(table, network.encoder.embeddings.word.weight)
    card = (folder / "README.md").read_text()
    assert "`AutoModel.from_pretrained" in card
    assert "transformers has no class for this task's head" in card
    assert all(f"`head.{name}`" in card for name in network.head.state_dict())
    assert "`--layers mix`" in card


@pytest.mark.parametrize("task", DATA)
def test_a_trained_model_keeps_its_layers(task: str) -> None:
    made = new_task(task, {"layers": "mix"})
    with pytest.raises(InputError, match="--layers last: the model was trained with mix"):
        made.with_options(new_task(task).options)


@pytest.mark.parametrize("task", DATA)
def test_training_on_takes_the_head_over(task: str, tmp_path: Path) -> None:
    """And no task takes over another's, although all their tensors have the same names."""
    folder, network = saved(task, tmp_path)
    data = SAMPLES / DATA[task]
    made = new_task(task, {"layers": "mix"})
    with open_checkpoint(folder) as checkpoint:
        made = made.fit(list(made.read(data, labelled=True)), path=data, settings=checkpoint.settings)
        found = build_network(made, checkpoint).head.state_dict()
        kind = "text-classification" if task in ("regression", "multi-label-classification") else task
        assert checkpoint.heads == [kind]
        others = [new_task(other, {"layers": "mix"}) for other in sorted(DATA.keys() - {task})]
        assert not any(other.keeps_head(checkpoint.settings) for other in others)
    expected = network.head.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_command_that_trains_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"question": "good ?", "context": "film is good", "answers": {"text": ["good"], "answer_start": [8]}}] * 8
    options = ("--layers", "mix", "--max-steps", "1")
    train(capsys, tmp_path, rows, *options, task="question-answering").rename(tmp_path / "first")
    command = ["train", "--task", "question-answering", "--encoder", tmp_path / "first", "--output", tmp_path / "on"]
    told = done(capsys, *command, "--train", tmp_path / "train.jsonl", *FAST, *options)
    assert f"head: reused from {tmp_path / 'first'}" in told.err
