"""`bertune pack`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile

from bertune.cli.arguments import parse
from bertune.errors import InputError, counted
from bertune.options import option


@dataclass(frozen=True)
class PackOptions:
    """Options of `bertune pack`; the run is given without a flag, before them."""

    output: str | None = option(None, help="a new folder, or a file that ends in .zip (default: RUN.zip)", value="PATH")
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Pack the model of a run."""
    folders = list(takewhile(lambda argument: not argument.startswith("-"), argv))
    about = "Pack the model of a run into one file to hand on, without checkpoints and curves."
    run = ("RUN", "a folder that bertune train wrote")
    options = PackOptions(**parse("bertune pack", about, [PackOptions], argv[len(folders) :], leading=run))
    if len(folders) != 1:
        raise InputError(f"bertune pack: name one folder that bertune train wrote, not {len(folders)}")

    from pathlib import Path

    from bertune.model.pack import pack

    folder = Path(folders[0])
    beside = folder if folder.name not in ("", "..") else folder.resolve()  # "." has a name only when resolved
    packed = pack(folder, Path(options.output or f"{beside}.zip"))
    if options.json:
        print(json.dumps({**asdict(packed), "output": str(packed.output)}))
        return
    size, before = (f"{count / 1e6:.1f} MB" for count in (packed.size, packed.before))
    print(f"{packed.output}: {counted(packed.files, 'file')}, {size} of the run's {before}")
    if packed.output.suffix.lower() == ".zip":
        print(f"To use it elsewhere: python -m zipfile -e {packed.output.name} models")
        print(f"                     bertune predict --model models/{folder.resolve().name} --input FILE")
    if packed.task_file is not None:
        print(f"The model's task is in {packed.task_file}: hand that file on too, to be named by --trust-task-file.")
