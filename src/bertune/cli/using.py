"""What `evaluate` and `predict` share: options, and loading a model with a file's own column names."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.model.presence import require_model
from bertune.options import DEVICES, PRECISIONS, option
from bertune.tasks.registry import options_of_model

if TYPE_CHECKING:
    from bertune.model.use import Model


@dataclass(frozen=True)
class UseOptions:
    """Options of every command that uses a model."""

    model: str = option(help="folder that bertune train wrote")
    batch_size: int = option(256, help="largest number of sequences in a batch")
    precision: str = option(
        "auto",
        help="floating-point format of the computation; int8: 8-bit matrix products, on CPUs that support them",
        choices=(*PRECISIONS, "int8"),
    )
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )


@dataclass(frozen=True)
class _First:
    model: str | None = option(None, help="folder that bertune train wrote")
    trust_task_file: str | None = option(None, help="the file of a model whose task came from one")


def parse_for_model(
    prog: str, about: str, trees: Sequence[type[Any]], argv: Sequence[str]
) -> tuple[Any, dict[str, Any]]:
    """The command's options, and those of the model's task that were said.

    Args:
        prog: the command.
        about: what it does.
        trees: `UseOptions` and the command's own dataclass, which are merged into one namespace.
        argv: arguments after the verb.
    """
    own: list[type[Any]] = []
    first = parse(prog, about, [_First], argv, partial=True)
    folder = first.get("model")
    if folder is not None and not {"-h", "--help"} & set(argv):
        require_model(Path(folder))
    if folder is not None and (Path(folder) / "bertune.json").is_file():
        state = read_json(Path(folder) / "bertune.json").get("task", {})
        own = [options_of_model(state, first.get("trust_task_file"))]
    parsed = parse(prog, about, [*trees, *(_all_optional(tree) for tree in own)], argv)
    general = {field.name for tree in trees for field in dataclasses.fields(tree)}
    made = [
        tree(**{field.name: parsed[field.name] for field in dataclasses.fields(tree) if field.name in parsed})
        for tree in trees
    ]
    return made, {name: value for name, value in parsed.items() if name not in general}


def _all_optional(tree: type[Any]) -> type[Any]:
    """The same options, whose defaults are the model's; `--help` leaves out those that matter in training alone."""

    def optional(field: dataclasses.Field[Any]) -> Any:
        of_training = field.metadata.get("training") or field.metadata.get("fixed")
        return option(None, **{**field.metadata, "hidden": bool(of_training)})

    hints = [(field.name, field.type, optional(field)) for field in dataclasses.fields(tree)]
    made: type[Any] = dataclasses.make_dataclass(tree.__name__, hints)
    return made


def load_for(options: UseOptions, task_options: dict[str, Any]) -> "Model":
    """The model, with its task's options changed as said.

    Raises:
        InputError: no model there, or an illegal number.
    """
    from bertune.model.use import load

    if options.batch_size < 1:
        raise InputError(f"--batch-size {options.batch_size}: must be at least 1")
    model = load(
        options.model, device=options.device, precision=options.precision, trust_task_file=options.trust_task_file
    )
    changed = dataclasses.replace(model.task.options, **task_options)
    return dataclasses.replace(model, task=model.task.with_options(changed))
