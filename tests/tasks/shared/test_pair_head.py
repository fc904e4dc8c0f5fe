"""A head that compares two texts: its numbers, when it is chosen, what a folder and transformers make of it."""

import logging
from pathlib import Path

import pytest
import torch
import yaml

import bertune
from bertune.conformance import tiny_encoder
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.options import RegressionOptions, TextOptions
from bertune.tasks.registry import new_task
from bertune.tasks.shared.folder_pooling import SENTENCE_MODULES, with_pooling
from bertune.tasks.shared.heads import pooled_head
from bertune.tasks.shared.pair_head import PairHead
from bertune.tasks.text_classification import TextExample
from tests import tiny
from tests.conformance import SAMPLES, Case, each_check

PAIRS = [TextExample("a", "b", "1"), TextExample("c", "d", "0")]
MEAN = {SENTENCE_MODULES: [{"kind": "Pooling", "modes": ["mean"]}, {"kind": "Normalize"}]}


@pytest.mark.parametrize("stride", [0, 6])
def test_its_numbers(stride: int, tmp_path: Path) -> None:
    """Written out for a pair and for a single text, in packed and in padded batches."""
    config = tiny_encoder(tmp_path)[0].config
    head = PairHead(config, 3).eval()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    pair, single = torch.randn(6, 16), torch.randn(4, 16)
    layout = Layout.padded([6, 4], stride) if stride else Layout.packed([6, 4], total=16)
    rest = torch.full((layout.total - 10, 16), 7.0)
    segments = torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0, 0, *[0] * (layout.total - 10)])
    output = EncoderOutput(torch.cat([pair, single, rest]), torch.zeros(2, 16), segment_ids=segments)
    for one, other, row in ((pair[:3].mean(0), pair[3:].mean(0), 0), (single.mean(0), torch.zeros(16), 1)):
        compared = torch.cat([one, other, (one - other).abs(), one * other])
        expected = torch.tanh(compared @ head.dense_weight.t() + head.dense_bias) @ head.weight.t() + head.bias
        torch.testing.assert_close(head(output, layout)[row], expected)
        with torch.no_grad():
            torch.testing.assert_close(head(output, layout)[row], expected)


def test_refusals(tmp_path: Path) -> None:
    config = tiny_encoder(tmp_path)[0].config
    with pytest.raises(InputError, match="does not go with --layers mix"):
        pooled_head(config, 2, "mix", "pair")
    with pytest.raises(InputError, match="does not mark of which text of a pair a token is; choose pooling cls"):
        bertune.train(
            task="text-classification", encoder=tiny.write_encoder(tmp_path / "encoder", type_vocab_size=1),
            train=tiny.write_rows(tmp_path / "rows.csv", tiny.opinions(16)), output=tmp_path / "out", pooling="pair",
            max_seq_length=32,
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("examples", "settings", "expected"),
    [
        (PAIRS, MEAN, "pair"),
        ([*PAIRS, TextExample("a", None, "1")], MEAN, "cls"),
        (PAIRS, {}, "cls"),
        (PAIRS, {SENTENCE_MODULES: [{"kind": "Pooling", "modes": ["cls"]}]}, "cls"),
    ],
)
def test_what_auto_comes_to(examples: list[TextExample], settings: dict[str, object], expected: str) -> None:
    assert with_pooling(TextOptions(pooling="auto"), examples, settings).pooling == expected
    assert with_pooling(RegressionOptions(pooling="auto"), examples, settings).pooling == expected
    assert with_pooling(TextOptions(), examples, settings).pooling == "cls"
    assert with_pooling(TextOptions(pooling="pair"), examples, settings).pooling == "pair"


@each_check
@pytest.mark.parametrize(("task", "sample"), [("regression", "similarity"), ("text-classification", "intents")])
def test_it_conforms(task: str, sample: str, check: object, tmp_path: Path) -> None:
    check(Case(task, SAMPLES / sample / "train.csv", {"pooling": "pair"}), tmp_path)  # type: ignore[operator]


def test_best_chooses_it_and_an_older_run_keeps_what_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, saved, loaded, trained on; a sentence encoder is one whose folder says so."""
    encoder = tiny.write_encoder(tmp_path / "encoder")
    tiny.write_json(encoder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ])  # fmt: skip
    (encoder / "1_Pooling").mkdir()
    tiny.write_json(
        encoder / "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    )
    given = {"task": "regression", "encoder": encoder, "train": SAMPLES / "similarity/train.csv", "preset": "best"}
    more = {"max_steps": 4, "max_seq_length": 32, "report": False}
    with caplog.at_level(logging.INFO):
        bertune.train(output=tmp_path / "out", **given, **more)
    assert "--preset best: --pooling auto" in caplog.messages
    assert "--pooling auto: pair" in caplog.messages
    assert yaml.safe_load((tmp_path / "out/run.yaml").read_text())["pooling"] == "auto"
    model = bertune.load(tmp_path / "out")
    assert isinstance(model.network.head, PairHead)
    assert model.task.options.pooling == "pair"
    assert "`--pooling pair`" in (tmp_path / "out/README.md").read_text()
    answers = model.predict([("a dog", "a cat"), ("a dog", "a dog")])
    bertune.train(
        output=tmp_path / "on", task="regression", encoder=tmp_path / "out", train=given["train"], pooling="pair",
        learning_rate=1e-12, **more,
    )  # fmt: skip
    again = bertune.load(tmp_path / "on").predict([("a dog", "a cat"), ("a dog", "a dog")])
    assert [one["score"] for one in again] == pytest.approx([one["score"] for one in answers], abs=1e-3)
    with pytest.raises(InputError, match="--pooling cls: the model was trained with pair"):
        model.task.with_options(new_task("regression").options)

    monkeypatch.setattr("bertune.training.train.with_preset_of_task", lambda options, own: dict(own))
    bertune.train(output=tmp_path / "old", **given, **{**more, "max_steps": 2})
    monkeypatch.undo()
    tree = yaml.safe_load((tmp_path / "old/run.yaml").read_text())
    assert tree.pop("pooling") == "cls"
    (tmp_path / "old/run.yaml").write_text(yaml.safe_dump(tree))
    bertune.train(output=tmp_path / "old", resume=True, **given, **{**more, "max_steps": 2})
    assert bertune.load(tmp_path / "old").task.options.pooling == "cls"
