"""Which runs a study makes: one for each of several tasks, or those that a YAML file lists.

    seeds: 1-5
    encoder: minilm
    runs:
      - {name: low rate, task: mrpc, train: MRPC/train.tsv, validation: MRPC/dev.tsv, learning_rate: 2e-5}
      - {name: high rate, task: mrpc, train: MRPC/train.tsv, validation: MRPC/dev.tsv, learning_rate: 1e-4}

What stands outside of `runs` holds for all of them, and what the command line says goes before both.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from bertune.errors import InputError, Problems
from bertune.files.yaml_files import read_yaml
from bertune.option_values import checked_values
from bertune.tasks.registry import TASKS, new_task, options_of, require_task
from bertune.training.options import TrainOptions
from bertune.training.presets import with_preset

Values = Mapping[str, Any]
_FOLDERS = {"sst2": "SST-2", "stsb": "STS-B", "cola": "CoLA"}
"""Where GLUE's own folders are not named as the task is, in capitals."""
_FILES = {"train": ("train",), "validation": ("dev_matched", "dev", "validation", "valid")}
"""How the names of a task's files begin, best first."""
_PATHS = ("train", "validation")


@dataclass(frozen=True)
class Run:
    """One run of a study. name: of its row, and of its folder."""

    name: str
    options: TrainOptions
    task_options: Mapping[str, Any]


def is_several(task: str | None) -> bool:
    """Whether an option names several tasks, by commas."""
    return task is not None and "," in task and not Path(task).exists()


def plan(values: Values, file: Path | None) -> list[Run]:
    """The runs of a study.

    Args:
        values: options as the command line gives them; `task` may name several.
        file: YAML file of runs.

    Raises:
        InputError: everything that is wrong with any of the runs, at once.
    """
    output = values.get("output")
    if output is None:
        raise InputError("bertune train: needs --output (folder for all runs and their table)")
    wanted = _of_file(file, values) if file is not None else _of_tasks(values)
    problems, runs = Problems(), list[Run]()
    for name, one in wanted.items():
        try:
            runs.append(_run(name, {**one, "output": str(Path(output) / name)}))
        except InputError as error:
            problems.extend(f"{name}: {message}" for message in _lines(error))
    problems.raise_if_any()
    return runs


def _lines(error: InputError) -> list[str]:
    first, *rest = str(error).splitlines()
    return [line.strip().removeprefix("- ") for line in rest] or [first]


def _of_tasks(values: Values) -> dict[str, dict[str, Any]]:
    """A run for every task that `task` names, with that task's files."""
    found: dict[str, dict[str, Any]] = {}
    for task in [name.strip() for name in str(values["task"]).split(",") if name.strip()]:
        require_task(task)
        found[task] = {**values, "task": task}
    problems, wrong = Problems(), list[str]()
    for task, one in found.items():
        for role in _PATHS:
            try:
                if (path := _located(task, one.get(role), values.get("train"), role)) is not None:
                    one[role] = path
            except InputError as error:
                wrong.append(str(error))
    problems.extend(dict.fromkeys(wrong))  # the same for every task, mostly
    problems.raise_if_any()
    return found


def _located(task: str, spec: object, train: object, role: str) -> str | None:
    """A task's file: by `{task}` in its name, or in the task's folder of the folder that --train names."""
    if isinstance(spec, str) and "{task}" in spec:
        names = (task, task.upper(), _FOLDERS.get(task, task))
        return next((path for name in names if Path(path := spec.replace("{task}", name)).exists()), spec)
    if isinstance(train, str) and "{task}" in train:
        return None
    root = Path(str(train))
    if not isinstance(train, str) or not root.is_dir():
        raise InputError(
            f"--train {train}: several tasks need a file each; write {{task}} in its name, as in 'glue/{{task}}/"
            "train.tsv', or name the folder that holds a folder for every task"
        )
    folder = next((one for one in sorted(root.iterdir()) if one.is_dir() and _plain(one.name) == _plain(task)), None)
    if folder is None:
        raise InputError(f"--train {root}: holds no folder for {task}; there are: {_folders(root)}")
    files = sorted(one for one in folder.iterdir() if one.is_file())
    for beginning in _FILES[role]:
        for file in files:
            if file.name.lower().startswith(beginning):
                return str(file)
    if role == "train":
        raise InputError(f"--train {folder}: holds no file whose name begins with train")
    return None


def _plain(name: str) -> str:
    return re.sub(r"[-_ ]", "", name).casefold()


def _folders(root: Path) -> str:
    return ", ".join(sorted(one.name for one in root.iterdir() if one.is_dir())[:20]) or "none"


def _of_file(path: Path, values: Values) -> dict[str, dict[str, Any]]:
    """The runs of a YAML file by their names; files are looked for beside it first."""
    tree = read_yaml(path, "--runs")
    listed = tree.pop("runs", None)
    if not isinstance(listed, list) or not listed or not all(isinstance(one, dict) for one in listed):
        raise InputError(f"{path}: needs runs, a list of mappings of options, each with a name")
    shared = {key.replace("-", "_"): value for key, value in tree.items()}
    found: dict[str, dict[str, Any]] = {}
    problems = Problems()
    for number, one in enumerate(listed, 1):
        options = shared | {str(key).replace("-", "_"): value for key, value in one.items()}
        name = str(options.pop("name", options.get("task", f"run {number}")))
        if name in found:
            problems.add(f"{path}: two runs are called {name!r}; give each a name of its own")
        if re.search(r"[/\\]|^\.", name):
            problems.add(
                f"{path}: the name {name!r} becomes a folder, so it may hold no slash and not begin with a dot"
            )
        for role in _PATHS:
            if role in options:
                options[role] = _beside(path.parent, options[role])
        found[name] = {key: value for key, value in options.items() if value is not None} | dict(values)
    problems.raise_if_any()
    return found


def _beside(folder: Path, named: Any) -> Any:
    if isinstance(named, list):
        return [_beside(folder, one) for one in named]
    beside = folder / str(named)
    return str(beside) if beside.exists() else str(named)


def _run(name: str, values: Values) -> Run:
    """A run from its options, by name.

    Raises:
        InputError: options that are missing, unknown or illegal.
    """
    general = {field.name for field in dataclasses.fields(TrainOptions)}
    needed = [option for option in ("task", "encoder", "train") if option not in values]
    if needed:
        raise InputError(f"needs {', '.join(f'--{option}' for option in needed)}")
    own = {field.name for field in dataclasses.fields(options_of(str(values["task"])))}
    if strange := sorted(values.keys() - general - own):
        raise InputError(f"no option {', '.join('--' + name.replace('_', '-') for name in strange)}")
    numbers = {key: _number(value) for key, value in values.items()}
    task_options = {key: value for key, value in numbers.items() if key in own and key not in general}
    given = checked_values(TrainOptions, {key: numbers[key] for key in numbers if key in general})
    options = TrainOptions(**with_preset(given, task_options))
    new_task(options.task, task_options)
    problems = Problems()
    problems.extend(options.problems())
    problems.raise_if_any()
    return Run(name, options, task_options)


def _number(value: Any) -> Any:
    """YAML reads 2e-5 as text."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def shared_options(tasks: Sequence[str]) -> list[type[Any]]:
    """Options that all of several tasks have, as one dataclass."""
    kinds = [options_of(task.strip()) for task in tasks if task.strip() in TASKS]
    if not kinds:
        return []
    first = kinds[0]
    common = {field.name for field in dataclasses.fields(first)}
    for other in kinds[1:]:
        common &= {field.name for field in dataclasses.fields(other)}
    hints = get_type_hints(first)
    made = [
        (field.name, hints[field.name], dataclasses.field(default=None, metadata=field.metadata))
        for field in dataclasses.fields(first)
        if field.name in common
    ]
    return [dataclasses.make_dataclass("SharedOptions", made)]
