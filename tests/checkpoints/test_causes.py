"""Weights that cannot be read: the message says the cause. Folders and checkpoints under other names: they are read."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from bertune.checkpoints.google import read_google_checkpoint
from bertune.checkpoints.source import SourceOptions, open_checkpoint, open_encoder
from bertune.errors import InputError
from bertune.tensorflow_formats.tensor_bundle import TensorBundle, write_bundle
from tests.test_conversion import google_checkpoint
from tests.tiny import settings, tensors, weights, write_encoder, write_json

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90\n"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pointer_of_git_lfs(tmp_path: Path, name: str) -> None:
    folder = write_encoder(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(POINTER)
    with pytest.raises(InputError, match=f"{name}: a Git LFS pointer .*git lfs pull"):
        open_encoder(folder)


@pytest.mark.parametrize("name", ["tf_model.h5", "flax_model.msgpack"])
def test_weights_for_other_programs_alone(tmp_path: Path, name: str) -> None:
    folder = write_encoder(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(InputError, match=f"{name} is there, but its weights are there for TensorFlow or Flax alone"):
        open_encoder(folder)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.bert.", "net.encoder.0.auto_model."])
def test_names_behind_a_foreign_prefix(tmp_path: Path, prefix: str) -> None:
    folder = write_encoder(tmp_path)
    save_file({prefix + name: one for name, one in weights(folder).items()}, folder / "model.safetensors")
    with pytest.raises(InputError, match=f"put '{prefix}' before all names".replace(".", r"\.")):
        open_encoder(folder)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_tensors_in_a_training_programs_checkpoint(tmp_path: Path, key: str) -> None:
    folder = write_encoder(tmp_path)
    torch.save({key: weights(folder), "epoch": 3}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=f"tensors lie under '{key}'; save them alone"):
        open_encoder(folder)


def test_bert_config_and_pytorch_model(tmp_path: Path) -> None:
    """As the first Chinese releases in PyTorch."""
    folder = write_encoder(tmp_path / "a")
    plain = open_encoder(folder)[0].state_dict()
    config = {key: value for key, value in settings().items() if key not in {"model_type", "architectures"}}
    write_json(folder / "bert_config.json", config)
    torch.save({f"bert.{name}": one for name, one in weights(folder).items()}, folder / "pytorch_model.bin")
    for name in ("config.json", "model.safetensors", "tokenizer_config.json"):
        (folder / name).unlink()
    encoder, tokenizer = open_encoder(folder)
    assert encoder.config.hidden_act == "gelu"
    assert tokenizer.do_lower_case is True
    assert all(torch.equal(one, plain[name]) for name, one in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "prefix", "family"),
    [
        ({"architectures": ["RobertaForMaskedLM"]}, "roberta.", "roberta"),
        ({"architectures": ["XLMRobertaModel"]}, "", "xlm-roberta"),
        ({}, "roberta.", "roberta"),
        ({}, "bert.", "bert"),
        ({"type_vocab_size": 1, "pad_token_id": 1}, "", None),  # but a vocab.txt: it could be either
        ({"architectures": ["ThingModel"]}, "", None),
    ],
)
def test_configs_without_model_type(
    tmp_path: Path, changes: dict[str, object], prefix: str, family: str | None
) -> None:
    folder = write_encoder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in {"model_type", "architectures"}}
    write_json(folder / "config.json", kept | changes)
    stored = load_file(folder / "model.safetensors")
    save_file({prefix + name: one for name, one in stored.items()}, folder / "model.safetensors")
    if family is None:
        with pytest.raises(InputError, match="model_type"), open_checkpoint(folder):
            pass
        return
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.config.family == family


@pytest.mark.parametrize("kind", ["sans_pos", None, "absolute"])
def test_position_types_that_a_family_ignores(tmp_path: Path, kind: str | None) -> None:
    from bertune.checkpoints.huggingface import config_from_json

    modern = {"model_type": "modernbert", "vocab_size": 9, "position_embedding_type": kind}
    assert config_from_json(modern, "config.json").rotary_base == 160_000
    plain = settings(position_embedding_type=kind)
    if kind == "sans_pos":
        with pytest.raises(InputError, match="position_embedding_type is 'sans_pos'"):
            config_from_json(plain, "config.json")
    else:
        assert config_from_json(plain, "config.json").family == "bert"


def renamed(source: Path, change: dict[str, str]) -> None:
    """The checkpoint's variables under other names."""
    bundle = TensorBundle(source / "bert_model.ckpt")
    arrays = {}
    for name in bundle.names():
        new = name
        for old, other in change.items():
            new = new.replace(old, other)
        arrays[new] = np.array(bundle.read(name))
    write_bundle(source / "bert_model.ckpt", arrays)


@pytest.mark.parametrize(
    "change",
    [
        {"bert/": "module/bert/"},
        {"bert/": "electra/"},
        {"LayerNorm/": "layer_normalization_7/"},
        {"bert/": "a/b/bert/", "LayerNorm/": "layer_normalization/"},
    ],
)
def test_other_scopes(tmp_path: Path, change: dict[str, str]) -> None:
    source, _ = google_checkpoint(tmp_path / "google", "text-classification", 2)
    expected = open_encoder(source)[0].state_dict()
    renamed(source, change)
    (source / "bert_config.json").rename(source / "config.json")
    (source / "vocab.txt").write_text((source / "vocab.txt").read_text() + "\n")
    found = open_encoder(source)[0].state_dict()
    assert all(torch.equal(one, found[name]) for name, one in expected.items())


def test_one_of_several_scopes(tmp_path: Path) -> None:
    source, _ = google_checkpoint(tmp_path / "google", "text-classification", 2)
    bundle = TensorBundle(source / "bert_model.ckpt")
    names = [name for name in bundle.names() if name.startswith("bert/")]
    both = {name.replace("bert/", f"{scope}/"): np.array(bundle.read(name)) for name in names for scope in "ab"}
    write_bundle(source / "bert_model.ckpt", both)
    with pytest.raises(InputError, match="several encoders; name one: --scope SCOPE, of: a, b"):
        read_google_checkpoint(source)
    assert len(read_google_checkpoint(source, scope="b").tensors) == len(names)
    with pytest.raises(InputError, match=r"--scope c: .* scopes there: a, b"):
        read_google_checkpoint(source, scope="c")


def test_casing_can_be_overruled(tmp_path: Path) -> None:
    source, _ = google_checkpoint(tmp_path / "chinese_L-12", "text-classification", 2)
    with open_checkpoint(source) as checkpoint:
        assert checkpoint.tokenizer.do_lower_case is True
    with open_checkpoint(source, options=SourceOptions(do_lower_case=False)) as checkpoint:
        assert checkpoint.tokenizer.do_lower_case is False
    folder = write_encoder(tmp_path / "hf")
    with open_checkpoint(folder, options=SourceOptions(do_lower_case=False)) as checkpoint:
        assert checkpoint.tokenizer.do_lower_case is False
    assert tensors(settings()).keys() == weights(folder).keys()


def test_gelu_new_in_googles_config(tmp_path: Path) -> None:
    source, _ = google_checkpoint(tmp_path / "google", "text-classification", 2)
    for name in ("gelu_new", "gelu_pytorch_tanh", "gelu"):
        config = json.loads((source / "bert_config.json").read_text())
        write_json(source / "bert_config.json", config | {"hidden_act": name})
        assert open_encoder(source)[0].config.hidden_act == "gelu_tanh"
