"""Folders that sentence-transformers wrote give its vectors; modules that are not supported are refused by name."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules as theirs

from bertune.embedding import Embedder, embed
from bertune.errors import InputError
from bertune.training.train import train
from tests.tiny import write_encoder, write_json, write_rows

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
TEXTS = ["the film is good", "a", "Bad! " * 30, "", "fine 游戏"]


def written(folder: Path, *behind: Any, prompts: Mapping[str, str] | None = None, **transformer: Any) -> Path:
    """A folder as SentenceTransformer.save writes it, with random weights in its own modules."""
    torch.manual_seed(0)
    encoder = theirs.Transformer(str(write_encoder(folder / "encoder")), **transformer)
    SentenceTransformer(modules=[encoder, *behind], prompts=prompts, device="cpu").save(str(folder / "st"))
    return folder / "st"


def assert_equal(folder: Path, texts: list[str] = TEXTS, **options: Any) -> Embedder:
    """Our vectors are those of sentence-transformers."""
    ours = Embedder(folder, precision="fp32")
    expected = SentenceTransformer(str(folder), device="cpu").encode(texts, **options)
    found = ours(texts, **options)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert ours.width == expected.shape[1]
    return ours


@pytest.mark.parametrize("mode", [*MODES, ("cls", "max"), ("mean", "lasttoken", "weightedmean")])
def test_every_pooling(tmp_path: Path, mode: Any) -> None:
    folder = written(tmp_path, theirs.Pooling(16, pooling_mode=mode))
    assert_equal(folder)


@pytest.mark.parametrize(
    "flags", [("cls_token",), ("max_tokens", "mean_tokens"), ("lasttoken",), ("weightedmean_tokens",), ()]
)
def test_the_older_form_of_pooling(tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = written(tmp_path, theirs.Pooling(16))
    names = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    old = {f"pooling_mode_{name}": name in flags for name in names}
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 16, **old})
    assert_equal(folder)


@pytest.mark.parametrize(
    "activation", [torch.nn.Tanh(), torch.nn.Identity(), torch.nn.ReLU(), torch.nn.GELU(), torch.nn.Sigmoid()]
)
def test_dense_with_each_activation(tmp_path: Path, activation: Any) -> None:
    dense = theirs.Dense(32, 6, activation_function=activation)
    folder = written(tmp_path, theirs.Pooling(16, pooling_mode=("mean", "cls")), dense, theirs.Normalize())
    assert np.linalg.norm(assert_equal(folder)(["a film"])) == pytest.approx(1, abs=1e-5)


def test_a_chain_of_all_modules(tmp_path: Path) -> None:
    norm = theirs.LayerNorm(6)
    torch.nn.init.normal_(norm.norm.weight)
    behind = (
        theirs.Pooling(16, pooling_mode="max"),
        theirs.Dense(16, 16, bias=False, use_residual=True),
        theirs.Dense(16, 6, use_residual=True),
        theirs.Dropout(0.5),
        norm,
    )
    assert_equal(written(tmp_path, *behind))


def test_dense_and_normalisation_of_tokens(tmp_path: Path) -> None:
    tokens = {"module_input_name": "token_embeddings"}
    behind = (theirs.Dense(16, 5, **tokens), theirs.Normalize(**tokens), theirs.Pooling(5))
    assert_equal(written(tmp_path, *behind))


@pytest.mark.parametrize("hidden", [True, False])
def test_weighted_layers(tmp_path: Path, hidden: bool) -> None:
    """The module does nothing unless config.json lets the encoder hand its layers over."""
    mix = theirs.WeightedLayerPooling(16, num_hidden_layers=2, layer_start=1)
    torch.nn.init.uniform_(mix.layer_weights)
    folder = written(tmp_path, mix, theirs.Pooling(16), config_kwargs={"output_hidden_states": hidden})
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"output_hidden_states": hidden})
    assert_equal(folder)


def test_without_normalisation_lengths_are_the_models(tmp_path: Path) -> None:
    folder = written(tmp_path, theirs.Pooling(16))
    assert np.abs(np.linalg.norm(embed(TEXTS, folder, precision="fp32"), axis=1) - 1).max() > 0.1
    unit = embed(TEXTS, folder, normalize=True, precision="fp32")
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("new_form", [True, False])
def test_longest_sequence(tmp_path: Path, new_form: bool) -> None:
    folder = written(tmp_path, theirs.Pooling(16), max_seq_length=7)
    if not new_form:  # before version 5.5 the module's own file named it
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})
    assert assert_equal(folder).max_seq_length == (7 if new_form else 9)


def test_lower_casing_of_the_folder(tmp_path: Path) -> None:
    """On top of a tokenizer that does not lower."""
    folder = written(tmp_path, theirs.Pooling(16))
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["normalizer"]["lowercase"] = False
    write_json(folder / "tokenizer.json", rules)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", settings | {"do_lower_case": False})
    cased = Embedder(folder, precision="fp32")(["GOOD FILM"])
    write_json(folder / "sentence_roberta_config.json", {"max_seq_length": 20, "do_lower_case": True})
    (folder / "sentence_bert_config.json").unlink()
    ours = assert_equal(folder, ["GOOD FILM", "Good Film"])
    assert not np.allclose(ours(["GOOD FILM"]), cased, atol=1e-3)


@pytest.mark.parametrize("include", [True, False])
def test_prompts(tmp_path: Path, include: bool) -> None:
    pooling = theirs.Pooling(16, pooling_mode=("mean", "cls", "weightedmean"), include_prompt=include)
    folder = written(tmp_path, pooling, prompts={"query": "is it ", "document": "text: "})
    texts = ["good film", "a"]
    ours = assert_equal(folder, texts)
    assert_equal(folder, texts, prompt_name="query")
    assert_equal(folder, texts, prompt="fine ")
    with pytest.raises(InputError, match="prompt_name 'passage'; this model's prompts: document, query"):
        ours(texts, prompt_name="passage")
    config = json.loads((folder / "config_sentence_transformers.json").read_text())
    write_json(folder / "config_sentence_transformers.json", config | {"default_prompt_name": "document"})
    default = assert_equal(folder, texts)
    np.testing.assert_allclose(default(texts), ours(texts, prompt_name="document"), atol=1e-6)
    write_json(folder / "config_sentence_transformers.json", config | {"truncate_dim": 10})
    assert assert_equal(folder, texts).width == 10


def test_the_encoder_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As sentence-transformers before version 2 wrote it."""
    folder = written(tmp_path, theirs.Pooling(16, pooling_mode="cls"))
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and not path.name.startswith(("modules", "config_s")):
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    write_json(folder / "modules.json", modules)
    assert_equal(folder)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ("sentence_transformers.models.WordEmbeddings", ["WordEmbeddings", "table"]),
        ("sentence_transformers.models.LSTM", ["LSTM", "recurrent"]),
        ("sentence_transformers.sparse_encoder.models.SpladePooling", ["SpladePooling", "sparse"]),
        ("sentence_transformers.models.Whitening", ["Whitening", "supported: Transformer first"]),
        ("custom_st.Transformer", ["custom_st.Transformer", "code of the model's own"]),
    ],
)
def test_other_modules_are_refused_by_name(tmp_path: Path, module: str, told: list[str]) -> None:
    folder = written(tmp_path, theirs.Pooling(16))
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_X", "type": module})
    write_json(folder / "modules.json", modules)
    with pytest.raises(InputError) as error:
        Embedder(folder)
    assert all(part in str(error.value) for part in [*told, "modules.json", "module 2"])


def test_broken_modules_are_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, theirs.Pooling(16), theirs.Dense(16, 6))
    dense, pooling = folder / "2_Dense", folder / "1_Pooling" / "config.json"
    saved = json.loads(pooling.read_text())
    write_json(pooling, saved | {"pooling_mode": "median"})
    with pytest.raises(InputError, match=r"1_Pooling/config\.json: pooling_mode is 'median'; known: cls, max"):
        Embedder(folder)
    write_json(pooling, saved | {"pooling_mode": ["cls", "max"]})
    with pytest.raises(InputError, match="Dense, takes 16 numbers, but sentence_embedding has 32"):
        Embedder(folder)
    write_json(pooling, saved)
    config = json.loads((dense / "config.json").read_text())
    write_json(dense / "config.json", config | {"activation_function": "os.system"})
    with pytest.raises(InputError, match=r"activation_function is 'os\.system'; known: torch\.nn's Identity"):
        Embedder(folder)
    shutil.rmtree(dense)
    with pytest.raises(InputError, match="2_Dense"):
        Embedder(folder)


PAIRS = [{"sentence1": f"a film {i}", "sentence2": f"the cinema {i}"} for i in range(8)]


def trained(tmp_path: Path, folder: Path, **options: Any) -> Path:
    """A run of one update on pairs, from a folder."""
    rows = write_rows(tmp_path / "pairs.jsonl", PAIRS)
    source = {"task": "embedding", "encoder": str(folder), "train": str(rows), "output": str(tmp_path / "out")}
    train(**source, max_steps=1, max_seq_length=16, validation_share=0, **options)
    return tmp_path / "out"


@pytest.mark.parametrize("module", [theirs.Dense(16, 6), theirs.LayerNorm(16)])
def test_training_refuses_modules_whose_weights_it_would_drop(tmp_path: Path, module: Any) -> None:
    folder = written(tmp_path, theirs.Pooling(16), module)
    with pytest.raises(InputError, match=f"{type(module).__name__}, whose weights task embedding does not train"):
        trained(tmp_path, folder)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_training_pools_as_the_folder_says(tmp_path: Path) -> None:
    folder = written(tmp_path, theirs.Pooling(16, pooling_mode="cls"), theirs.Normalize())
    out = trained(tmp_path, folder)
    assert json.loads((out / "1_Pooling" / "config.json").read_text())["pooling_mode_cls_token"] is True
    assert_equal(out)


def test_training_refuses_a_pooling_that_it_has_not_unless_one_is_chosen(tmp_path: Path) -> None:
    folder = written(tmp_path, theirs.Pooling(16, pooling_mode=("max", "mean")))
    with pytest.raises(InputError, match="pools by max and mean, which task embedding does not train; choose"):
        trained(tmp_path, folder)
    out = trained(tmp_path, folder, pooling="mean")
    assert json.loads((out / "1_Pooling" / "config.json").read_text())["pooling_mode_mean_tokens"] is True
