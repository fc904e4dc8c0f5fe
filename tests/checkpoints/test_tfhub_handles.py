"""Handles of TF-Hub and Kaggle: their names, the local cache, the optional package."""

import hashlib
import shutil
import sys
import types
from pathlib import Path

import pytest

from bertune.checkpoints import tfhub_handles
from bertune.checkpoints.hub import parse_hub_id
from bertune.checkpoints.source import open_checkpoint
from bertune.errors import InputError

HANDLE = "https://tfhub.dev/google/bert_uncased_L-12_H-768_A-12/1"
KAGGLE = "google/bert/tensorFlow1/uncased-l-12-h-768-a-12/1"


@pytest.mark.parametrize(
    ("handle", "kaggle"),
    [
        (HANDLE, KAGGLE),
        (KAGGLE, KAGGLE),
        (KAGGLE.replace("tensorFlow1", "TensorFlow1"), KAGGLE),
        (f"https://www.kaggle.com/models/{KAGGLE}", KAGGLE),
        (
            "https://www.kaggle.com/models/google/bert/frameworks/tensorFlow1/variations/uncased-l-12-h-768-a-12/versions/1",
            KAGGLE,
        ),
        ("google/bert/tensorFlow1/chinese-l-12-h-768-a-12", "google/bert/tensorFlow1/chinese-l-12-h-768-a-12"),
        (
            "https://tfhub.dev/tensorflow/bert_en_uncased_L-12_H-768_A-12/4",
            "tensorflow/bert/tensorFlow2/en-uncased-l-12-h-768-a-12/4",
        ),
        (
            "https://tfhub.dev/tensorflow/small_bert/bert_en_uncased_L-4_H-512_A-8/1",
            "tensorflow/bert/tensorFlow2/bert-en-uncased-l-4-h-512-a-8/1",
        ),
    ],
)
def test_names_on_kaggle(handle: str, kaggle: str) -> None:
    assert tfhub_handles.is_handle(handle)
    assert tfhub_handles.kaggle_handle(handle) == kaggle
    assert parse_hub_id(handle) is None


@pytest.mark.parametrize("source", ["org/name", "out/a/b/model", "google/bert", "https://huggingface.co/org/name", "x"])
def test_what_is_no_handle(source: str) -> None:
    assert not tfhub_handles.is_handle(source)


def test_a_module_whose_name_no_rule_tells() -> None:
    with pytest.raises(InputError, match="on Kaggle is not known"):
        tfhub_handles.kaggle_handle("https://tfhub.dev/google/universal-sentence-encoder/4")


@pytest.mark.parametrize(
    ("handle", "name"),
    [
        (HANDLE, hashlib.sha1(HANDLE.encode()).hexdigest()),
        (f"{HANDLE}/", hashlib.sha1(HANDLE.encode()).hexdigest()),
        (f"{HANDLE}?tf-hub-format=compressed", hashlib.sha1(HANDLE.encode()).hexdigest()),
        (HANDLE, "google/bert_uncased_L-12_H-768_A-12/1"),
        (KAGGLE, KAGGLE),
        (f"https://www.kaggle.com/models/{KAGGLE}", KAGGLE),
    ],
)
def test_the_local_cache(handle: str, name: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(shared / "golden/hub/tiny_module", tmp_path / name)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with open_checkpoint(handle) as checkpoint:
        assert checkpoint.path == tmp_path / name
        assert checkpoint.dialect == "TF-Hub"
        assert checkpoint.tokenizer.do_lower_case is True


def test_neither_cached_nor_kagglehub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError) as error, open_checkpoint(HANDLE):
        pass
    name = hashlib.sha1(HANDLE.encode()).hexdigest()
    for part in (HANDLE, "TFHUB_CACHE_DIR", "bertune[kaggle]", str(tmp_path / name)):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_kagglehub_downloads(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def model_download(handle: str) -> str:
        asked.append(handle)
        if handle != KAGGLE:
            raise ConnectionError("no route to host\nmore")
        return str(shared / "golden/hub/tiny_module")

    package = types.ModuleType("kagglehub")
    package.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    package.model_download = model_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kagglehub", package)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    with open_checkpoint(HANDLE) as checkpoint:
        assert checkpoint.path == shared / "golden/hub/tiny_module"
    assert asked == [KAGGLE]
    with pytest.raises(InputError, match=r"other/1: kagglehub cannot download .*no route to host\)"):
        tfhub_handles.resolve("google/bert/tensorFlow1/other/1")
