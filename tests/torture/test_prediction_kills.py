"""SIGKILL while predictions are made, in shards: what comes out in the end is what one undisturbed process writes."""

import random
import re
import signal
import time
from pathlib import Path

import pytest

from tests.nursery import Child, Nursery
from tests.tiny import opinions, write_encoder, write_rows

SHARDS = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bertune.training.train import train

    folder = tmp_path_factory.mktemp("model")
    encoder, data = write_encoder(folder / "encoder"), write_rows(folder / "train.jsonl", opinions(16))
    options = {"max_seq_length": 32, "batch_size": 8, "max_steps": 2, "device": "cpu"}
    train(task="text-classification", encoder=encoder, train=data, output=folder / "run", **options)
    return folder / "run"


def kill_loop(nursery: Nursery, folder: Path, model: Path, *, rows: int, kills: int, seed: int) -> None:
    """Predict in shards into one folder, killed `kills` times at random moments, then until all is done."""
    chance = random.Random(seed)
    data = write_rows(folder / "data.jsonl", opinions(rows, seed=seed))
    command = ["predict", "--model", model, "--input", data, "--rows-per-part", rows // 11 or 1, "--device", "cpu"]
    whole = nursery.start(*command, "--output", folder / "whole.jsonl")
    begun = time.monotonic()
    assert whole.wait() == 0, whole.told
    took, killed = time.monotonic() - begun, 0

    def shard(index: int) -> Child:
        return nursery.start(*command, "--output", f"{folder}/out/", "--resume", "--shard", f"{index}/{SHARDS}")

    (folder / "out").mkdir()
    while killed < kills:
        child = shard(chance.randrange(SHARDS))
        time.sleep(chance.uniform(0, took))
        if not child.ended():
            child.send(signal.SIGKILL)
            killed += 1
        child.wait()
    for index in range(SHARDS):
        child = shard(index)
        assert child.wait() == 0, child.told
    parts = sorted((folder / "out").glob("part-*"))
    assert b"".join(part.read_bytes() for part in parts) == (folder / "whole.jsonl").read_bytes()
    assert not list((folder / "out").glob(".writing-*"))


def test_a_few_kills(nursery: Nursery, tmp_path: Path, model: Path) -> None:
    kill_loop(nursery, tmp_path, model, rows=300, kills=4, seed=1)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(3))
def test_many_kills(nursery: Nursery, tmp_path: Path, model: Path, seed: int) -> None:
    kill_loop(nursery, tmp_path, model, rows=20_000, kills=20, seed=seed)


def test_a_killed_file_goes_on(nursery: Nursery, tmp_path: Path, model: Path) -> None:
    """The same of one output file: its finished parts lie beside it until it is whole."""
    data = write_rows(tmp_path / "data.jsonl", opinions(2000))
    command = ["predict", "--model", model, "--input", data, "--rows-per-part", 50, "--device", "cpu", "--output"]
    whole = nursery.start(*command, tmp_path / "whole.jsonl")
    assert whole.wait() == 0, whole.told
    child = nursery.start(*command, tmp_path / "out.jsonl")
    while len(list((tmp_path / "out.jsonl.parts" / "_parts").glob("part-*.json"))) < 3:
        assert not child.ended(), child.told
    child.send(signal.SIGKILL)
    child.wait()
    assert not (tmp_path / "out.jsonl").exists()
    again = nursery.start(*command, tmp_path / "out.jsonl", "--resume")
    assert again.wait() == 0, again.told
    kept = re.search(r"out\.jsonl: (\d+) answers of the stopped run are kept", again.told)
    assert kept is not None, again.told
    assert int(kept[1]) >= 3 * 50
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert not (tmp_path / "out.jsonl.parts").exists()
