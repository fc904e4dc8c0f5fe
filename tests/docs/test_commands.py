"""Every command that the documentation shows in a ```bash block runs; training stops after two updates here."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md")])
ENGLISH = [page for page in PAGES if not page.name.endswith((".zh.md", ".zh-CN.md")) and page.name != "index.md"]


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's bash blocks, in order, continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.strip().startswith("#")]


def write_chinese_encoder(folder: Path) -> None:
    """A tiny encoder that knows the characters of the Chinese samples, where a reader has a downloaded one."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "src/bertune/samples").glob("chinese-*/*")]
    words = [*tiny.VOCABULARY, *sorted({char for char in "".join(texts) if char >= "\u3000"})]
    tiny.write_encoder(folder, vocab_size=len(words), max_position_embeddings=256)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


# Chinese pages show commands of the English ones, which a test below asserts.
@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    write_chinese_encoder(tmp_path / "models/bert-base-chinese")
    for command in commands(page):
        assert command[0] in ("bertune", "python", "torchrun"), (
            f"{page.name}: {command[0]} in a bash block; use ```sh to only show it"
        )
        arguments = ["-m", *command] if command[0] == "bertune" else command[1:]
        if command[0] == "torchrun":
            arguments = ["-m", "torch.distributed.run", *command[1:]]
        verbs = {"train", "pretrain", "distill"}
        if "bertune" in command and command[command.index("bertune") + 1] in verbs:
            arguments += ["--max-steps", "2"]
        if command[:2] == ["bertune", "sweep"]:
            (tmp_path / "short.yaml").write_text("epochs: [0.05]")
            arguments += ["--space", "short.yaml", "--trials", "1", "--final-seeds", "2", "--time-limit", "1h"]
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"


def test_pages_are_found() -> None:
    assert {"README.md", "README.zh-CN.md"} <= {page.name for page in PAGES}
    assert len(commands(ROOT / "README.md")) >= 6


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.zh.md")), ids=lambda page: page.name)
def test_a_chinese_page_shows_commands_of_the_english_one(page: Path) -> None:
    english = page.with_name(page.name.replace(".zh.md", ".md"))
    assert [command for command in commands(page) if command not in commands(english)] == []


def test_both_readmes_show_the_same_commands() -> None:
    assert commands(ROOT / "README.md") == commands(ROOT / "README.zh-CN.md")


def bullets(page: Path) -> list[int]:
    """How many points every section of a page lists, in order."""
    sections = re.split(r"^## .*\n", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [len(re.findall(r"^- ", section, flags=re.MULTILINE)) for section in sections]


def test_both_readmes_list_as_many_points() -> None:
    """The Chinese one has a section of its own, the third part, on Chinese."""
    chinese = bullets(ROOT / "README.zh-CN.md")
    assert chinese.pop(2) > 0
    assert bullets(ROOT / "README.md") == chinese


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md"])
def test_the_python_of_the_readme_runs(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 1
    for name in ("train", "dev"):
        rows = (ROOT / f"src/bertune/samples/intents/{name}.csv").read_text(encoding="utf-8").splitlines()
        (tmp_path / f"{name}.csv").write_text("\n".join(rows if name == "train" else rows[:9]) + "\n", encoding="utf-8")
    program = blocks[0].replace('output="out"', 'output="out", max_steps=2') + "\nassert run.steps == 2"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
