"""deploy/: the Dockerfile's steps one by one in a clean environment, and what the other files name.

There is no Docker in the tests: its RUN lines are run by the shell in a copy of the sources, with the folders of the
image replaced by temporary ones; then the entry point serves under the image's variables, as another user where the
tests run as root and Python can be reached by others, with no compiler on the PATH.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
NOBODY = 65534


def steps() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, comments left out."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def build_steps() -> list[str]:
    """The RUN lines of the first stage."""
    last = [number for number, (name, _) in enumerate(steps()) if name == "FROM"][1]
    return [rest for name, rest in steps()[:last] if name == "RUN"]


def test_the_image_is_slim_and_runs_without_root() -> None:
    names = [name for name, _ in steps()]
    bases = [rest for name, rest in steps() if name == "FROM"]
    assert all(base.startswith("python:3.11-slim") for base in bases)
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]  # nothing is built as, or for, the one who serves
    assert "HEALTHCHECK" in names


def test_files_that_the_steps_name_exist() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    for name in re.findall(r"\./([\w.]+\.yml):", compose):
        assert (DEPLOY / name).is_file()
    assert "dockerfile: deploy/Dockerfile" in compose
    assert (ROOT / "constraints.txt").is_file()


@pytest.fixture
def image() -> Iterator[Path]:
    """A folder in place of the image's root, which any user can read."""
    folder = Path(tempfile.mkdtemp(prefix="image-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def in_image(text: str, image: Path) -> str:
    """A command or value with the image's folders replaced by those of the test."""
    for name in ("/opt/bertune", "/dist", "/models/demo", "/tmp/bertune"):
        text = text.replace(name, str(image / name[1:]))
    return text


@pytest.mark.slow
def test_the_steps_build_a_service(image: Path, folders: Callable[[str], Path]) -> None:
    source = image / "source"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    (image / "opt").mkdir()
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV") and "BERTUNE" not in k}
    for step in build_steps():
        if step.startswith("apt-get"):
            missing = [name for name in ("gcc", "readelf") if not shutil.which(name)]
            if missing:
                pytest.skip(f"`{step}` is Debian's, and {missing} are not here")
            continue
        command = in_image(step, image).replace("python -m venv", f"{shlex.quote(sys.executable)} -m venv", 1)
        subprocess.run(command, shell=True, cwd=source, env=clean, check=True)
    shutil.rmtree(source)  # the second stage has the environment alone
    shutil.copytree(folders("text-classification"), image / "models/demo")
    serve(image)


def may_become_nobody() -> bool:
    """Whether the tests run as root, and Python lies where any user can reach it."""
    python = Path(sys.base_prefix).resolve()
    return (
        hasattr(os, "geteuid") and os.geteuid() == 0 and all(at.stat().st_mode & 1 for at in (python, *python.parents))
    )


def serve(image: Path) -> None:
    """Run the entry point under the image's variables until its health check passes, and ask it."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    said = {name: rest for name, rest in steps() if name in ("ENV", "ENTRYPOINT", "HEALTHCHECK")}
    variables = dict(pair.split("=", 1) for pair in shlex.split(in_image(said["ENV"], image)))
    variables |= {"BERTUNE_SERVE_PORT": str(port), "BERTUNE_SERVE_HOST": "127.0.0.1", "PATH": "/nowhere"}
    (image / "tmp").mkdir()
    (image / "tmp").chmod(0o777)
    program = [in_image(part, image) for part in json.loads(said["ENTRYPOINT"])]
    user = NOBODY if may_become_nobody() else None
    process = subprocess.Popen(program, env=variables, cwd=image, user=user)
    check = json.loads(in_image(said["HEALTHCHECK"].partition("CMD ")[2], image).replace(":8000", f":{port}"))
    try:
        until = time.monotonic() + 60
        while subprocess.run(check, capture_output=True, check=False).returncode:
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < until, "never healthy"
            time.sleep(0.2)
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/models/demo/predict", json={"inputs": ["a film"]})
        assert answer.status_code == 200
        assert "label" in answer.json()["predictions"][0]
        kernels = subprocess.run(
            [program[0].replace("bin/bertune", "bin/python"), "-c",
             "import torch; from bertune.encoder.kernels import build; print(build.library(torch.float32)._name)"],
            env=variables, cwd=image, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert str(image / "opt/bertune") in kernels.stdout  # carried by the wheel, not compiled for this test
    finally:
        process.terminate()
        assert process.wait(40) == 0
