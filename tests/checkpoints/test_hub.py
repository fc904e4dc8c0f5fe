"""Models from the Hugging Face Hub, from a server on the loopback: what is asked for, what is said when it fails."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from sentence_transformers import SentenceTransformer

from bertune.checkpoints.hub import parse_hub_id
from bertune.embedding import embed
from bertune.errors import InputError
from tests.checkpoints.hub_server import Hub, Repo, served
from tests.tiny import settings, tensors, write_encoder

FETCH = """
import logging, sys
from bertune.checkpoints.hub import fetch, parse_hub_id
from bertune.errors import InputError
logging.basicConfig(format="%(message)s", level=logging.WARNING)
try:
    print(fetch(*parse_hub_id(sys.argv[1])))
except InputError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
"""


@dataclass
class Client:
    """Programs of their own, as the library reads its settings when it is imported."""

    home: Path
    endpoint: str = "http://127.0.0.1:9"

    def run(self, arguments: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        kept |= {"HF_HOME": str(self.home), "HF_ENDPOINT": self.endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
        kept |= {"OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            env=kept | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def fetch(self, source: str, **environment: str) -> Path:
        done = self.run(["-c", FETCH, source], **environment)
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    def refused(self, source: str, *told: str, **environment: str) -> None:
        done = self.run(["-c", FETCH, source], **environment)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        missing = [part for part in told if part not in done.stderr]
        assert not missing, done.stderr

    def start(self, source: str) -> subprocess.Popen[str]:
        """`fetch` in the background."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        kept |= {"HF_HOME": str(self.home), "HF_ENDPOINT": self.endpoint, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", FETCH, source], env=kept, stderr=subprocess.DEVNULL, text=True)

    def unfinished(self) -> list[Path]:
        """Files that a broken download left behind."""
        return [path for path in self.home.rglob("*") if path.name.endswith(".incomplete")]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "home")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """The files of a tiny encoder."""
    folder = write_encoder(tmp_path / "encoder")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def extra() -> dict[str, bytes]:
    """What models on the Hub hold besides."""
    names = ("README.md", "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx", "rust_model.ot")
    return {name: name.encode() * 100 for name in names}


def sharded(folder: Path) -> dict[str, bytes]:
    """The tiny encoder's weights in two shards with their index."""
    weights = tensors(settings())
    names = sorted(weights)
    made: dict[str, bytes] = {}
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:10], names[10:]), 1):
        name = f"model-{number:05}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, folder / name)
        made[name] = (folder / name).read_bytes()
        weight_map |= dict.fromkeys(part, name)
    return made | {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}


def connect(client: Client, hub: Hub) -> None:
    client.endpoint = hub.endpoint


def test_only_what_is_needed_and_only_once(client: Client, files: dict[str, bytes]) -> None:
    with served({"org/name": Repo({"main": files | extra()})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
        assert {path.name for path in folder.iterdir()} == set(files)
        assert all((folder / name).read_bytes() == data for name, data in files.items())
        assert sorted(hub.downloads()) == sorted(files)
        assert client.fetch("org/name") == folder
        assert sorted(hub.downloads()) == sorted(files)


def test_the_whole_program(client: Client, files: dict[str, bytes]) -> None:
    with served({"org/name": Repo({"main": files})}) as hub:
        connect(client, hub)
        done = client.run(["-m", "bertune", "inspect", "org/name", "--json"])
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["family"] == "bert"
    assert set(facts["sha256"]) == set(files)
    assert "Downloading" not in done.stderr  # no bars where nobody looks


def test_revisions(client: Client, files: dict[str, bytes]) -> None:
    other = files | {"vocab.txt": files["vocab.txt"] + b"other\n"}
    with served({"org/name": Repo({"main": files, "v2": other})}) as hub:
        connect(client, hub)
        assert (client.fetch("org/name@v2") / "vocab.txt").read_bytes() == other["vocab.txt"]
        assert (client.fetch("org/name") / "vocab.txt").read_bytes() == files["vocab.txt"]
        client.refused("org/name@v3", "org/name@v3", "no such branch, tag or commit")


def test_shards(client: Client, files: dict[str, bytes], tmp_path: Path) -> None:
    del files["model.safetensors"]
    files |= sharded(tmp_path)
    with served({"org/name": Repo({"main": files | extra()})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
    assert {path.name for path in folder.iterdir()} == set(files)
    assert client.fetch("org/name", HF_HUB_OFFLINE="1") == folder
    (folder / "model-00002-of-00002.safetensors").unlink()
    client.refused("org/name", "not whole", HF_HUB_OFFLINE="1")


def test_a_pickle_where_there_is_nothing_better(client: Client, files: dict[str, bytes]) -> None:
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    with served({"org/name": Repo({"main": files})}) as hub:
        connect(client, hub)
        assert (client.fetch("org/name") / "pytorch_model.bin").is_file()


def sentence_files(files: dict[str, bytes], pooling: str) -> dict[str, bytes]:
    """A model of sentence-transformers with a dense layer, its weights in both forms."""
    kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    dense = {"linear.weight": torch.randn(4, 16), "linear.bias": torch.randn(4)}
    config = {"in_features": 16, "out_features": 4, "activation_function": "torch.nn.modules.linear.Identity"}
    return files | {
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": json.dumps({"word_embedding_dimension": 16, "pooling_mode": pooling}).encode(),
        "2_Dense/config.json": json.dumps(config).encode(),
        "2_Dense/model.safetensors": save(dense),
        "2_Dense/pytorch_model.bin": b"never asked for",
        "sentence_bert_config.json": b'{"max_seq_length": 12, "do_lower_case": false}',
        "config_sentence_transformers.json": b'{"prompts": {"query": "is "}, "default_prompt_name": "query"}',
    }


@pytest.mark.parametrize("pooling", ["cls", "max"])
def test_the_modules_of_sentence_transformers_come_along(
    client: Client, files: dict[str, bytes], tmp_path: Path, pooling: str
) -> None:
    whole = sentence_files(files, pooling)
    with served({"org/name": Repo({"main": whole | extra()})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
    fetched = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert fetched == set(whole) - {"2_Dense/pytorch_model.bin"}
    assert client.fetch("org/name", HF_HUB_OFFLINE="1") == folder
    vectors = embed(["the film", "a"], folder, precision="fp32")
    np.testing.assert_allclose(
        vectors, SentenceTransformer(str(folder), device="cpu").encode(["the film", "a"]), atol=1e-5
    )


def test_an_encoder_in_the_first_modules_folder(client: Client, files: dict[str, bytes]) -> None:
    """As sentence-transformers before version 2 wrote it."""
    modules = [
        {"idx": 0, "name": "0", "path": "0_BERT", "type": "sentence_transformers.models.BERT"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    whole = {f"0_BERT/{name}": data for name, data in files.items()} | {
        "modules.json": json.dumps(modules).encode(),
        "1_Pooling/config.json": b'{"word_embedding_dimension": 16, "pooling_mode_cls_token": true}',
    }
    with served({"org/name": Repo({"main": whole | extra()})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
    fetched = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert fetched == set(whole)
    assert embed(["the film"], folder).shape == (1, 16)


def test_an_interrupted_download_goes_on_where_it_stopped(client: Client, files: dict[str, bytes]) -> None:
    received = 10 << 20  # the library writes in pieces of this size
    weights = os.urandom(24 << 20)
    files["model.safetensors"] = weights
    with served({"org/name": Repo({"main": files}, cut={"model.safetensors": 1})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
        assert (folder / "model.safetensors").read_bytes() == weights
        spans = [line.partition("bytes=")[2] for line in hub.requests if "bytes=" in line]
        assert spans == [f"{received}-"]
    assert not client.unfinished()


@pytest.mark.parametrize("sha256", [True, False])
def test_another_process_goes_on_where_one_was_killed(client: Client, files: dict[str, bytes], sha256: bool) -> None:
    received = 10 << 20  # the library writes in pieces of this size
    weights = os.urandom(24 << 20)
    files["model.safetensors"] = weights
    repo = Repo({"main": files}, stalled={"model.safetensors"}, sha256=sha256)
    with served({"org/name": repo}) as hub:
        connect(client, hub)
        killed = client.start("org/name")
        deadline = time.monotonic() + 90
        while not any(path.stat().st_size >= received for path in client.unfinished()):
            assert time.monotonic() < deadline
            assert killed.poll() is None
            time.sleep(0.05)
        killed.kill()
        killed.wait()
        (left,) = client.unfinished()
        size = left.stat().st_size
        assert left.read_bytes() == weights[:size]
        assert not list(client.home.rglob("model.safetensors"))
        repo.stalled.clear()
        asked = len(hub.requests)
        folder = client.fetch("org/name")
        spans = [line.partition("bytes=")[2] for line in hub.requests[asked:] if "bytes=" in line]
    assert spans == [f"{size}-"]
    assert (folder / "model.safetensors").read_bytes() == weights
    assert not client.unfinished()


def test_what_arrives_with_another_hash_does_not_enter_the_cache(client: Client, files: dict[str, bytes]) -> None:
    files["model.safetensors"] = os.urandom(9 << 20)
    lies = {"model.safetensors": b"something else"}
    with served({"org/name": Repo({"main": files}, sha256=True, lies=lies)}) as hub:
        connect(client, hub)
        client.refused("org/name", "model.safetensors", "SHA-256", "expected")
    assert not client.unfinished()
    assert not list(client.home.rglob("model.safetensors"))


def test_a_download_that_fails_leaves_nothing_half(client: Client, files: dict[str, bytes]) -> None:
    files["model.safetensors"] = os.urandom(64)
    repo = Repo({"main": files}, cut={"model.safetensors": 100})
    with served({"org/name": repo}) as hub:
        connect(client, hub)
        client.refused("org/name", "org/name", "not whole")
        assert not client.unfinished()
        assert not list(client.home.rglob("model.safetensors"))
        client.refused("org/name", "not whole", HF_HUB_OFFLINE="1")
        before = len(hub.downloads())
        repo.cut.clear()
        folder = client.fetch("org/name")
        assert set(hub.downloads()[before:]) == {"model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_without_network(client: Client, files: dict[str, bytes]) -> None:
    client.refused("org/name", "org/name", "no such file or folder", "cannot be reached", "holds no copy")
    client.refused("org/name", "org/name", "HF_HUB_OFFLINE", "holds no copy", HF_HUB_OFFLINE="1")
    with served({"org/name": Repo({"main": files})}) as hub:
        connect(client, hub)
        folder = client.fetch("org/name")
        asked = len(hub.requests)
        assert client.fetch("org/name", HF_HUB_OFFLINE="1") == folder
        assert len(hub.requests) == asked
    done = client.run(["-c", FETCH, "org/name"])
    assert done.stdout.strip() == str(folder)
    assert "using the copy" in done.stderr


def test_missing_and_gated_models(client: Client, files: dict[str, bytes]) -> None:
    with served({"org/gated": Repo({"main": files}, gated=True)}) as hub:
        connect(client, hub)
        client.refused("org/nothing", "org/nothing", "no such file or folder", "no such model", "HF_TOKEN")
        client.refused("org/gated", "org/gated", "gated", "HF_TOKEN")
    assert not list(client.home.rglob("config.json"))


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("config.json", "no config.json"),
        ("vocab.txt", "neither tokenizer.json nor vocab.txt"),
        ("model.safetensors", "neither model.safetensors nor pytorch_model.bin"),
    ],
)
def test_models_that_hold_no_encoder(client: Client, files: dict[str, bytes], gone: str, told: str) -> None:
    del files[gone]
    with served({"org/name": Repo({"main": files | {"tf_model.h5": b"x"}})}) as hub:
        connect(client, hub)
        client.refused("org/name", told, "tf_model.h5")
        assert not hub.downloads()


def test_an_index_that_climbs_out(client: Client, files: dict[str, bytes]) -> None:
    del files["model.safetensors"]
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "../../x.safetensors"}}).encode()
    with served({"org/name": Repo({"main": files})}) as hub:
        connect(client, hub)
        client.refused("org/name", "../../x.safetensors", "outside")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("org/name", ("org/name", None)),
        ("org/na.me-1@v1.0", ("org/na.me-1", "v1.0")),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3")),
        ("bert-base-uncased", ("google-bert/bert-base-uncased", None)),
        ("xlm-roberta-base@main", ("FacebookAI/xlm-roberta-base", "main")),
        ("distilbert-base-cased", ("distilbert/distilbert-base-cased", None)),
        ("encoder", None),
        ("a/b/c", None),
        ("models/bert.zip", None),
        ("models/bert_model.ckpt", None),
        ("./org/name", None),
        ("../name", None),
        ("/org/name", None),
        ("org/name@", None),
        ("org/name@-x", None),
        ("~/name", None),
        ("", None),
    ],
)
def test_what_counts_as_an_id(source: str, expected: tuple[str, str | None] | None) -> None:
    assert parse_hub_id(source) == expected


def test_a_folder_goes_before_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertune.checkpoints import hub
    from bertune.checkpoints.source import open_encoder

    def never(repo: str, revision: str | None = None) -> Path:
        raise InputError(f"asked the Hub for {repo}")

    monkeypatch.setattr(hub, "fetch", never)
    monkeypatch.chdir(tmp_path)
    write_encoder(tmp_path / "org" / "name")
    open_encoder("org/name")
    with pytest.raises(InputError, match="asked the Hub for org/other"):
        open_encoder("org/other")
