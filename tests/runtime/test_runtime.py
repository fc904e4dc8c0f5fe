"""bertune-runtime: exported models answer as `bertune predict` does, where torch is not installed."""

import csv
import gzip
import io
import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import bertune_runtime
import numpy as np
import pytest
from bertune_runtime.__main__ import main as runtime_main

from bertune.errors import InputError
from bertune.model.predicting import CHUNK
from bertune.tasks.options import LONG_TEXT
from tests.conformance import SAMPLES
from tests.tiny import LEARNING, done, opinions, train, write_encoder, write_rows

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
WITHOUT = '''
import runpy, sys


class Absent:
    """Stands for a machine that has numpy, tokenizers and onnxruntime alone."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is not installed")


REFUSED = {"torch", "transformers", "safetensors", "pyarrow", "pandas", "sklearn", "scipy", "rich", "yaml", "regex",
           "nltk", "google_crc32c", "tensorboard", "onnx"}
sys.meta_path.insert(0, Absent())
sys.path.insert(0, sys.argv[1])
sys.argv[1:] = sys.argv[2:]
runpy.run_module("bertune_runtime", run_name="__main__")
'''


def without_torch(installed: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m bertune_runtime` in a process that has neither torch nor the repository's bertune."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    program = "import os, sys\nsys.path[:] = [p for p in sys.path if not os.path.isdir(os.path.join(p, 'bertune'))]\n"
    program += "sys.meta_path[:] = [one for one in sys.meta_path if '__editable__' not in repr(one)]\n" + WITHOUT
    command = [sys.executable, "-c", program, str(installed), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=installed)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_equal(found: Any, expected: Any) -> None:
    """Equal but for probabilities, which may differ by 1e-4."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture
def exported(folder: Path, capsys: Capture) -> Path:
    """A tiny model of opinions, exported in both precisions; made once for the module."""
    if not (folder / "exported").exists():
        dev = write_rows(folder / "dev.jsonl", opinions(40, seed=1))
        train(capsys, folder, opinions(96), "--validation", dev, *LEARNING)
        arguments = ("--model", folder / "model", "--output", folder / "exported", "--precision", "fp32", "int8")
        done(capsys, "export", *arguments)
    return folder / "exported"


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


CONLL = "Die O\nKatze B-TIER\nschläft O\nनमस्ते B-GRUSS\n\nAda B-PERSON\nLovelace I-PERSON\nsaw O\na O\ndog B-TIER\n\n"


@pytest.mark.parametrize(
    ("task", "data", "suffix"),
    [
        ("text-classification", "intents/dev.csv", ".csv"),
        ("multi-label-classification", "topics/train.csv", ".csv"),
        ("regression", "similarity/train.csv", ".csv"),
        ("multiple-choice", "choices/train.jsonl", ".jsonl"),
        ("question-answering", "handbook/train.json", ".json"),
        ("embedding", "similarity/train.csv", ".csv"),
        ("token-classification", "", ".conll"),
    ],
)
def test_every_task_answers_as_bertune_predict(
    task: str, data: str, suffix: str, installed: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = tmp_path / f"rows{suffix}"
    rows.write_text((SAMPLES / data).read_text(encoding="utf-8") if data else CONLL * 4, encoding="utf-8")
    model, exported = tmp_path / "model", tmp_path / "exported"
    made = train_on(capsys, tmp_path, task, rows)
    assert made == model
    done(capsys, "export", "--model", model, "--output", exported, "--precision", "fp32")
    expected, answers = tmp_path / "expected.jsonl", tmp_path / "answers.jsonl"
    done(capsys, "predict", "--model", model, "--input", rows, "--output", expected, "--precision", "fp32")
    run = without_torch(installed, "predict", "--model", exported, "--input", rows, "--output", answers)
    assert run.returncode == 0, run.stderr
    assert_equal(lines(answers), lines(expected))


def train_on(capsys: Capture, folder: Path, task: str, rows: Path) -> Path:
    """A tiny model after a few updates on a file."""
    encoder = write_encoder(folder / "encoder", max_position_embeddings=64)
    arguments = ("--encoder", encoder, "--train", rows, "--validation", rows, "--output", folder / "model")
    done(
        capsys, "train", "--task", task, *arguments, "--max-steps", "2", "--max-seq-length", "48", "--precision", "fp32"
    )
    return folder / "model"


def test_texts_in_python_and_both_precisions(exported: Path) -> None:
    for precision, name in (("fp32", "fp32"), ("int8", "int8"), ("auto", "int8")):
        model = bertune_runtime.load(exported, precision=precision)
        assert model.precision == name
        answers = model.predict(["a fine film", ("a", "pair"), ""])
        assert [sorted(answer) for answer in answers] == [["label", "score", "scores"]] * 3
    with pytest.raises(InputError, match="not a single str"):
        model.predict("a text")


def test_the_server_is_bertune_serve_s_own(exported: Path) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from bertune.serving.application import app

    with testclient.TestClient(app({"m": exported}, loading=bertune_runtime.load)) as client:
        reply = client.post("/v1/models/m/predict", json={"inputs": ["a fine film", "dull"]}).json()
        info = client.get("/info").json()
    model = bertune_runtime.load(exported)
    assert reply["version"] == model.version
    expected = model.predict(["a fine film", "dull"])
    assert_equal([{key: answer[key] for key in expected[0]} for answer in reply["predictions"]], expected)
    assert info["model_dtype"] == "int8"


def test_a_damaged_or_exchanged_graph_is_refused(copy: Path) -> None:
    graph = copy / "onnx" / "model.onnx"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"model\.onnx: its SHA-256 is .* damaged or replaced"):
        bertune_runtime.load(copy, precision="fp32")
    shutil.copyfile(copy / "onnx" / "model_quantized.onnx", graph)
    with pytest.raises(InputError, match="damaged or replaced"):
        bertune_runtime.load(copy, precision="fp32")
    graph.unlink()
    with pytest.raises(InputError, match="no such file"):
        bertune_runtime.load(copy, precision="fp32")


def change(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "onnx" / "verification.json"
    record: dict[str, Any] = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(record))
    return record


def shift(folder: Path, name: str) -> None:
    """As if this machine computed other logits than the one that exported the graph."""
    record = change(folder)
    for canary in record["canaries"]:
        canary["logits"][name] = (np.asarray(canary["logits"][name]) + 9.0).tolist()
    change(folder, canaries=record["canaries"])


def test_8_bits_that_come_out_otherwise_here_give_way_to_float32(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    shift(copy, "model_quantized.onnx")
    for precision in ("auto", "int8"):
        caplog.clear()
        assert bertune_runtime.load(copy, precision=precision).precision == "fp32"
        assert "differ by 9" in caplog.text
        assert "model.onnx instead" in caplog.text
    shift(copy, "model.onnx")
    with pytest.raises(InputError, match="do not use it on this machine"):
        bertune_runtime.load(copy)


def test_what_cannot_be_run_is_refused_in_a_line(copy: Path, installed: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", opinions(4))

    def refused(*arguments: object) -> str:
        run = without_torch(installed, *arguments)
        assert run.returncode == 2
        assert len(run.stderr.strip().splitlines()) == 1
        return run.stderr

    assert "no such file" in refused("predict", "--model", copy, "--input", tmp_path / "none.csv")
    assert "holds no bertune model" in refused("predict", "--model", tmp_path, "--input", rows)
    table = refused("predict", "--model", copy, "--input", rows, "--output", tmp_path / "answers.csv")
    assert "answers are JSON lines here, not .csv" in table
    (copy / "onnx").rename(tmp_path / "onnx")
    (copy / "model.safetensors").touch()
    assert "run bertune export first" in refused("predict", "--model", copy, "--input", rows)
    (tmp_path / "onnx").rename(copy / "onnx")
    assert "no command 'train'" in refused("train")
    described = copy / "bertune.json"
    whole = described.read_text(encoding="utf-8")
    described.write_text(json.dumps(json.loads(whole) | {"max_seq_length": 65}))
    assert "max_seq_length 65; must be between 1 and 64" in refused("predict", "--model", copy, "--input", rows)
    described.write_text(whole, encoding="utf-8")
    change(copy, onnxruntime={"minimum": "99.1"})
    assert "needs onnxruntime 99.1 or newer" in refused("predict", "--model", copy, "--input", rows)
    change(copy, format=2)
    assert "not of format 1" in refused("predict", "--model", copy, "--input", rows)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"graphs": {"model.onnx": 5}}, "is not as bertune export wrote it"),
        ({"onnxruntime": "1.17"}, "is not as bertune export wrote it"),
        ({"longest_sequence": "64"}, "longest_sequence is '64'"),
        ({"canaries": [{"input_ids": [2, 3], "token_type_ids": [0, 0]}]}, "KeyError: 'logits'"),
        ({"canaries": [{"input_ids": [2, 10**6], "token_type_ids": [0, 0]}]}, "rows cannot be computed"),
    ],
)
def test_a_record_that_export_did_not_write_is_refused(changes: dict[str, Any], told: str, copy: Path) -> None:
    change(copy, **changes)
    with pytest.raises(InputError, match=re.escape(told)):
        bertune_runtime.load(copy, precision="fp32")


def test_the_command_says_aloud_that_it_computes_in_float32(copy: Path, installed: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", opinions(4))
    shift(copy, "model_quantized.onnx")
    run = without_torch(installed, "predict", "--model", copy, "--input", rows, "--output", tmp_path / "answers.jsonl")
    assert run.returncode == 0
    assert len(lines(tmp_path / "answers.jsonl")) == 4
    assert "WARNING" in run.stderr
    assert "model_quantized.onnx: logits of the recorded rows differ by 9" in run.stderr
    assert "using model.onnx instead" in run.stderr


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "gz"])
def test_forms_of_files_answer_alike_without_torch(form: str, exported: Path, installed: Path, tmp_path: Path) -> None:
    texts = ["a fine film", 'dull, "long" and grey', "schön 好"]
    path = tmp_path / f"rows.{form}"
    if form == "jsonl":
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    else:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter="\t" if form == "tsv" else ",").writerows([["text"], *([text] for text in texts)])
        content = buffer.getvalue().encode()
        path = path.with_name("rows.csv.gz") if form == "gz" else path
        path.write_bytes(gzip.compress(content) if form == "gz" else content)
    run = without_torch(installed, "predict", "--model", exported, "--input", path, "--output", "-")
    assert run.returncode == 0, run.stderr
    expected = bertune_runtime.load(exported).predict(texts)
    assert_equal([json.loads(line) for line in run.stdout.splitlines()], json.loads(json.dumps(expected)))


@pytest.mark.parametrize("name", ["rows.parquet", "rows.arrow", "rows.csv.zst"])
def test_what_needs_pyarrow_is_refused_where_it_is_not_installed(
    name: str, exported: Path, installed: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"PAR1" + bytes(20) + b"PAR1")
    run = without_torch(installed, "predict", "--model", exported, "--input", tmp_path / name)
    assert run.returncode == 2
    assert f"{name}: reading Parquet, Arrow and zstd files needs pyarrow" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("how", LONG_TEXT)
def test_long_texts_are_answered_as_bertune_does(how: str, exported: Path, tmp_path: Path, capsys: Capture) -> None:
    """Texts of several windows, through the command's own options."""
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "good film, " * 30 + "awful " * 9}, {"text": "bad"}])
    found, expected = tmp_path / "found.jsonl", tmp_path / "expected.jsonl"
    options = ("--input", rows, "--long-text", how, "--precision", "fp32")
    done(capsys, "predict", "--model", exported.parent / "model", "--output", expected, *options)
    assert runtime_main(["predict", "--model", str(exported), "--output", str(found), *map(str, options)]) == 0
    assert_equal(lines(found), lines(expected))


def test_rows_are_answered_before_the_last_is_read(exported: Path) -> None:
    """From a source without an end, so memory cannot grow with it."""
    taken = itertools.count()
    model = bertune_runtime.load(exported)
    endless = (model.task.example(f"a fine film {next(taken)}") for _ in itertools.repeat(None))
    answers = [answer["label"] for answer in itertools.islice(model.predict_examples(endless), 3000)]
    assert len(answers) == 3000
    assert next(taken) <= 3 * CHUNK


def test_versions_and_modules_follow_bertune(installed: Path) -> None:
    assert bertune_runtime.__version__ == bertune_runtime.bertune_version()
    assert f'version = "{bertune_runtime.__version__}"' in (ROOT / "runtime" / "pyproject.toml").read_text()
    held = {
        path.relative_to(installed / "bertune_runtime/_modules/bertune").as_posix()
        for path in installed.rglob("_modules/**/*.py")
    }
    assert {"tasks/glue.py", "data/formats/conllu.py", "serving/application.py", "errors.py"} <= held
    assert not {"model/use.py", "encoder/encoder.py", "training/train.py"} & held


@pytest.mark.slow
def test_installed_in_an_environment_of_its_own(exported: Path, tmp_path: Path, capsys: Capture) -> None:
    """The wheel, by pip, with what it declares: no torch, and the same answers."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(ROOT / "runtime")], check=True)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    rows = write_rows(tmp_path / "rows.jsonl", opinions(20, seed=2))
    answers, expected = tmp_path / "answers.jsonl", tmp_path / "expected.jsonl"
    command = [str(python), "-m", "bertune_runtime", "predict", "--model", str(exported), "--precision", "fp32"]
    subprocess.run([*command, "--input", str(rows), "--output", str(answers)], check=True, env=environment)
    model = exported.parent / "model"
    done(capsys, "predict", "--model", model, "--input", rows, "--output", expected, "--precision", "fp32")
    assert_equal(lines(answers), lines(expected))
    found = subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False, env=environment)
    assert found.returncode != 0


@pytest.mark.slow
def test_the_small_install_of_the_documentation(tmp_path: Path) -> None:
    """The image's two RUN lines in an environment of its own: under 160 MB, and imported with all that `load` needs in
    less than 0.3 s."""
    page = (ROOT / "docs" / "runtime.md").read_text(encoding="utf-8")
    install, compiled = re.findall(r"^    RUN (.+)$", page, flags=re.MULTILINE)
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if key not in left_out}

    def run(line: str) -> str:
        command = shlex.split(line.replace("/source", str(ROOT)))
        command = [python, *command[1:]] if command[0] == "python" else [python, "-m", *command]
        done = subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True, text=True)
        return done.stdout

    run(install)
    run(compiled)
    timed = "import time; start = time.perf_counter(); import bertune_runtime; bertune_runtime.load"
    seconds = min(float(run(f"python -c '{timed}; print(time.perf_counter() - start)'")) for _ in range(5))
    assert seconds < 0.3
    (packages,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    tools = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
    kept = [path for path in packages.rglob("*") if not path.relative_to(packages).parts[0].startswith(tools)]
    assert sum(path.lstat().st_blocks for path in kept) * 512 < 160 * 2**20
    assert not list(packages.glob("torch*"))
