"""`bertune pretrain`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.options import option
from bertune.pretraining.options import PretrainOptions


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the metrics as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Parse the options and pre-train."""
    about = "Pre-train an encoder on text: masked words and next sentence, from a checkpoint or from scratch."
    parsed = parse("bertune pretrain", about, [PretrainOptions, _Extra], argv)
    as_json = parsed.pop("json", False)

    from bertune.pretraining.pretrain import run

    result = run(PretrainOptions(**parsed))
    if as_json:
        print(json.dumps({"output": str(result.output), "steps": result.steps, **result.metrics}))
