"""Tasks from a user's file: run only when asked for, told whole what they lack; the guide as it stands."""

import importlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import bertune
from bertune.checkpoints.inspection import describe
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.options import option
from bertune.tasks.base import BaseTask
from bertune.tasks.old_paths import HOMES
from bertune.tasks.protocol import Defaults
from bertune.tasks.registry import new_task
from bertune.tasks.user_files import complete
from tests.conformance import SAMPLES
from tests.tiny import done, refused, write_encoder

GUIDE = Path(__file__).parents[2] / "docs" / "new-task.md"
RATINGS = SAMPLES / "ratings"
Make = Callable[..., Path]


def guide(file: str) -> str:
    """A file that the guide shows."""
    (text,) = re.findall(rf"<!-- file: {re.escape(file)} -->\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(text).replace("SAMPLES", str(SAMPLES))


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """The guide's task file."""
    path = tmp_path / "ratings.py"
    path.write_text(guide("ratings.py"))
    return path


@pytest.fixture
def trained(tmp_path: Path, ratings: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A tiny model of the guide's task."""
    write_encoder(tmp_path / "encoder")
    done(
        capsys, "train", "--task", f"{ratings}:Rating", "--encoder", tmp_path / "encoder", "--output", tmp_path / "out",
        "--train", RATINGS / "train.csv", "--validation", RATINGS / "dev.csv", "--max-seq-length", 32, "--epochs", 1,
        "--device", "cpu",
    )  # fmt: skip
    return tmp_path / "out"


def test_the_guides_example_is_short() -> None:
    assert len(guide("ratings.py").splitlines()) <= 80


def test_the_guides_test_passes_as_shown(tmp_path: Path, ratings: Path) -> None:
    (tmp_path / "test_ratings.py").write_text(guide("test_ratings.py"))
    assert len(guide("test_ratings.py").splitlines()) <= 11
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_ratings.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "7 passed" in run.stdout


def test_the_guides_commands_work_as_shown(
    tmp_path: Path, ratings: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shown,) = re.findall(r"<!-- run -->\n```sh\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    write_encoder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    lines = shown.replace("SAMPLES", str(SAMPLES)).replace("minilm", "tiny").replace("\\\n", " ").strip().splitlines()
    assert len(lines) == 3
    for line in lines:
        command, *arguments = line.split()
        assert command == "bertune"
        more = ["--max-seq-length", "32", "--device", "cpu"] if arguments[0] == "train" else []
        done(capsys, *arguments, *more)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert {"kappa", "accuracy", "mean_error"} <= metrics.keys()
    answers = [json.loads(line) for line in (tmp_path / "stars.jsonl").read_text().splitlines()]
    assert len(answers) == 40
    assert {one["stars"] for one in answers} <= {1, 2, 3, 4, 5}


def test_the_folder_names_the_file_and_its_hash_but_holds_no_code(trained: Path, ratings: Path) -> None:
    state = json.loads((trained / "bertune.json").read_text())["task"]
    assert state["name"] == "ratings.py:Rating"
    assert state["file_sha256"] == bertune_sha256(ratings)
    assert state["stars"] == 5
    assert not list(trained.rglob("*.py"))


def bertune_sha256(path: Path) -> str:
    from bertune.data.rows import file_sha256

    return file_sha256(path)


def test_code_runs_only_for_who_asks(
    trained: Path, ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"ratings\.py:Rating.*trust_task_file FILE.*trust_task_file=FILE"):
        bertune.load(trained)
    model = bertune.load(trained, trust_task_file=ratings)
    assert set(model.predict(["Dead after two days."])[0]) == {"stars", "scores"}
    data = RATINGS / "dev.csv"
    refused(capsys, tmp_path, ["evaluate", "--model", trained, "--data", data], "--trust-task-file FILE")
    refused(capsys, tmp_path, ["predict", "--model", trained, "--input", data, "--output", "-"], "--trust-task-file")
    answer = done(capsys, "evaluate", "--model", trained, "--data", data, "--json", "--trust-task-file", ratings)
    assert "kappa" in json.loads(answer.out)


def test_training_on_takes_the_head_over(trained: Path, ratings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def start(name: str, task: Path = ratings, rows: str = "", *more: object) -> str:
        data = trained.parent / "rows.csv"
        data.write_text(rows or (RATINGS / "train.csv").read_text())
        return done(
            capsys, "train", "--task", f"{task}:Rating", "--encoder", trained, "--train", data, "--device", "cpu",
            "--output", trained.parent / name, "--max-seq-length", 32, "--max-steps", 1, "--learning-rate", 1e-9, *more,
        ).err  # fmt: skip

    assert "head: reused" in start("same")
    assert describe(str(trained))["heads"] == ["ratings.py:Rating"]
    before, after = (bertune.load(folder, trust_task_file=ratings) for folder in (trained, trained.parent / "same"))
    texts = ["a good room", "a bad room"]
    assert [one["scores"] for one in after.predict(texts)] == [
        pytest.approx(one["scores"], abs=1e-3) for one in before.predict(texts)
    ]
    assert "head: new" in start("fewer", rows="text,rating\ngood,1\nbad,2\nfine,3\n")  # other shapes
    changed = ratings.with_name("later") / "ratings.py"
    changed.parent.mkdir()
    changed.write_text(ratings.read_text() + "\n# changed since\n")
    assert "head: reused" in start("changed", changed)
    other = ratings.with_name("other.py")
    other.write_text(ratings.read_text())
    assert "head: new" in start("other", other)


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"threshold": 0.9}, True),
        ({"options": {"text_column": "t"}}, True),
        ({"labels": ("good", "bad")}, False),
        ({"labels": ("bad", "fine")}, False),
        ({"options": {"pooling": "cls"}}, False),
        ({"name": "other.py:Own"}, False),
        ({"threshold": None}, True),
        ({"weights": (0.5, 2.0)}, True),
        ({"codes": (1, 2, 3)}, False),
        ({"codes": (0, 1, 2.0)}, False),
        ({"codes": (False, True, 2)}, False),
        ({"numbers": {"bad": 1, "fine": 0}}, False),
        ({"numbers": {"bad": 0, "good": 1}}, False),
        ({"cased": 1}, False),
        ({"cased": None}, False),
        ({"stars": 4}, False),
        ({"names": {3: "three"}}, False),
    ],
)
def test_a_head_is_kept_for_what_was_learnt_and_the_same_form(changed: dict[str, Any], kept: bool) -> None:
    """Shapes are compared where the head is loaded."""
    before = Own("own.py:Own", Options(), ("bad", "good"), 0.5)
    said: dict[str, Any] = {"name": before.name, "labels": before.labels, "threshold": before.threshold} | changed
    after = Own(**(said | {"options": Options(**changed.get("options", {}))}))
    settings = json.loads(json.dumps(before.huggingface().settings))  # type: ignore[attr-defined]
    assert after.keeps_head(settings) is kept  # type: ignore[attr-defined]
    assert not after.keeps_head({})  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Options:
    """One of which decides the model's form."""

    text_column: str = option("text", help="column of the text")
    pooling: str = option("mean", help="how tokens become one", fixed=True)


@complete
@dataclass(frozen=True)
class Own:
    """As much of a task as has a head."""

    name: str
    options: Options
    labels: tuple[str, ...]
    threshold: float | None
    weights: tuple[float, ...] = ()
    codes: tuple[float, ...] = (0, 1, 2)
    numbers: Mapping[str, int] = field(default_factory=lambda: {"bad": 1, "good": 0})
    cased: bool | None = True
    stars: int = 5
    names: Mapping[int, str] = field(default_factory=lambda: {2: "two", 10: "ten"})

    def new_head(self, config: EncoderConfig) -> nn.Module:
        return nn.Linear(config.hidden_size, len(self.labels))


def test_another_file_is_refused_unrun(trained: Path, ratings: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "ratings.py"
    other.parent.mkdir()
    other.write_text(ratings.read_text() + "\nraise SystemExit('this ran')\n")
    with pytest.raises(InputError, match=f"its SHA-256 is {bertune_sha256(other)}, but the model was trained with"):
        bertune.load(trained, trust_task_file=other)
    with pytest.raises(InputError, match="no such file"):
        bertune.load(trained, trust_task_file=tmp_path / "absent.py")
    with pytest.raises(InputError, match="expected the Python file"):
        bertune.load(trained, trust_task_file=tmp_path)


BAD_TASK = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Mine:
    name: str
    options: object
    def read(self, path): ...
    def loss(self, logits, targets, layout): ...
    decode = 3
"""


@pytest.fixture
def task_file(tmp_path: Path) -> Make:
    def make(text: str) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(text)
        return path

    return make


def test_every_missing_piece_is_named(task_file: Make) -> None:
    path = task_file(BAD_TASK)
    with pytest.raises(InputError) as error:
        new_task(f"{path}:Mine")
    told = str(error.value)
    assert told.startswith("6 problems:")
    assert told.count(f"{path}, class Mine: ") == 6
    for piece in (
        "lacks the field 'metric' (The metric that picks",
        "read must take (path, labelled), by these names",
        "lacks the method featurize(examples, tokenizer, max_seq_length, purpose): Tokenized",
        "lacks the method new_head(config)",
        "decode must be a method decode(logits, features, examples)",
        "lacks the method metrics(logits, features, examples), or row_metrics(examples, predictions): How good the",
    ):
        assert piece in told


@pytest.mark.parametrize(
    ("text", "name", "told"),
    [
        ("class Mine: pass\n", "Mine", "is not a dataclass; write @dataclass(frozen=True) above it"),
        ("class Mine: pass\n", "Other", "has no class 'Other' of its own; write"),
        ("class Mine: pass\n", "Other", "It has: Mine"),
        ("from pathlib import Path\n", "Path", "has no class 'Path' of its own"),
        ("class Mine: pass\n", "", "needs the name of its class; write"),
        ("a = 1\nb = a / 0\n", "Mine", "line 2: the task file does not run: ZeroDivisionError"),
        ("a = 1\nif:\n", "Mine", "line 2: the task file does not run: SyntaxError"),
        ("import does_not_exist\n", "Mine", "line 1: the task file does not run: ModuleNotFoundError"),
        (
            "from dataclasses import dataclass\n@dataclass\nclass Mine:\n    a: int\n",
            "Mine",
            "first two fields must be",
        ),
        (
            BAD_TASK + "    @dataclass\n    class Options:\n        a: int = 1\n",
            "Mine",
            "Options.a: write `a: … = option(default",
        ),
    ],
)
def test_files_that_do_not_fit(task_file: Make, text: str, name: str, told: str) -> None:
    path = task_file(text)
    with pytest.raises(InputError) as error:
        new_task(f"{path}:{name}" if name else str(path))
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_no_such_task_or_file(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"no such task; did you mean text-classification\? Known: text-classification.*path/to/file\.py:Class",
    ):
        new_task("text-classificatoin")
    with pytest.raises(InputError, match="no such file"):
        new_task(f"{tmp_path}/absent.py:Mine")


def test_an_option_of_the_file_is_a_flag(ratings: Path, tmp_path: Path) -> None:
    assert new_task(f"{ratings}:Rating", {"text_column": "t"}).options.text_column == "t"
    with pytest.raises(InputError, match=r"task ratings\.py:Rating: no option textcolumn; it has: "):
        new_task(f"{ratings}:Rating", {"textcolumn": "t"})


def old_style(text: str) -> str:
    """The guide's task as 0.1.0 had it: without a base class, and with that version's import paths."""
    assert "(BaseTask)" in text
    text = text.replace("class Rating(BaseTask):", "class Rating:").replace("bertune.tasks.shared.", "bertune.tasks.")
    return text.replace("from bertune.tasks.base import BaseTask\n", "")


@pytest.mark.parametrize("decorated", [False, True])
def test_files_from_before_the_base_class_work_as_they_did(
    decorated: bool, ratings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = old_style(ratings.read_text())
    if decorated:
        text = text.replace("@dataclass(frozen=True)\nclass Rating", "@complete\n@dataclass(frozen=True)\nclass Rating")
        text = text.replace("from dataclasses", "from bertune.tasks.defaults import complete\nfrom dataclasses")
    ratings.write_text(text)
    write_encoder(tmp_path / "encoder")
    done(
        capsys, "train", "--task", f"{ratings}:Rating", "--encoder", tmp_path / "encoder", "--output", tmp_path / "out",
        "--train", RATINGS / "train.csv", "--max-seq-length", 32, "--max-steps", 1, "--device", "cpu",
    )  # fmt: skip
    model = bertune.load(tmp_path / "out", trust_task_file=ratings)
    assert set(model.predict(["a good room"])[0]) == {"stars", "scores"}
    assert pickle.loads(pickle.dumps(model.task)) == model.task
    assert model.task.baselines() == {}
    assert model.task.row_metrics([], []) is None
    assert model.task.defaults == Defaults()


def test_a_mutable_dataclass_of_old_keeps_its_constructor(task_file: Make) -> None:
    text = (GUIDE.read_text().split("```python\n")[1]).split("```")[0]
    path = task_file(old_style(text).replace("@dataclass(frozen=True)\nclass Rating", "@dataclass\nclass Rating"))
    task = new_task(f"{path}:Rating")
    assert (task.name, task.options.text_column) == ("mine.py:Rating", None)


def test_the_base_class_needs_a_dataclass_and_a_measure(task_file: Make) -> None:
    path = task_file(
        "from dataclasses import dataclass\nfrom bertune.tasks.base import BaseTask\n"
        "class Plain(BaseTask): ...\n"
        "@dataclass(frozen=True)\nclass Bare(BaseTask):\n    name: str\n    options: object\n    metric: str = 'f1'\n"
        "@dataclass(frozen=True)\nclass Rows(Bare):\n    def row_metrics(self, examples, predictions): ...\n"
    )
    with pytest.raises(InputError, match="is not a dataclass"):
        new_task(f"{path}:Plain")
    with pytest.raises(InputError, match=r"lacks the method metrics\(.*\), or row_metrics") as error:
        new_task(f"{path}:Bare")
    assert str(error.value).startswith("6 problems")
    with pytest.raises(InputError) as error:
        new_task(f"{path}:Rows")
    assert "row_metrics" not in str(error.value)


@pytest.mark.parametrize("old", sorted(HOMES))
def test_old_paths_lead_to_the_same_things(old: str) -> None:
    module = importlib.import_module(old)
    for home in HOMES[old]:
        now = importlib.import_module(f"bertune.{home}")
        public = [name for name, thing in vars(now).items() if getattr(thing, "__module__", "") == now.__name__]
        assert public
        assert all(getattr(module, name) is getattr(now, name) for name in public)
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec(f"from {old} import nothing")


@dataclass(frozen=True)
class _Older:
    """A task written for version 0.1.0, where `fit` was called `learn`."""

    name: str
    options: Options
    labels: tuple[str, ...] = ()

    def learn(self, examples: Any, *, path: Path, settings: Any) -> "_Older":
        return _Older(self.name, self.options, tuple(sorted(set(examples))))


class _Newer(BaseTask[str]):
    def learn(self, examples: Any, *, path: Path, settings: Any) -> str:
        return "the older name"

    def fit(self, examples: Any, *, path: Path, settings: Any) -> Any:
        return "the name of now"


class _Again(_Newer):
    def learn(self, examples: Any, *, path: Path, settings: Any) -> str:
        return "an older file's own"


def test_tasks_of_older_versions_are_fitted() -> None:
    task: Any = complete(_Older)("a.py:Older", Options())
    assert task.fit(["good", "bad", "good"], path=Path("a"), settings={}).labels == ("bad", "good")
    newer: Any = _Newer
    assert newer.fit(newer, [], path=Path("a"), settings={}) == "the name of now"
    again: Any = _Again
    assert again.fit(again, [], path=Path("a"), settings={}) == "an older file's own"
    plain: Any = BaseTask
    assert "fit" not in vars(type("Plain", (plain,), {}))
