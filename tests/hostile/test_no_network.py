"""From local sources nothing asks for the network: a process whose sockets are closed does everything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

BLOCKED = """
import socket, sys

asked = []

def refuse(name):
    def call(*arguments, **named):
        asked.append(f"{name}{arguments}")
        raise OSError(f"the network was asked for: {name}{arguments}")
    return call

class Closed(socket.socket):
    def connect(self, address):
        refuse("connect")(address)
    connect_ex = sendto = bind = connect

socket.socket = Closed
for name in ("create_connection", "getaddrinfo", "gethostbyname", "create_server"):
    setattr(socket, name, refuse(name))

from bertune.cli.main import main

status = main(sys.argv[1:])
if asked:
    print("ASKED", asked, file=sys.stderr)
    status = 99
sys.exit(status)
"""


def offline(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, with an empty home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TFHUB", "KAGGLE"))}
    kept |= {"HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=kept, timeout=300, check=False)


def test_the_whole_walk_without_sockets(tmp_path: Path) -> None:
    encoder = tiny.write_encoder(tmp_path / "encoder")
    data = tiny.write_rows(tmp_path / "train.csv", tiny.opinions(24))
    model, home = tmp_path / "model", tmp_path / "home"
    home.mkdir()
    train = ["--task", "text-classification", "--encoder", encoder, "--train", data, "--validation", data]
    commands: list[list[object]] = [
        ["train", *train, "--output", model, *tiny.FAST],
        ["check", "--task", "text-classification", "--train", data, "--encoder", encoder],
        ["evaluate", "--model", model, "--data", data, "--json"],
        ["predict", "--model", model, "--input", data, "--output", tmp_path / "answers.jsonl"],
        ["inspect", model],
        ["inspect", "minilm"],
        ["convert", "--encoder", encoder, "--output", tmp_path / "converted"],
        ["convert", "--encoder", encoder, "--output", tmp_path / "google", "--format", "google"],
        ["inspect", tmp_path / "google"],
    ]
    for command in commands:
        done = offline(home, *command)
        assert done.returncode == 0, (command, done.stderr)
    assert not list(home.iterdir())


def test_the_test_itself_sees_a_socket(tmp_path: Path) -> None:
    done = offline(tmp_path, "inspect", "org/name")
    assert done.returncode == 99
    assert "ASKED" in done.stderr


@pytest.mark.parametrize("name", ["../up/name", "./org/name", "/org/name", "encoder"])
def test_paths_are_not_asked_of_the_hub(name: str, tmp_path: Path) -> None:
    done = offline(tmp_path, "inspect", name)
    assert done.returncode == 2, done.stderr
    assert "no such file or folder" in done.stderr
