"""How a model pools that is trained from a folder of sentence-transformers: embeddings, and `--pooling auto`."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from bertune.errors import InputError
from bertune.tasks.options import FIRST_TOKEN, PAIR, POOLINGS, RegressionOptions, TextOptions

logger = logging.getLogger(__name__)

SENTENCE_MODULES = "sentence_modules"
"""Key, among a checkpoint's settings, of the modules that its folder puts behind the encoder."""
WEIGHTED_MODULES = ("Dense", "LayerNorm", "WeightedLayerPooling")
"""Modules of sentence-transformers with weights of their own."""


class _MaybePair(Protocol):
    @property
    def pair(self) -> str | None: ...


OptionsT = TypeVar("OptionsT", TextOptions, RegressionOptions)


def with_pooling(options: OptionsT, examples: Sequence[_MaybePair], settings: Mapping[str, Any]) -> OptionsT:
    """The options with what `--pooling auto` comes to for these training examples and this encoder.

    `pair` where every example has two texts, and the encoder's folder pools by the mean of its tokens: such an encoder
    was trained to put like texts near each other (docs/best-model.md has what it brought).

    Raises:
        InputError: `pair` for rows of single texts.
    """
    pairs = sum(one.pair is not None for one in examples)
    if options.pooling == PAIR and pairs == 0:
        raise InputError(f"--pooling {PAIR}: compares two texts, and these rows have one; leave it out")
    if options.pooling == PAIR and pairs < len(examples):
        logger.warning("--pooling %s: %d of %d rows have only one text", PAIR, len(examples) - pairs, len(examples))
    if options.pooling != "auto":
        return options
    modules = settings.get(SENTENCE_MODULES) or []
    means = any(one["kind"] == "Pooling" and list(one["modes"]) == ["mean"] for one in modules)
    fits = means and options.layers == "last" and 0 < pairs == len(examples)
    chosen = PAIR if fits else FIRST_TOKEN
    logger.info("--pooling auto: %s", chosen)
    return dataclasses.replace(options, pooling=chosen)


def pooling_of(modules: Sequence[Mapping[str, Any]], asked: str) -> str:
    """How a model pools that is trained from a folder with these modules.

    Args:
        modules: those behind the encoder, `kind` and, of Pooling, `modes`.
        asked: `auto`, or what the options say.

    Raises:
        InputError: modules with weights, which training would drop; a pooling that is not trained.
    """
    weighted = [str(one["kind"]) for one in modules if one["kind"] in WEIGHTED_MODULES]
    if weighted:
        raise InputError(
            f"--encoder: modules.json of its folder names {' and '.join(weighted)}, whose weights --task embedding "
            "does not train and would drop. Way out: sentence-transformers trains such a folder, bertune embed runs "
            "it as it is; or train the encoder alone: copy the folder without modules.json, and name that"
        )
    modes = next((list(one["modes"]) for one in modules if one["kind"] == "Pooling"), None)
    if asked != "auto" or modes is None:
        return "mean" if asked == "auto" else asked
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise InputError(
            f"--encoder: its folder pools by {' and '.join(modes)}, which --task embedding does not train; choose "
            f"--pooling {' or '.join(POOLINGS)}, and the model is trained so"
        )
    logger.info("tokens become one vector by %s, as the encoder's folder says (--pooling)", modes[0])
    return str(modes[0])
