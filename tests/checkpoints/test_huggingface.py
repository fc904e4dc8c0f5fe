"""Hugging Face folders: every form that weights are kept in, and what is told about broken ones."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertune.checkpoints.huggingface import (
    config_from_json,
    config_to_json,
    encoder_names,
    is_huggingface_folder,
    read_huggingface,
    read_tensors,
    write_huggingface,
)
from bertune.checkpoints.names import to_ours, to_theirs
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.files.json_files import read_json
from tests import tiny
from tests.tiny import write_encoder, write_json


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole encoder."""
    return write_encoder(tmp_path / "encoder")


def told(folder: Path, *parts: object) -> str:
    """What is said about a folder; it must hold all of `parts`."""
    with pytest.raises(InputError) as error:
        read_huggingface(folder)
    missing = [str(part) for part in parts if str(part) not in str(error.value)]
    assert not missing, str(error.value)
    return str(error.value)


def replace_weights(folder: Path, write: Callable[[dict[str, Tensor]], None]) -> dict[str, Tensor]:
    """Take model.safetensors away and have its tensors written in another form."""
    state: dict[str, Tensor] = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    write(state)
    return state


def shards(folder: Path, kind: str = "model.safetensors") -> Callable[[dict[str, Tensor]], None]:
    """Writes weights in three shards with an index."""

    def write(state: dict[str, Tensor]) -> None:
        stem, suffix = kind.split(".")
        names = sorted(state)
        weight_map: dict[str, str] = {}
        for i in range(3):
            file = f"{stem}-{i + 1:05}-of-00003.{suffix}"
            part = {name: state[name] for name in names[i::3]}
            weight_map |= dict.fromkeys(part, file)
            torch.save(part, folder / file) if suffix == "bin" else save_file(part, folder / file)
        write_json(folder / f"{kind}.index.json", {"metadata": {"total_size": 1}, "weight_map": weight_map})

    return write


def as_pickle(folder: Path, old: bool = False) -> Callable[[dict[str, Tensor]], None]:
    """Writes weights as pytorch_model.bin, in the format since 2020 or the one before."""

    def write(state: dict[str, Tensor]) -> None:
        torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old)

    return write


FORMS: dict[str, Callable[[Path], Callable[[dict[str, Tensor]], None]]] = {
    "shards": shards,
    "pickled shards": lambda folder: shards(folder, "pytorch_model.bin"),
    "pickle": as_pickle,
    "old pickle": lambda folder: as_pickle(folder, old=True),
    "half precision": lambda folder: (
        lambda state: save_file({name: tensor.half() for name, tensor in state.items()}, folder / "model.safetensors")
    ),
    "below a head": lambda folder: (
        lambda state: save_file(
            {f"bert.{name}": tensor for name, tensor in state.items()} | {"classifier.bias": torch.zeros(2)},
            folder / "model.safetensors",
        )
    ),
    "old names of norms": lambda folder: (
        lambda state: save_file(
            {
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
                for name, tensor in state.items()
            },
            folder / "model.safetensors",
        )
    ),
    "with position_ids": lambda folder: (
        lambda state: save_file(
            state | {"embeddings.position_ids": torch.arange(64)[None]}, folder / "model.safetensors"
        )
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_weights(folder: Path, form: str) -> None:
    state = replace_weights(folder, FORMS[form](folder))
    found = read_huggingface(folder)
    assert found.tensors.keys() >= state.keys()
    for name, tensor in state.items():
        expected = tensor.half() if form == "half precision" else tensor
        assert torch.equal(found.tensors[name], expected)


@pytest.mark.parametrize("kind", ["BertModel", "BertForMaskedLM", "BertForSequenceClassification"])
@pytest.mark.parametrize("shard_size", ["1GB", "5KB"])
def test_what_transformers_saves(tmp_path: Path, kind: str, shard_size: str) -> None:
    torch.manual_seed(0)
    config = {key: value for key, value in tiny.settings().items() if key not in ("architectures", "model_type")}
    theirs = getattr(transformers, kind)(transformers.BertConfig(**config))
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").is_file() == (shard_size == "5KB")
    found = read_huggingface(tmp_path)
    assert found.config == EncoderConfig(
        vocab_size=len(tiny.VOCABULARY), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    ours, missing, _ = to_ours(encoder_names(found.config), found.tensors)
    assert missing == []
    state = {name.removeprefix("bert."): tensor for name, tensor in theirs.state_dict().items()}
    query = state["encoder.layer.1.attention.self.query.weight"]
    assert torch.equal(ours["layers.1.attention.qkv.weight"][:16], query)
    assert torch.equal(ours["embeddings.word.weight"], state["embeddings.word_embeddings.weight"])
    assert ("pooler.weight" in ours) == (kind != "BertForMaskedLM")


def test_write_and_read(tmp_path: Path, folder: Path) -> None:
    found = read_huggingface(folder)
    (tmp_path / "new").mkdir()
    ours, _, _ = to_ours(encoder_names(found.config), found.tensors)
    theirs = to_theirs(encoder_names(found.config, prefix="bert."), ours)
    assert all(name.startswith("bert.") for name in theirs)
    write_huggingface(tmp_path / "new", config_to_json(found.config), theirs)
    again = read_huggingface(tmp_path / "new")
    assert again.config == found.config
    assert again.tensors.keys() == found.tensors.keys()
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in found.tensors.items())


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "tanh", "linear"])
def test_activations(activation: str) -> None:
    config = config_from_json(tiny.settings(hidden_act=activation), "config.json")
    again = config_from_json(config_to_json(config), "config.json")
    assert again == config
    if activation != "linear":
        layer = transformers.activations.ACT2FN[str(config_to_json(config)["hidden_act"])]
        x = torch.linspace(-4, 4, 99)
        assert torch.allclose(layer(x), transformers.activations.ACT2FN[activation](x), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"model_type": "gpt2"}, ["'gpt2'", "bert"]),
        ({"model_type": "deberta"}, ["'deberta'", "deberta-v2"]),
        ({"position_embedding_type": "relative"}, ["'relative'", "'absolute'", "'relative_key'"]),
        ({"hidden_act": "mish"}, ["'mish'", "gelu"]),
        ({"is_decoder": True}, ["is_decoder is True", "set it to false"]),
        ({"vocab_size": 0}, ["vocab_size is 0"]),
        ({"hidden_size": 16.5}, ["hidden_size is 16.5"]),
        ({"num_hidden_layers": "2"}, ["num_hidden_layers is '2'"]),
        ({"num_attention_heads": 3}, ["16", "3"]),
        ({"hidden_dropout_prob": 1.5}, ["hidden_dropout_prob is 1.5"]),
        ({"hidden_size": True, "intermediate_size": -1}, ["hidden_size is True", "intermediate_size is -1"]),
    ],
)
def test_config_of_something_else(folder: Path, changes: dict[str, object], parts: list[str]) -> None:
    write_json(folder / "config.json", tiny.settings(**changes))
    told(folder, folder / "config.json", *parts)


def test_config_without_a_vocabulary(folder: Path) -> None:
    settings = tiny.settings()
    del settings["vocab_size"]
    write_json(folder / "config.json", settings)
    told(folder, folder / "config.json", "vocab_size")


def test_config_of_another_kind_that_does_not_say_so(folder: Path) -> None:
    write_json(folder / "config.json", {"architectures": ["Thing"], "layers": 3})
    told(folder, folder / "config.json", "vocab_size")


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"null", b"\xff\xfe{}", b"[" * 100_000])
def test_config_that_is_no_json_object(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    told(folder, folder / "config.json")


def test_json_problems_name_the_place(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1,\n "b": }')
    with pytest.raises(InputError, match=r"a\.json, line 2, column 7"):
        read_json(tmp_path / "a.json")
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "b.json")
    assert not is_huggingface_folder(tmp_path)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)  # fmt: skip


@given(st.sampled_from(sorted({*tiny.settings(), "initializer_range", "position_embedding_type"})), anything)
@example("hidden_act", [])
@example("layer_norm_eps", "small")
def test_config_with_any_value(key: str, value: object) -> None:
    try:
        config = config_from_json(tiny.settings(**{key: value}), "config.json")
    except InputError:
        return
    for number in (config.layer_norm_eps, config.initializer_range):
        assert isinstance(number, int | float)
        assert not isinstance(number, bool)
        assert 0 <= number < float("inf")
    assert type(config.pad_token_id) is int


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    told(folder, folder, "model.safetensors", "pytorch_model.bin")


def test_safetensors_cut_short_or_overwritten(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for bad in (b"", data[:5], data[:300], data[:-4], data + b"more", b"\xff" * 8 + data[8:], b"<html>404</html>"):
        file.write_bytes(bad)
        told(folder, file, "again")


@pytest.mark.parametrize("old", [False, True])
def test_pickles_cut_short(folder: Path, old: bool) -> None:
    replace_weights(folder, as_pickle(folder, old))
    file = folder / "pytorch_model.bin"
    data = file.read_bytes()
    for size in (0, 1, 10, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:size])
        told(folder, file)
    file.write_bytes(b"<html>not found</html>")
    told(folder, file)


class Trap:
    """Unpickles to a call that leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("form", ["new", "old", "plain pickle", "in a shard"])
def test_a_pickle_that_would_run_code_runs_none(folder: Path, tmp_path: Path, form: str) -> None:
    mark = tmp_path / "code has run"

    def write(state: dict[str, Tensor]) -> None:
        bad = state | {"pooler.dense.bias": Trap(mark)}
        if form == "plain pickle":
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(mark)))
        elif form == "in a shard":
            torch.save(bad, folder / "part.bin")
            write_json(folder / "pytorch_model.bin.index.json", {"weight_map": dict.fromkeys(bad, "part.bin")})
        else:
            torch.save(bad, folder / "pytorch_model.bin", _use_new_zipfile_serialization=form == "new")

    replace_weights(folder, write)
    told(folder, folder / ("part.bin" if form == "in a shard" else "pytorch_model.bin"), "model.safetensors")
    assert not mark.exists()


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {"a": {"b": torch.zeros(1)}}, torch.zeros(3)])
def test_a_pickle_of_something_else(folder: Path, content: object) -> None:
    replace_weights(folder, lambda _: torch.save(content, folder / "pytorch_model.bin"))
    told(folder, folder / "pytorch_model.bin", "dictionary of tensors")


def test_safetensors_go_before_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"nonsense")
    assert read_tensors(folder)


def test_every_missing_shard_is_told(folder: Path) -> None:
    replace_weights(folder, shards(folder))
    (folder / "model-00001-of-00003.safetensors").unlink()
    (folder / "model-00003-of-00003.safetensors").unlink()
    told(folder, "model-00001-of-00003.safetensors: ", "model-00003-of-00003.safetensors: ", "missing")


def test_a_shard_without_its_tensors(folder: Path) -> None:
    replace_weights(folder, shards(folder))
    save_file({"other": torch.zeros(1)}, folder / "model-00002-of-00003.safetensors")
    told(folder, "embeddings.LayerNorm.weight", "model-00002-of-00003.safetensors", "problems")


def test_a_shard_cut_short(folder: Path) -> None:
    replace_weights(folder, shards(folder))
    file = folder / "model-00002-of-00003.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    told(folder, file)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/{}/secret.safetensors", "a/../../secret.safetensors", ""])
def test_shards_outside_the_folder_are_not_opened(folder: Path, tmp_path: Path, name: str) -> None:
    state = replace_weights(folder, lambda state: save_file(state, tmp_path / "secret.safetensors"))
    path = name.format(str(tmp_path).strip("/"))
    write_json(folder / "model.safetensors.index.json", {"weight_map": dict.fromkeys(state, path)})
    told(folder, folder / "model.safetensors.index.json", "outside")


@pytest.mark.parametrize("tree", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}, {"weight_map": {"a": None}}])
def test_an_index_without_a_map(folder: Path, tree: object) -> None:
    replace_weights(folder, lambda _: None)
    write_json(folder / "model.safetensors.index.json", tree)
    told(folder, folder / "model.safetensors.index.json", "weight_map")


def test_everything_of_config_json_is_handed_on(folder: Path) -> None:
    write_json(folder / "config.json", tiny.settings(id2label={"0": "a"}, wings=2))
    assert read_huggingface(folder).settings == json.loads((folder / "config.json").read_text())
