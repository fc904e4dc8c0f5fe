"""Where answers go: a file, a folder or a stream, and how they are kept until they are whole."""

from dataclasses import dataclass
from pathlib import Path

from bertune.errors import InputError
from bertune.files.outputs import check_output
from bertune.prediction.formats import KINDS, Format
from bertune.prediction.inputs import is_stream
from bertune.prediction.options import BulkOptions
from bertune.prediction.parts import Parts


@dataclass(frozen=True)
class Target:
    """Where answers go.

    path: as the user wrote it.  parts: where they are kept until they are whole; None: written as a stream.
    joined: whether the parts become one file.
    """

    path: Path
    format: Format
    parts: Parts | None
    joined: bool


def target_of(options: BulkOptions) -> Target:
    """What --output and --output-format say.

    Raises:
        InputError: a place that cannot be written, or a format that there is not.
    """
    name = str(options.output)
    path = Path(name)
    folder = name != "-" and (path.is_dir() or name.endswith(("/", "\\")))
    if folder:
        form = Format(*_named_format(options.output_format or "jsonl"))
        return Target(path, form, Parts(path, form), joined=False)
    check_output(name)
    form = Format() if name == "-" else Format.of_name(path)
    if is_stream(name):
        if form.kind == "parquet":
            raise InputError(f"--output {name}: Parquet cannot be written to a pipe; name a file")
        return Target(path, form, None, joined=False)
    return Target(path, form, Parts(Path(f"{name}.parts"), form, header="first", of=path), joined=True)


def _named_format(name: str) -> tuple[str, str]:
    kind, dot, packing = name.removeprefix(".").lower().partition(".")
    if kind not in KINDS or packing not in ("", "gz", "zst") or (kind == "parquet" and packing):
        raise InputError(f"--output-format {name}: must be one of {', '.join(KINDS)}; text also with .gz or .zst")
    return kind, dot + packing
