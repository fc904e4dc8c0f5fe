"""Whether a model is asked what it was trained for: pairs of texts, single texts, or both."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertune.errors import InputError

logger = logging.getLogger(__name__)

_SINGLE = (
    "is a single text, but this model was trained on pairs of texts alone; give the second text too (--pair-column "
    'names its column; in Python ("text", "pair"), in JSON ["text", "pair"])'
)


def all_pairs(examples: Sequence[Any]) -> bool | None:
    """Whether all examples are pairs of texts; False: none is; None: some are, or their task knows no pairs."""
    kinds = {_is_pair(example) for example in examples}
    return kinds.pop() if len(kinds) == 1 else None


def trained_on_pairs(record: Mapping[str, Any]) -> bool | None:
    """`all_pairs` of a model's training rows, from its bertune.json; None where it does not say."""
    trained = (record.get("data") or {}).get("train")
    found = trained.get("pairs") if isinstance(trained, Mapping) else None
    return found if isinstance(found, bool) else None


def check_pairs(trained: bool | None, examples: Sequence[Any], path: Path | None = None) -> None:
    """Refuse single texts for a model of pairs alone; warn of pairs for a model of single texts alone.

    Args:
        trained: as `trained_on_pairs` or `all_pairs` says.
        examples: what is to be answered.
        path: the file that they come from, for messages.

    Raises:
        InputError: naming the first of the single texts.
    """
    if trained is None:
        return
    other = [i for i, example in enumerate(examples) if _is_pair(example) is (not trained)]
    if not other:
        return
    if trained:
        line = getattr(examples[other[0]], "place", 0)
        place = f"line {line}" if line else f"input {other[0]} (from 0)"
        count = f" ({len(other)} of {len(examples)} are)" if len(other) > 1 else ""
        raise InputError(f"{'' if path is None else f'{path}, '}{place}{count}: {_SINGLE}")
    logger.warning(
        "%d of %d inputs are pairs of texts, but this model was trained on single texts alone, so their answers mean "
        "little", len(other), len(examples),
    )  # fmt: skip


def checked_example(trained: bool | None, example: Any) -> Any:
    """The example, unless it is a single text for a model that was trained on pairs alone.

    Raises:
        InputError: it is.
    """
    if trained and _is_pair(example) is False:
        raise InputError(_SINGLE)
    return example


def _is_pair(example: Any) -> bool | None:
    return example.pair is not None if hasattr(example, "pair") else None
