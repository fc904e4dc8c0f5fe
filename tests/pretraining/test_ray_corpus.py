"""A corpus tokenized on Ray is that of one process, file by file, whatever processes are lost."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from bertune.distributed.ray_map import RayOptions
from bertune.errors import InputError
from bertune.pretraining import ray_writers, token_corpus
from bertune.pretraining.token_corpus import CorpusForm, tokenized
from bertune.tokenization.tokenizer import Tokenizer
from tests import tiny
from tests.deaths import MortalEncoding
from tests.runs import prepare
from tests.tiny import done, refused

pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.usefixtures("one_ray")
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def files(tmp_path: Path, monkeypatch: Patch) -> list[Path]:
    """Two files of many shards."""
    monkeypatch.setattr(token_corpus, "SHARD_CHARACTERS", 150)
    paths = [tmp_path / "1.txt", tmp_path / "2.txt"]
    for path, word in zip(paths, ("good", "bad"), strict=True):
        path.write_text("\n\n".join(f"film {f'{word} ' * j}\nthe {word} film" for j in range(20)), encoding="utf-8")
    with paths[1].open("a", encoding="utf-8") as file:
        file.write("\n\nanother")
    return paths


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tiny.VOCABULARY) + "\n", encoding="utf-8")
    return Tokenizer.from_vocab(path)


@pytest.mark.parametrize("workers", [None, 1, 5])
def test_the_files_are_those_of_one_process(
    tmp_path: Path, files: list[Path], tokenizer: Tokenizer, workers: int | None
) -> None:
    form = CorpusForm(held_out=0.2)
    one = tokenized(files, tokenizer, form, tmp_path / "one")
    many = tokenized(files, tokenizer, form, tmp_path / "many", workers=workers, ray=RayOptions())
    assert len(many.train.tokens) > 8
    assert len(many.held.tokens) == len(many.train.tokens)
    assert tiny.files(many.folder) == tiny.files(one.folder)


def test_a_stopped_build_goes_on(tmp_path: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: Patch) -> None:
    """What one process began Ray ends, and only that; and the other way round."""
    one = tokenized(files, tokenizer, CorpusForm(), tmp_path / "one")
    many = tokenized(files, tokenizer, CorpusForm(), tmp_path / "many")
    shards = sorted(path.name for path in many.folder.glob("shard-*"))
    for name in shards[3:]:
        shutil.rmtree(many.folder / name)
    (many.folder / "corpus.json").unlink()
    written: list[str] = []
    write = token_corpus._write_shard

    def noted(target: Path, *rest: Any) -> None:
        written.append(target.name)
        write(target, *rest)

    monkeypatch.setattr(token_corpus, "_write_shard", noted)
    again = tokenized(files, tokenizer, CorpusForm(), tmp_path / "many", ray=RayOptions())
    assert written == shards[3:]
    assert tiny.files(again.folder) == tiny.files(one.folder)
    shutil.rmtree(many.folder / shards[-1])
    (many.folder / "corpus.json").unlink()
    assert tiny.files(tokenized(files, tokenizer, CorpusForm(), tmp_path / "many").folder) == tiny.files(one.folder)


def test_bad_text_is_named(tmp_path: Path, files: list[Path], tokenizer: Tokenizer) -> None:
    files[1].write_bytes(files[1].read_bytes() + b"\n\xff\xfe\x00 no text")
    with pytest.raises(InputError, match=r"2\.txt"):
        tokenized(files, tokenizer, CorpusForm(), tmp_path / "many", ray=RayOptions())


def survived(folder: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: Patch, kills: int) -> None:
    one = tokenized(files, tokenizer, CorpusForm(), folder / "one")
    real = ray_writers.ray_writers
    monkeypatch.setattr(
        token_corpus, "ray_writers", lambda encode, *rest: real(MortalEncoding(encode, str(folder), kills), *rest)
    )
    many = tokenized(files, tokenizer, CorpusForm(), folder / "many", ray=RayOptions())
    assert len(list(folder.glob("kill-*"))) == kills
    assert tiny.files(many.folder) == tiny.files(one.folder)


def test_lost_processes_are_replaced(
    tmp_path: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: Patch
) -> None:
    survived(tmp_path, files, tokenizer, monkeypatch, kills=2)


@pytest.mark.torture
def test_twenty_lost_processes(tmp_path: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: Patch) -> None:
    monkeypatch.setattr(token_corpus, "SHARD_CHARACTERS", 10)  # a document each
    survived(tmp_path, files, tokenizer, monkeypatch, kills=20)


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    options = prepare(tmp_path, "pretraining") | {"max_steps": 2}
    said = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    command = ["pretrain", *(part for pair in said.items() for part in pair)]
    done(capsys, *command, "--output", tmp_path / "one")
    shutil.rmtree(tmp_path / "cache")
    done(capsys, *command, "--output", tmp_path / "ray", "--engine", "ray", "--workers", "2")
    assert tiny.same_weights(tmp_path / "one", tmp_path / "ray")
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "x", "--ray-address", "auto"], "is for --engine ray")
