"""The Python that the pages show runs, block after block in one program, from an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "docs/python.md", ROOT / "docs/python.zh.md"]


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_chinese_page_shows_the_same_python() -> None:
    assert blocks(PAGES[0]) == blocks(PAGES[1])


@pytest.mark.parametrize("page", PAGES[:1], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "src/bertune/samples")
    program = "\n".join(["import bertune.spacy", *blocks(page)])
    short = re.sub(r"(?<=, )epochs=3(?=,.*\)$)", 'train_options={"max_steps": 2}', program, flags=re.MULTILINE)
    short = re.sub(r"\bepochs=3\b", "max_steps=2", short)
    assert short.count("max_steps") == program.count("epochs=3") > 0
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", short],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_shapes_that_the_page_names() -> None:
    import bertune

    output = bertune.open_encoder("minilm")(["Where is my parcel?", ("a text", "and its pair")], layers=True)
    shown = "\n".join(blocks(PAGES[0]))
    assert str(output.tokens[0]) in shown
    for array in (output.sequence_output[0], output.pooled_output, output.layers[0]):
        assert f", {array.shape}" in shown
