"""A head that compares two texts: its numbers, when it is chosen, what a folder and transformers make of it."""

import logging
from pathlib import Path

import pytest
import torch
import yaml

import bertune
from bertune.conformance import tiny_encoder
from bertune.distill.distill import distill
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.options import RegressionOptions, TextOptions
from bertune.tasks.registry import new_task
from bertune.tasks.shared.folder_pooling import SENTENCE_MODULES, with_pooling
from bertune.tasks.shared.heads import pooled_head
from bertune.tasks.shared.huggingface import linear_in_folder
from bertune.tasks.shared.pair_head import PairHead
from bertune.tasks.text_classification import TextExample
from tests import tiny
from tests.conformance import SAMPLES, Case, each_check

PAIRS = [TextExample("a", "b", "1"), TextExample("c", "d", "0")]
MEAN = {SENTENCE_MODULES: [{"kind": "Pooling", "modes": ["mean"]}, {"kind": "Normalize"}]}


def sentence_encoder(folder: Path) -> Path:
    """A tiny encoder whose folder pools by the mean of its tokens."""
    encoder = tiny.write_encoder(folder)
    tiny.write_json(encoder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ])  # fmt: skip
    (encoder / "1_Pooling").mkdir()
    tiny.write_json(
        encoder / "1_Pooling/config.json", {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    )
    return encoder


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
            train=tiny.write_rows(tmp_path / "rows.csv", [{"pair": "a film", **row} for row in tiny.opinions(16)]),
            output=tmp_path / "out", pooling="pair", pair_column="pair",
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


def test_auto_keeps_what_it_cannot_have_and_single_texts_are_refused() -> None:
    assert with_pooling(TextOptions(pooling="auto", layers="mix"), PAIRS, MEAN).pooling == "cls"
    singles = [TextExample("a", None, "1"), TextExample("b", None, "0")]
    assert with_pooling(TextOptions(pooling="auto"), singles, MEAN).pooling == "cls"
    with pytest.raises(InputError, match="--pooling pair: compares two texts, and these rows have one"):
        with_pooling(TextOptions(pooling="pair"), singles, MEAN)
    plain = linear_in_folder("ForSequenceClassification", "last", pooling="auto")
    assert plain.architecture == "ForSequenceClassification"


@each_check
@pytest.mark.parametrize(("task", "sample"), [("regression", "similarity")])
def test_it_conforms(task: str, sample: str, check: object, tmp_path: Path) -> None:
    check(Case(task, SAMPLES / sample / "train.csv", {"pooling": "pair"}), tmp_path)  # type: ignore[operator]


def test_best_chooses_it_and_an_older_run_keeps_what_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained, saved, loaded, trained on; a sentence encoder is one whose folder says so."""
    encoder = sentence_encoder(tmp_path / "encoder")
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


QUICK = {"max_steps": 2, "max_seq_length": 32, "report": False, "precision": "fp32"}
MINE = """
from bertune.tasks.regression import Regression
from bertune.tasks.shared.heads import PooledHead

class Mine(Regression):
    def new_head(self, config):
        return PooledHead(config, 1)
"""


def test_both_models_that_adapting_compares_have_the_same_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join("\n".join(str(row["text"]) for row in tiny.opinions(4, seed=i)) for i in range(16)))
    bertune.adapt(
        corpus, adapt_epochs=1, task="regression", encoder=sentence_encoder(tmp_path / "encoder"), preset="best",
        train=SAMPLES / "similarity/train.csv", output=tmp_path / "out", **QUICK,
    )  # fmt: skip
    for folder in (tmp_path / "out/without", tmp_path / "out"):
        assert isinstance(bertune.load(folder).network.head, PairHead)


def test_a_student_without_segments_reads_the_first_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = SAMPLES / "similarity/train.csv"
    bertune.train(
        task="regression", encoder=tiny.write_encoder(tmp_path / "encoder"), train=rows, output=tmp_path / "teacher",
        pooling="pair", **QUICK,
    )  # fmt: skip
    student = tiny.write_encoder(tmp_path / "small", type_vocab_size=1)
    with caplog.at_level(logging.INFO):
        distill(
            teacher=tmp_path / "teacher", student=student, unlabelled=rows, train=rows, validation=rows, max_steps=2,
            output=tmp_path / "student", precision="fp32",
        )  # fmt: skip
    assert "the student's head reads the first token (--pooling cls): its encoder has no segments" in caplog.messages
    assert bertune.load(tmp_path / "student").task.options.pooling == "cls"


def test_a_task_of_ones_own_keeps_its_head_and_its_random_numbers(tmp_path: Path) -> None:
    """Neither --preset best nor dropout by the example touches what bertune does not know."""
    (tmp_path / "mine.py").write_text(MINE)
    bertune.train(
        task=f"{tmp_path / 'mine.py'}:Mine", encoder=sentence_encoder(tmp_path / "encoder"), preset="best",
        train=SAMPLES / "similarity/train.csv", output=tmp_path / "out", **QUICK,
    )  # fmt: skip
    tree = yaml.safe_load((tmp_path / "out/run.yaml").read_text())
    assert (tree["pooling"], "dropout" in tree["record"]) == ("cls", False)
