"""Command lines as absl reads them: `--name=value`, `--name value`, `-name`, `--flag`, `--noflag`, `--flagfile`.

A program's flags are the fields of dataclasses made with `option`, as everywhere; without a default they are required.
Source: the documentation of absl.flags, which the original's programs use.
"""

import dataclasses
import difflib
import typing
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bertune.errors import Problems

TreeT = TypeVar("TreeT")

TRUE, FALSE = ("true", "t", "1", "yes", "y"), ("false", "f", "0", "no", "n")
ALIASES = {"do_lower": "do_lower_case"}
"""The original's README spells one flag short."""
IGNORED = {
    "alsologtostderr": bool,
    "log_dir": str,
    "logtostderr": bool,
    "only_check_args": bool,
    "showprefixforinfo": bool,
    "stderrthreshold": str,
    "v": str,
    "verbosity": str,
}
"""absl's own flags, which every program of the original takes and which change nothing here; `bool` need no value."""


@dataclass(frozen=True)
class Flags:
    """What a command line says. said: values by flag, only of flags that were given."""

    provided: Mapping[str, Any]

    def of(self, tree: type[TreeT]) -> TreeT:
        """The values of one dataclass, its defaults where none was given."""
        fields = dataclasses.fields(tree)  # type: ignore[arg-type]
        given = {field.name: self.provided[field.name] for field in fields if field.name in self.provided}
        # Required flags that another flag made superfluous are empty.
        implied = {
            field.name: "" for field in fields if field.default is dataclasses.MISSING and field.name not in given
        }
        return tree(**given, **implied)


@dataclass(frozen=True)
class _Flag:
    """A flag: its field and the type of its value."""

    field: "dataclasses.Field[Any]"
    kind: type[Any]

    @property
    def required(self) -> bool:
        return self.field.default is dataclasses.MISSING


def parse_flags(
    program: str,
    trees: Sequence[type[Any]],
    argv: Sequence[str],
    implied: Callable[[Mapping[str, Any]], set[str]] | None = None,
) -> Flags:
    """Read a command line.

    Args:
        program: for messages.
        trees: dataclasses of the program's flags.
        argv: arguments.
        implied: required flags that others make superfluous.

    Raises:
        InputError: unknown flags (with the nearest), illegal values, required flags that are missing; all at once.
        SystemExit: after the list of flags that `--help` asks for.
    """
    flags = flags_of(trees)
    problems = Problems()
    provided = _read(program, flags, argv, problems)
    left_out = implied(provided) if implied else set()
    for name, flag in flags.items():
        if flag.required and name not in provided and name not in left_out:
            problems.add(f"{program}: flag --{name} must be given ({flag.field.metadata['help']})")
    problems.raise_if_any()
    return Flags(provided)


def flags_of(trees: Sequence[type[Any]]) -> dict[str, _Flag]:
    """All flags of some dataclasses, by name."""
    found = {}
    for tree in trees:
        hints = typing.get_type_hints(tree)
        for field in dataclasses.fields(tree):
            kinds = [kind for kind in typing.get_args(hints[field.name]) if kind is not type(None)]
            found[field.name] = _Flag(field, kinds[0] if kinds else hints[field.name])
    return found


def _read(program: str, flags: Mapping[str, _Flag], argv: Sequence[str], problems: Problems) -> dict[str, Any]:
    """Values by flag; the last one counts. What cannot be read becomes a problem."""
    provided: dict[str, Any] = {}
    accepted: set[str] = set()
    unknown: list[tuple[str, str]] = []
    words = deque(expand_files(argv, (), problems))
    while words:
        word = words.popleft()
        if not word.startswith("-") or word.strip("-") == "":
            unknown.extend(("", _positional(program, other)) for other in (words if word == "--" else [word]))
            words = deque() if word == "--" else words
            continue
        name, equals, value = word[2 if word.startswith("--") else 1 :].partition("=")
        name = ALIASES.get(name, name)
        kind = flags[name].kind if name in flags else IGNORED.get(name, str)
        if name in ("help", "helpfull", "helpshort", "h", "?"):
            print(help_text(program, flags))
            raise SystemExit(0)
        if name.startswith("no") and not equals and _is_boolean(name[2:], flags):
            provided[name[2:]] = False
        elif name not in (*flags, *IGNORED, "undefok"):
            unknown.append((name, _unknown(program, name, flags)))
        elif kind is bool:
            provided[name] = _boolean(name, value, problems) if equals else _alone(name, words, problems)
        else:
            text = value if equals else words.popleft() if words else None
            if name == "undefok":
                accepted.update((text or "").split(","))
            elif name in flags:
                provided[name] = _value(name, flags[name], text, problems)
    problems.extend(text for name, text in unknown if name not in accepted)
    return {name: value for name, value in provided.items() if name in flags}


def _is_boolean(name: str, flags: Mapping[str, _Flag]) -> bool:
    return (flags[name].kind if name in flags else IGNORED.get(name)) is bool


def expand_files(argv: Sequence[str], inside: tuple[Path, ...], problems: Problems) -> Iterator[str]:
    """Arguments with every `--flagfile` replaced by its lines; blank lines and those after # or // are comments."""
    rest = iter(argv)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            yield argument
            continue
        path = Path(value if equals else next(rest, "")).expanduser()
        if path.resolve() in inside:
            problems.add(f"--flagfile {path}: names itself, by way of {inside[-1]}")
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            problems.add(f"--flagfile {path}: cannot be read ({getattr(error, 'strerror', None) or error})")
            continue
        arguments = [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "//"))]
        yield from expand_files(arguments, (*inside, path.resolve()), problems)


def _boolean(name: str, text: str, problems: Problems) -> bool:
    if text.lower() not in (*TRUE, *FALSE):
        problems.add(f"--{name}={text}: expected true or false")
    return text.lower() in TRUE


def _alone(name: str, words: "deque[str]", problems: Problems) -> bool:
    """The value of a flag without one: true. A word `true` behind it is passed over, as absl does.

    absl passes over a `false` too, and so takes the flag as true: nobody means that.
    """
    following = words[0].lower() if words else ""
    if following in (*TRUE, *FALSE):
        words.popleft()
    if following in FALSE:
        problems.add(f"--{name} {following}: a space does not switch it off; write --{name}={following} or --no{name}")
    return True


def _value(name: str, flag: _Flag, text: str | None, problems: Problems) -> Any:
    """A flag's value in its type."""
    if text is None:
        problems.add(f"--{name}: needs a value, as in --{name}=VALUE")
        return None
    if text.startswith("gs://"):
        problems.add(
            f"--{name}={text}: only local files are read and written; copy them here first, as by "
            "`gcloud storage cp --recursive`"
        )
        return None
    try:
        if flag.kind is int:
            return int(text, 16 if text.lower().startswith("0x") else 8 if text.lower().startswith("0o") else 10)
        value = flag.kind(text)
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(flag.kind, flag.kind.__name__)
        problems.add(f"--{name}={text}: expected {kind}")
        return None
    choices = flag.field.metadata.get("choices")
    if choices and value not in choices:
        problems.add(f"--{name}={text}: must be one of {', '.join(choices)}")
    return value


def _positional(program: str, word: str) -> str:
    return f"{program}: does not know what to do with {word!r}; flags are written --name=value"


def _unknown(program: str, name: str, flags: Mapping[str, _Flag]) -> str:
    plain = name.replace("-", "_")
    known = [*flags, *(f"no{flag}" for flag in flags if flags[flag].kind is bool)]
    near = [plain] if plain in known else difflib.get_close_matches(plain, known, n=1, cutoff=0.5)
    return f"{program}: no flag --{name}" + (f"; did you mean --{near[0]}?" if near else "; --help lists them")


def help_text(program: str, flags: Mapping[str, _Flag]) -> str:
    """Every flag with its default, a line each."""
    lines = [f"usage: python -m bertune.google.{program} --flag=value …", ""]
    for name, flag in flags.items():
        default = flag.field.default
        shown = "required" if flag.required else f"default: {'none' if default is None else default}"
        lines.append(f"  --{'[no]' if flag.kind is bool else ''}{name}: {flag.field.metadata['help']} ({shown})")
    return "\n".join([*lines, "  --flagfile: file of further flags, one a line"])
