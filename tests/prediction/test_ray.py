"""`--engine ray`: the answers of one process, whatever actors are lost."""

import dataclasses
import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bertune.prediction import bulk
from bertune.prediction.inputs import input_files
from bertune.prediction.options import BulkOptions
from tests.deaths import die_once
from tests.tiny import bertune, done, opinions, write_encoder

pytest.importorskip("ray", reason="Ray is not installed")
Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("one_ray")


def test_vectors_and_bad_rows(tmp_path: Path, capsys: Capture) -> None:
    encoder, data = write_encoder(tmp_path / "encoder"), tmp_path / "data.jsonl"
    lines = [json.dumps({"id": i, **row}) for i, row in enumerate(opinions(60))]
    for at in (0, 17, 40):
        lines.insert(at, "{broken")
    data.write_text("\n".join(lines), encoding="utf-8")
    command = ["embed", "--encoder", encoder, "--input", data, "--device", "cpu", "--keep-columns", "--skip-bad"]
    done(capsys, *command, "--output", tmp_path / "one.jsonl")
    done(capsys, *command, "--output", tmp_path / "ray.jsonl", "--engine", "ray", "--rows-per-part", 7)
    for suffix in ("", ".bad.jsonl"):
        one, many = ((tmp_path / f"{name}.jsonl{suffix}").read_bytes() for name in ("one", "ray"))
        assert one == many
    broken = [*command[:-1], "--output", tmp_path / "x.jsonl", "--engine", "ray", "--rows-per-part", 7]
    answer = bertune(capsys, *broken)
    assert answer.status == 2
    assert "not valid JSON" in answer.err
    assert not (tmp_path / "x.jsonl.parts").exists()


@dataclasses.dataclass(frozen=True)
class Mortal:
    """Answers with a text's length; its process is killed at each of some texts, the first time that it comes there."""

    folder: str
    deadly: frozenset[str]

    def read(self, path: Path) -> Iterator[str]:
        return iter(path.read_text(encoding="utf-8").splitlines())

    def answers(self, examples: Iterable[str]) -> Iterator[Mapping[str, Any]]:
        for text in examples:
            if text in self.deadly:
                die_once(Path(self.folder) / f"kill-{text}")
            yield {"text": text, "length": len(text)}

    @property
    def looks_first(self) -> bool:
        return False

    def prepare(self, examples: Sequence[str]) -> None:
        pass

    def described(self) -> Mapping[str, Any]:
        return {"mortal": len(self.deadly)}


def survived(folder: Path, kills: int, seed: int, rows: int = 600) -> None:
    data = folder / "data.txt"
    data.write_text("".join(f"row {i}\n" for i in range(rows)), encoding="utf-8")
    deadly = random.Random(seed).sample(range(rows), kills)
    answerer = Mortal(str(folder), frozenset(f"row {i}" for i in deadly))
    options = BulkOptions(input=str(data), output=str(folder / "out.jsonl"), engine="ray", rows_per_part=20)
    with input_files(options.input) as files:
        assert bulk.run(answerer, files, options).rows == rows
    lines = (folder / "out.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"row {i}" for i in range(rows)]
    assert len(list(folder.glob("kill-*"))) == kills


def test_lost_actors_are_replaced(tmp_path: Path) -> None:
    survived(tmp_path, kills=2, seed=0)


@pytest.mark.torture
def test_twenty_lost_actors(tmp_path: Path) -> None:
    survived(tmp_path, kills=20, seed=1, rows=4000)
