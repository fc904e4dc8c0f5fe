"""The output folder before a run: free for a new one, or holding the very run that is to go on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertune.files.outputs import link_to_nothing
from bertune.files.yaml_files import read_yaml
from bertune.model.provenance import BY_EXAMPLE, RECORD_KEY
from bertune.tasks.options import FIRST_TOKEN

MAY_DIFFER = frozenset(
    {
        "resume",
        "output",
        "cache",
        "feature_cache",
        "checkpoint_every",
        "keep_checkpoints",
        "workers",
        "engine",
        "ray_address",
        "report",
        "opinions",
        "track",
        RECORD_KEY,
    }
)
"""Options that a resumed run need not repeat, and the record, which is none."""


_AS_BEFORE: tuple[object, ...] = (None, False, "auto", [])
"""Values of options under which bertune does what it did before it had them."""


def output_problems(output: Path, tree: Mapping[str, Any], *, resume: bool) -> list[str]:
    """Why a run cannot begin, or go on, in this folder.

    Args:
        output: the folder, there already or not.
        tree: all options, as run.yaml has them.
        resume: whether the run that lies there is to go on.

    Raises:
        InputError: a run.yaml that cannot be read.
    """
    if output.exists() and not output.is_dir():
        return [f"--output {output}: is a file; name a folder"]
    if broken := link_to_nothing(output):
        return [broken]
    if not resume:
        message = f"--output {output}: holds another run; name a new folder, remove it, or continue it with --resume"
        return [message] if _holds_run(output) else []
    if not (output / "run.yaml").is_file():
        return [f"--resume: {output} contains no run to continue; leave out --resume to start one"]
    before = read_yaml(output / "run.yaml")
    return [
        f"--{name.replace('_', '-')} is {tree.get(name)!r}, but the run to resume has {before.get(name)!r}"
        for name in sorted(set(tree) | set(before))
        if name not in MAY_DIFFER and tree.get(name) != before.get(name) and not _is_new(name, tree, before)
    ]


def _is_new(name: str, tree: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether an older bertune, which wrote run.yaml, lacked the option, and it leaves everything as it was then."""
    if name == "do_lower_case":  # pretrain had True for "as the start says"
        return tree.get(name) is None and before.get(name) in (None, True)
    if name == "freelb_steps":  # counts with --freelb alone
        return name not in before and tree.get("freelb") in _AS_BEFORE
    if name == "pooling":  # of heads on whole texts, which read the first token
        return name not in before and tree.get(name) == FIRST_TOKEN
    return name not in before and tree[name] in _AS_BEFORE


def drops_by_example(output: Path, *, resume: bool) -> bool:
    """Whether dropout follows from the example in the run of a folder: in a new one, or where its record says so.

    Older versions drew masks by rank and place in the batch, and runs that they began go on so.
    """
    if not resume or not (output / "run.yaml").is_file():
        return True
    record = read_yaml(output / "run.yaml").get(RECORD_KEY)
    return isinstance(record, Mapping) and record.get("dropout") == BY_EXAMPLE


def _holds_run(folder: Path) -> bool:
    """Whether a folder holds a run or a model already."""
    return any((folder / name).exists() for name in ("run.yaml", "bertune.json", "config.json", "checkpoints"))
