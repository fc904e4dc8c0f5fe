"""Long texts by policy, losses for uneven classes, heads on several layers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import bertune
from bertune.conformance import tiny_encoder
from bertune.data.features import IGNORED
from bertune.encoder.encoder import EncoderOutput
from bertune.errors import InputError
from bertune.network import infer
from bertune.tasks.layers import LayerMix
from bertune.tasks.losses import LossOptions, balanced_weights, binary_cross_entropy, cross_entropy
from bertune.tasks.text_classification import TextExample
from bertune.tasks.texts import by_example, text_features
from bertune.tokenization import Tokenizer
from bertune.training.train import train
from tests.conformance import SAMPLES, Case, each_check
from tests.tiny import opinions, write_encoder, write_rows

LETTERS = "abcdefghij"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))[1]


def spelled(tokenizer: Tokenizer, examples: list[TextExample], length: int, long_text: str) -> list[str]:
    """Every sequence, [CLS] as < and [SEP] as >."""
    features = text_features(examples, tokenizer, length, {}, long_text)
    names = {"[CLS]": "<", "[SEP]": ">"}
    return [
        "".join(names.get(t, t) for t in tokenizer.tokens(ids))
        for ids in (features.input_ids[i] for i in range(len(features)))
    ]


def spread(text: str) -> str:
    return " ".join(text)


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["<abcdefgh>"]),
        ("head-tail", ["<abefghij>"]),
        ("window", ["<abcdefgh>", "<cdefghij>"]),
    ],
)
def test_long_texts(tokenizer: Tokenizer, long_text: str, expected: list[str]) -> None:
    assert spelled(tokenizer, [TextExample(spread(LETTERS))], 10, long_text) == expected
    assert spelled(tokenizer, [TextExample("a b")], 10, long_text) == ["<ab>"]


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["<xy>abcde>"]),
        ("head-tail", ["<xy>aghij>"]),
        ("window", ["<xy>abcde>", "<xy>fghij>"]),
    ],
)
def test_long_pairs(tokenizer: Tokenizer, long_text: str, expected: list[str]) -> None:
    examples = [TextExample("x y", spread(LETTERS)), TextExample(spread("abc"))]
    assert spelled(tokenizer, examples, 10, long_text) == [*expected, "<abc>"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(5, 16),
    st.sampled_from(["truncate", "head-tail", "window"]),
)
def test_every_policy_keeps_the_limit_and_says_what_is_lost(
    tokenizer: Tokenizer, sizes: list[tuple[int, int | None]], limit: int, long_text: str
) -> None:
    examples = [TextExample(spread("a" * a), None if b is None else spread("b" * b)) for a, b in sizes]
    features = text_features(examples, tokenizer, limit, {"n": np.arange(len(examples))}, long_text)
    assert features.input_ids.lengths.max() <= limit
    assert features.example_index.tolist() == sorted(features.example_index.tolist())
    assert set(features.example_index.tolist()) == set(range(len(examples)))
    assert np.asarray(features.targets["n"]).tolist() == features.example_index.tolist()
    for index, (a, b) in enumerate(sizes):
        fits = a + (b or 0) + (3 if b else 2) <= limit
        of_this = features.example_index == index
        if fits:
            assert of_this.sum() == 1
        if fits or (long_text == "window" and not b):
            assert not features.cut[of_this].any()
        elif long_text != "window":
            assert features.cut[of_this].all()


def test_windows_are_averaged(tokenizer: Tokenizer) -> None:
    features = text_features([TextExample(spread(LETTERS)), TextExample("a")], tokenizer, 10, {}, "window")
    logits = [np.array(row, np.float32) for row in ([1, 0], [3, 2], [7, 8])]
    assert by_example(logits, features, 2).tolist() == [[2, 1], [7, 8]]


def test_the_policy_is_saved_and_obeyed(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options: dict[str, Any] = {"max_seq_length": 8, "batch_size": 8, "epochs": 1, "device": "cpu", "precision": "fp32"}
    train(
        task="text-classification", encoder=tmp_path / "encoder", train=data, output=tmp_path / "model",
        long_text="window", **options,
    )  # fmt: skip
    model = bertune.load(tmp_path / "model", precision="fp32")
    long = " ".join(["good", "bad", "film"] * 8)
    features = model.task.featurize([model.task.example(long)], model.tokenizer, 8, purpose="predict")
    assert len(features) == 6
    mean = np.mean(infer(model.network, features).logits, axis=0)
    (answer,) = model.predict([long])
    assert answer["scores"]["bad"] == pytest.approx(float(np.exp(mean[0]) / np.exp(mean).sum()), abs=1e-5)


LOGITS = torch.tensor([[1.0, -0.5, 0.2], [0.1, 2.0, -1.0], [0.0, 0.3, 0.1], [3.0, -3.0, 0.0]])
TARGET = torch.tensor([0, 2, 1, IGNORED])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 3.0)])
def test_cross_entropy_is_pytorchs(smoothing: float, weights: tuple[float, ...]) -> None:
    total, count = cross_entropy(LOGITS, TARGET, LossOptions(label_smoothing=smoothing), weights)
    by_class = torch.tensor(weights) if weights else None
    expected = F.cross_entropy(LOGITS, TARGET, weight=by_class, label_smoothing=smoothing, ignore_index=IGNORED)
    assert (total / count).item() == pytest.approx(expected.item(), rel=1e-6)


def test_focal_loss_is_that_of_its_paper() -> None:
    total, count = cross_entropy(LOGITS, TARGET, LossOptions(focal_gamma=2.0))
    p = torch.softmax(LOGITS, 1)[torch.arange(3), TARGET[:3]]
    assert total.item() == pytest.approx((-((1 - p) ** 2) * p.log()).sum().item(), rel=1e-6)
    assert int(count) == 3


def test_binary_losses() -> None:
    target = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    total, count = binary_cross_entropy(LOGITS[:2], target, LossOptions())
    assert (total / count).item() == pytest.approx(F.binary_cross_entropy_with_logits(LOGITS[:2], target).item())
    total, _ = binary_cross_entropy(LOGITS[:2], target, LossOptions(focal_gamma=2.0))
    p = torch.where(target > 0, torch.sigmoid(LOGITS[:2]), 1 - torch.sigmoid(LOGITS[:2]))
    assert total.item() == pytest.approx((-((1 - p) ** 2) * p.log()).sum().item(), rel=1e-6)


def test_balanced_weights_are_scikit_learns() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    found = ["a"] * 6 + ["b"] * 3 + ["c"]
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=found)
    assert balanced_weights(found, ["a", "b", "c"]) == pytest.approx(expected)
    assert balanced_weights(["a", "a"], ["a", "b"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"), [("label_smoothing", 1.0), ("label_smoothing", -0.1), ("focal_gamma", -1.0)]
)
def test_impossible_numbers(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} {value}: must be"):
        LossOptions(**{name: value})


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
@pytest.mark.parametrize("layers", ["mix", "last4"])
@pytest.mark.parametrize(
    ("task", "data"), [("text-classification", "intents/train.csv"), ("token-classification", "entities/train.conll")]
)
def test_heads_on_several_layers_conform(task: str, data: str, layers: str, check: Any, tmp_path: Path) -> None:
    check(Case(task, SAMPLES / data, {"layers": layers, "class_weights": "balanced", "label_smoothing": 0.1}), tmp_path)
