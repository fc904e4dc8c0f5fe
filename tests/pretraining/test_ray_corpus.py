"""A corpus tokenized on Ray is that of one process, file by file, whatever actors are lost."""

import dataclasses
import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertune.distributed.ray_map import RayOptions
from bertune.errors import InputError
from bertune.pretraining import token_corpus
from bertune.pretraining.token_corpus import CorpusForm, tokenized
from bertune.tokenization.tokenizer import Tokenizer
from tests import tiny
from tests.runs import prepare
from tests.tiny import done, refused

ray = pytest.importorskip("ray", reason="Ray is not installed")
ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def _one_ray() -> Iterator[None]:
    """One Ray for all of these tests: to start it takes seconds."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files of many shards."""
    monkeypatch.setattr(token_corpus, "SHARD_CHARACTERS", 150)
    paths = [tmp_path / "1.txt", tmp_path / "2.txt"]
    for path in paths:
        path.write_text("\n\n".join(f"film {'good ' * j}\nthe bad film" for j in range(20)), encoding="utf-8")
    with paths[1].open("a", encoding="utf-8") as file:
        file.write("\n\nanother")
    return paths


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(tiny.VOCABULARY) + "\n", encoding="utf-8")
    return Tokenizer.from_vocab(path)


def test_the_files_are_those_of_one_process(tmp_path: Path, files: list[Path], tokenizer: Tokenizer) -> None:
    form = CorpusForm(held_out=0.2)
    one = tokenized(files, tokenizer, form, tmp_path / "one")
    many = tokenized(files, tokenizer, form, tmp_path / "many", ray=RayOptions(actors=2))
    assert len(many.train.tokens) > 8
    assert tiny.files(many.folder) == tiny.files(one.folder)
    for name in ("shard-000002", "shard-000003"):
        shutil.rmtree(many.folder / name)
    (many.folder / "corpus.json").unlink()
    again = tokenized(files, tokenizer, form, tmp_path / "many", ray=RayOptions())
    assert tiny.files(again.folder) == tiny.files(one.folder)
    files[0].write_bytes(b"\xff\xfe\x00 no text")
    with pytest.raises(InputError, match=r"1\.txt"):
        tokenized(files, tokenizer, form, tmp_path / "many", ray=RayOptions())


@dataclasses.dataclass(frozen=True)
class Mortal:
    """Encodes as `encode` does; its process is killed at random, so many times in all."""

    encode: Any
    folder: str
    kills: int

    def __call__(self, cut: Any) -> Any:
        if random.random() < 0.3 and os.environ.get("RAY_JOB_ID", "driver") != "driver":
            for number in range(self.kills):
                try:
                    (Path(self.folder) / f"kill-{number}").touch(exist_ok=False)
                except FileExistsError:
                    continue
                os.kill(os.getpid(), signal.SIGKILL)
        return self.encode(cut)


def survived(
    folder: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    one = tokenized(files, tokenizer, CorpusForm(), folder / "one")
    real = token_corpus.ray_map
    monkeypatch.setattr(
        token_corpus, "ray_map",
        lambda lanes, work, *rest, **more: real(lanes, Mortal(work, str(folder), kills), *rest, **more),
    )  # fmt: skip
    many = tokenized(files, tokenizer, CorpusForm(), folder / "many", ray=RayOptions())
    assert len(list(folder.glob("kill-*"))) == kills
    assert tiny.files(many.folder) == tiny.files(one.folder)


def test_lost_actors_are_replaced(
    tmp_path: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    survived(tmp_path, files, tokenizer, monkeypatch, kills=2)


@pytest.mark.torture
def test_twenty_lost_actors(
    tmp_path: Path, files: list[Path], tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_corpus, "SHARD_CHARACTERS", 40)
    survived(tmp_path, files, tokenizer, monkeypatch, kills=20)


def test_the_command(tmp_path: Path, capsys: Capture) -> None:
    options = prepare(tmp_path, "pretraining") | {"max_steps": 2}
    said = {f"--{name.replace('_', '-')}": str(value) for name, value in options.items()}
    command = ["pretrain", *(part for pair in said.items() for part in pair)]
    done(capsys, *command, "--output", tmp_path / "one")
    shutil.rmtree(tmp_path / "cache")
    done(capsys, *command, "--output", tmp_path / "ray", "--engine", "ray", "--ray-actors", "1")
    assert tiny.same_weights(tmp_path / "one", tmp_path / "ray")
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "x", "--ray-actors", "1"], "are for --engine ray")
