"""`bertune distill`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.distill.options import DistillOptions
from bertune.options import option

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the result as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Parse the options, and distil."""
    about = "Train a small model from the outputs of a large one, on text without labels."
    given = parse("bertune distill", about, [DistillOptions, _Extra], argv)
    as_json = given.pop("json", False)

    from bertune.distill.distill import run
    from bertune.progress import console

    result = run(DistillOptions(**given))
    console.print(result.table())
    if verdict := result.verdict():
        logger.info("%s", verdict)
    if as_json:
        print(json.dumps(result.to_json()))
