"""`bertune distill`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bertune.cli.arguments import parse
from bertune.distill.options import DistillOptions
from bertune.options import option
from bertune.tasks.registry import options_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _First:
    task: str | None = option(None, help="what the scores are for")


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the result as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Parse the options, and distil."""
    about = "Train a small model from the outputs of a large one, on text without labels."
    name = parse("bertune distill", about, [_First], argv, partial=True).get("task")
    own = [options_of(name)] if name else []
    given = parse("bertune distill", about, [DistillOptions, *own, _Extra], argv)
    as_json = given.pop("json", False)
    general = {field.name for field in fields(DistillOptions)}

    from bertune.distill.distill import run
    from bertune.progress import console

    result = run(
        DistillOptions(**{name: value for name, value in given.items() if name in general}),
        {name: value for name, value in given.items() if name not in general},
    )
    console.print(result.table())
    if verdict := result.verdict():
        logger.info("%s", verdict)
    if as_json:
        print(json.dumps(result.to_json()))
