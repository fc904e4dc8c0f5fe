"""`bertune samples DIR`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from bertune.errors import InputError
from bertune.files.atomic_write import unwritable

_HELP = """usage: bertune samples DIR

Copy the sample data that come with bertune into DIR, which is created: small
data sets for every task, most in English, some in Chinese and German. They are
described in DIR/README.md. Files of the same name are replaced."""


def main(argv: Sequence[str]) -> None:
    """Copy the sample data, and print a command that trains on them."""
    if any(argument in ("-h", "--help") for argument in argv):
        print(_HELP)
        return
    if len(argv) != 1 or argv[0].startswith("-"):
        raise InputError("bertune samples: name one folder to copy the sample data into, for example: samples")
    target = Path(argv[0])
    source = Path(__file__).parents[1] / "samples"
    if target.exists() and not target.is_dir():
        raise InputError(f"bertune samples {target}: is a file; name a folder")
    if target.resolve() == source.resolve():
        raise InputError(f"bertune samples {target}: is where bertune's own sample data are; name another folder")
    try:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.py"), dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise unwritable(_first(error), f"bertune samples {target}: cannot be written: {error}") from None
    files = sum(1 for path in source.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
    intents = target / "intents"
    print(f"{target}: {files} files, described in {target / 'README.md'}. To try them:\n")
    print("  bertune train --task text-classification --encoder minilm --output out/intents \\")
    print(f"    --train {intents / 'train.csv'} --validation {intents / 'dev.csv'} \\")
    print("    --epochs 12 --learning-rate 1e-4 --batch-size 16")


def _first(error: OSError) -> OSError:
    """The first of the errors that `copytree` collects."""
    collected = error.args[0] if error.args else None
    if isinstance(error, shutil.Error) and isinstance(collected, list) and collected:
        return OSError(collected[0][2])
    return error
