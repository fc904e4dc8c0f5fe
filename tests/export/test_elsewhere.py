"""Exported folders in other programs: OpenVINO, transformers.js under Node, and the documentation's own lines.

Node's part needs the npm package @huggingface/transformers: `make test-js` installs it and says where it is.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

import bertune
from tests.tiny import opinions

PAGE = Path(__file__).parents[2] / "docs" / "using-onnx.md"
NODE, MODULES = shutil.which("node"), os.environ.get("BERTUNE_NODE_MODULES")
HOSTILE = ["", "!", "Très bien, le film!", "这部电影很好", "fine\u00a0film 😀", "İstanbul GOOD", "bad" * 40, "a\tb\nc"]

needs_node = pytest.mark.skipif(
    NODE is None or MODULES is None, reason="needs Node and @huggingface/transformers: make test-js"
)


def texts() -> list[str]:
    """A hundred."""
    return [*HOSTILE, *(str(row["text"]) for row in opinions(100 - len(HOSTILE), seed=7))]


def labels_of(model: Path) -> list[str]:
    """PyTorch's."""
    return [str(answer["label"]) for answer in bertune.load(model, precision="fp32").predict(texts())]


def blocks(language: str) -> list[str]:
    """The documentation's blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def place(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder in which the export lies where the documentation has it."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "demo-onnx").symlink_to(exported, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["model.onnx", "model_quantized.onnx"])
def test_openvino_gives_the_same_labels(exported: Path, model: Path, name: str) -> None:
    openvino = pytest.importorskip("openvino")
    tokenizer = tokenizers.Tokenizer.from_file(str(exported / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(32)
    compiled = openvino.Core().compile_model(str(exported / "onnx" / name), "CPU")
    encoded = tokenizer.encode_batch(texts())
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    feed = {name: np.array([getattr(row, column) for row in encoded]) for name, column in columns.items()}
    label = json.loads((exported / "config.json").read_text())["id2label"]
    assert [label[str(index)] for index in compiled(feed)[0].argmax(1)] == labels_of(model)


def test_the_python_of_the_page_runs(place: Path, model: Path) -> None:
    """Block after block in one namespace, as a reader types them; each prints the numbers of two labels.

    optimum's is left out: its packages need another version of transformers.
    """
    assert place.is_dir()
    python = [block for block in blocks("python") if "optimum" not in block]
    assert len(python) == 2
    numbers = json.loads((model / "config.json").read_text())["label2id"]
    answers = bertune.load(model, precision="fp32").predict(["where is my card?", "cancel my order"])
    known: dict[str, Any] = {}
    for block in python:
        if "import openvino" in block:
            pytest.importorskip("openvino")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, str(PAGE), "exec"), known)
        assert [int(number) for number in re.findall(r"\d", printed.getvalue())] == [
            numbers[answer["label"]] for answer in answers
        ]


def run_node(folder: Path, program: str) -> str:
    """What a program prints; its folder has the installed packages."""
    assert NODE is not None
    assert MODULES is not None
    (folder / "node_modules").symlink_to(Path(MODULES).resolve(), target_is_directory=True)
    (folder / "program.mjs").write_text(program, encoding="utf-8")
    done = subprocess.run([NODE, "program.mjs"], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_node
@pytest.mark.parametrize("dtype", ["fp32", "q8"])
def test_transformers_js_gives_the_same_labels(place: Path, model: Path, dtype: str) -> None:
    """In the words of the documentation, which classify a hundred texts here; nothing is fetched."""
    (place / "texts.json").write_text(json.dumps(texts()), encoding="utf-8")
    (block,) = blocks("js")
    call = "await classify('where is my card?')"
    assert call in block
    assert "allowRemoteModels = false" in block
    assert "dtype: 'fp32'" in block
    program = block.replace("dtype: 'fp32'", f"dtype: '{dtype}'").replace(call, "found")
    program = program.replace(
        "console.log(found)",
        "const { readFileSync } = await import('node:fs');\n"
        "const found = [];\n"
        "for (const text of JSON.parse(readFileSync('texts.json', 'utf8'))) found.push(...await classify(text));\n"
        "console.log(JSON.stringify(found.map(answer => answer.label)))",
    )
    assert json.loads(run_node(place, program).strip().splitlines()[-1]) == labels_of(model)


@needs_node
def test_the_javascript_of_the_page_runs(place: Path) -> None:
    assert re.search(r"label: '(good|bad)', score: 0\.\d+", run_node(place, blocks("js")[0]))
