"""Command lines made from dataclasses of options: `-` and `_` alike, YAML files, errors that suggest."""

import argparse
import dataclasses
import difflib
import logging
import re
import shutil
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from bertune.cli.groups import GENERAL, ORDER, REQUIRED, TRAINING, place_of, placeholder
from bertune.errors import InputError, Problems
from bertune.option_values import illegal

logger = logging.getLogger(__name__)

OTHER_NAMES = {
    "learning-rate": "lr rate step-size",
    "batch-size": "bs batch per-device-train-batch-size train-batch-size per-gpu-train-batch-size",
    "epochs": "epoch num-epochs n-epochs num-train-epochs train-epochs",
    "max-steps": "steps num-train-steps num-steps max-train-steps",
    "max-seq-length": "max-length max-len max-seq-len seq-length maxlen max-sequence-length",
    "warmup-ratio": "warmup warmup-proportion",
    "gradient-accumulation": "gradient-accumulation-steps accumulation-steps accumulate",
    "activation-checkpointing": "gradient-checkpointing",
    "lr-schedule": "lr-scheduler lr-scheduler-type scheduler schedule",
    "patience": "early-stopping early-stopping-patience",
    "train": "train-file train-data training-data train-path train-dataset data data-dir input",
    "validation": "dev dev-file eval eval-data eval-file valid val validation-file test test-file",
    "encoder": "model model-name model-name-or-path pretrained checkpoint base-model init-checkpoint source",
    "output": "output-dir out out-dir save-dir output-file destination",
    "model": "model-dir model-path checkpoint run encoder",
    "data": "input test file test-file validation dev eval-data",
    "input": "data file text-file test predict-file",
    "delimiter": "sep separator",
    "encoding": "charset codec",
    "text-column": "text text-col text-field sentence-column input-column",
    "pair-column": "text-pair-column text2-column second-column",
    "label-column": "label label-col target-column target labels-column",
    "precision": "dtype fp16 bf16 half amp",
    "device": "gpu cuda cpu no-cuda",
    "seed": "random-seed random-state",
    "seeds": "num-seeds n-seeds",
    "folds": "cv k-folds kfold cross-validation",
    "time-limit": "budget max-time timeout time-budget",
    "columns": "keep columns-kept",
    "top-k": "topk n-best n-best-size",
    "drop-unlabelled": "drop-unlabeled dropna skip-unlabelled drop-missing",
    "validation-share": "test-size val-split validation-split dev-share test-share",
    "all-scores": "return-all-scores",
    "do-lower-case": "lowercase lower uncased",
}
"""What people from other tools type for an option; only where the command has that option and not what they typed."""
_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
"""Types of values in words, by their names."""
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if found := re.fullmatch(r"argument (--\S+): invalid (.+) value: '(.*)'", message):
            raise InputError(f"{found[1]} {found[3]}: expected {_KINDS.get(found[2], found[2])}")
        if found := re.fullmatch(r"argument (--\S+): expected (?:one|at least one) argument", message):
            raise InputError(f"{found[1]}: a value is missing")
        if found := re.fullmatch(r"argument (--\S+)/(--no-\S+): ignored explicit argument '(.*)'", message):
            raise InputError(f"{found[1]}={found[3]}: takes no value; write {found[1]} or {found[2]}")
        raise InputError(f"{self.prog}: {message}")


class _Help(argparse.HelpFormatter):
    """Names and options stay whole: lines end at spaces alone. Indented lines of a description are kept as they are."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        filled = (
            part if part.startswith(" ") else textwrap.fill(part, width, break_on_hyphens=False)
            for part in text.splitlines()
        )
        return textwrap.indent("\n".join(filled), indent)


class _Once(argparse.Action):
    """Stores the option's value; where it is given again with another one, the last counts, and that is logged."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Store it."""
        before = getattr(namespace, self.dest)
        if before not in (None, values) and parser.usage:  # not at the first, partial look at a command line
            logger.warning("%s is given twice, %s and %s; the last counts", option_string, before, values)
        setattr(namespace, self.dest, values)


def flag(name: str) -> str:
    """A field's name as it is typed: `max_seq_length` → `--max-seq-length`."""
    return "--" + name.replace("_", "-")


def parse(
    prog: str,
    description: str,
    trees: Sequence[type[Any]],
    argv: Sequence[str],
    *,
    partial: bool = False,
    undecided: str | None = None,
    defaults: Mapping[str, object] | None = None,
    leading: tuple[str, str] | None = None,
) -> dict[str, Any]:
    """Values that a command line, and a YAML file named by --config, give to the fields of some dataclasses.

    Only what was said is in the result: a dataclass's own defaults are left to it. The command line wins over the file.

    Args:
        prog: the command, for messages.
        description: what it does, for --help.
        trees: dataclasses made with `option`.
        argv: arguments after the verb.
        partial: pass over unknown options, missing ones and --help: a first look at a few options.
        undecided: the option that further options depend on, where it was not given.
        defaults: what --help shows as the defaults of options that have none of their own.
        leading: what is given before the options, without a flag, and its help; the caller reads it.

    Raises:
        InputError: unknown options (the nearest is suggested), illegal values, required options missing; all at once.
    """
    fields = {field.name: field for tree in trees for field in dataclasses.fields(tree)}
    owners = {field.name: tree for tree in trees for field in dataclasses.fields(tree)}
    hints = {name: hint for tree in trees for name, hint in typing.get_type_hints(tree).items()}
    parser = _Parser(prog=prog, usage=None if partial else _usage(prog, fields, hints, leading),
                     description=description, formatter_class=_Help, allow_abbrev=False, add_help=False)  # fmt: skip
    general = _add_all(parser, fields, hints, defaults or {}, leading)
    if not partial:
        general.add_argument("-h", "--help", action="help", help="show this help and exit")
    parsed, rest = parser.parse_known_args(_normal(argv, fields, hints))
    values = {name: _single(value, hints.get(name)) for name, value in vars(parsed).items() if value is not None}
    problems = Problems()
    config = values.pop("config", None)
    if config is not None:
        values = _from_file(Path(config), fields, hints, problems if not partial else Problems()) | values
    if partial:
        return values
    values_of_unknown = {i for i in range(1, len(rest)) if rest[i - 1].startswith("--") and rest[i][:2] != "--"}
    problems.extend(
        _unknown(prog, argument, fields, undecided) for i, argument in enumerate(rest) if i not in values_of_unknown
    )
    for name, field in fields.items():
        if _is_required(field) and name not in values:
            problems.add(f"{prog}: needs {flag(name)} ({field.metadata['help']})")
        if name in values:
            problems.extend(illegal(owners[name], field, values[name]))
    problems.raise_if_any()
    return values


def _usage(
    prog: str, fields: Mapping[str, dataclasses.Field[Any]], hints: Mapping[str, Any], leading: tuple[str, str] | None
) -> str:
    """What must be given, in lines no wider than the terminal; argparse's own lists every option once more."""
    needed = [
        f"{flag(name)} {_value(field, _kind(hints[name]))}" for name, field in fields.items() if _is_required(field)
    ]
    parts = [prog, *([leading[0]] if leading else []), *needed, "[options]"]
    unbroken = " ".join(part.replace(" ", "\0") for part in parts)
    width = shutil.get_terminal_size().columns - len("usage: ") - 2
    lines = textwrap.wrap(unbroken, width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n       ".join(lines).replace("\0", " ").replace("%", "%%")


def _add_all(
    parser: argparse.ArgumentParser,
    fields: Mapping[str, dataclasses.Field[Any]],
    hints: Mapping[str, Any],
    defaults: Mapping[str, object],
    leading: tuple[str, str] | None,
) -> argparse._ArgumentGroup:
    """Add the options, under their headings. Returns: the last heading's, of every command."""
    training = parser.prog.split()[-1] in TRAINING
    headings: dict[str, list[tuple[int, str]]] = {heading: [] for heading in ORDER}
    for name, field in fields.items():
        heading, place = place_of(name, required=_is_required(field), training=training)
        headings[heading].append((place, name))
    for heading, names in headings.items():
        about = f"{leading[0]}: {leading[1]}" if leading and heading == REQUIRED else None
        group = parser.add_argument_group(heading, about) if names or about else parser
        for _, name in sorted(names, key=lambda one: one[0]):
            _add(group, fields[name], _kind(hints[name]), defaults.get(name))
    general = parser.add_argument_group(GENERAL)
    about_file = "YAML file with any of these options; the command line takes precedence"
    general.add_argument("--config", metavar="FILE", help=about_file)
    return general


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _kind(hint: Any) -> Any:
    """The type of a value that is given: `int | None` → int; of `int | Literal["auto"]` what reads both."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        lists = [part for part in parts if typing.get_origin(part) is list]
        if lists:
            return lists[0]
        return _number_or_auto if len(parts) > 1 else parts[0]
    return hint


def _single(value: Any, hint: Any) -> Any:
    """A list of one for an option of `str | list[str]` as that one."""
    alone = typing.get_origin(hint) is not list and str in typing.get_args(hint)
    single = alone and isinstance(value, list) and len(value) == 1
    return value[0] if single else value


def _number_or_auto(text: str) -> int | str:
    return text if text == "auto" else int(text)


_number_or_auto.__name__ = "a number (or auto)"
_METAVARS: dict[Any, str] = {int: "N", float: "X", _number_or_auto: "N|auto"}


def _add(parser: argparse._ActionsContainer, field: dataclasses.Field[Any], kind: Any, default: object = None) -> None:
    text = field.metadata["help"]
    if field.default not in (dataclasses.MISSING, None, False):
        default = field.default
    if default is not None:
        text += f" (default: {'on' if default is True else default})"
    text = argparse.SUPPRESS if field.metadata.get("hidden") else text.replace("%", "%%")
    if kind is bool:
        parser.add_argument(flag(field.name), action=argparse.BooleanOptionalAction, default=None, help=text)
    elif typing.get_origin(kind) is list:
        of = typing.get_args(kind)[0]
        parser.add_argument(
            flag(field.name), nargs="+", action="extend", type=of, default=None, help=text, metavar=_value(field, of)
        )
    else:
        parser.add_argument(
            flag(field.name), action=_Once, type=kind, default=None, help=text, metavar=_value(field, kind)
        )


def _value(field: dataclasses.Field[Any], kind: Any) -> str:
    """What stands for the option's value in `--help`."""
    if choices := field.metadata.get("choices"):
        return "{" + ",".join(choices) + "}"
    if typing.get_origin(kind) is list:
        kind = typing.get_args(kind)[0]
    return str(field.metadata.get("value") or _METAVARS.get(kind) or placeholder(field.name))


def _normal(argv: Sequence[str], fields: Mapping[str, dataclasses.Field[Any]], hints: Mapping[str, Any]) -> list[str]:
    """`--a_b` as `--a-b`, and `--flag=true` as `--flag`."""
    normal = []
    for argument in argv:
        if not argument.startswith("--") or argument == "--":
            normal.append(argument)
            continue
        name, equals, value = argument.partition("=")
        name = "--" + name[2:].replace("_", "-")
        field = name[2:].replace("-", "_")
        if equals and field in fields and _kind(hints[field]) is bool and value.lower() in (*_TRUE, *_FALSE):
            normal.append(name if value.lower() in _TRUE else f"--no-{name[2:]}")
        else:
            normal.append(name + equals + value)
    return normal


def _from_file(
    path: Path, fields: Mapping[str, dataclasses.Field[Any]], hints: Mapping[str, Any], problems: Problems
) -> dict[str, Any]:
    from bertune.files.yaml_files import read_yaml

    values = {}
    for key, value in read_yaml(path, "--config").items():
        name = key.replace("-", "_")
        if name == "record":  # what run.yaml tells of the run beside its options
            continue
        if name not in fields:
            problems.add(f"{path}: {_unknown('this command', flag(name), fields)}")
            continue
        if value is None:
            continue
        try:
            values[name] = _single(_converted(value, _kind(hints[name])), hints[name])
        except (TypeError, ValueError):
            kind = getattr(_kind(hints[name]), "__name__", "a list")
            problems.add(f"{path}: {key} is {value!r}; expected {_KINDS.get(kind, kind)}")
    return values


def _converted(value: Any, kind: Any) -> Any:
    """A YAML value as the option's type; YAML reads 1e-4 as text, so numbers are read from text again."""
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(value)
        return value
    if typing.get_origin(kind) is list:
        if isinstance(value, dict):
            value = [f"{key}={part}" for key, part in value.items()]
        return [typing.get_args(kind)[0](part) for part in (value if isinstance(value, list) else [value])]
    if isinstance(value, list | dict | bool):
        raise ValueError(value)
    return kind(str(value))


def _unknown(prog: str, argument: str, names: Iterable[str], undecided: str | None = None) -> str:
    if not argument.startswith("--"):
        return f"{prog}: does not know what to do with {argument!r}; options start with --"
    name = argument.partition("=")[0]
    plain = name.removeprefix("--")  # the dashes alone would make any two options alike
    options = [flag(known).removeprefix("--") for known in names]
    near = [known for known in options if plain in OTHER_NAMES.get(known, "").split()][:1]
    near = near or difflib.get_close_matches(plain, options, n=1, cutoff=0.8 if undecided else 0.7)
    if undecided and not near:
        return f"{prog}: {name} depends on {undecided}; say {undecided} too"
    return f"{prog}: no option {name}" + (f"; did you mean --{near[0]}?" if near else "; --help lists them")
