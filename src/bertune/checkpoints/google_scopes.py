"""Under which scope a TensorFlow checkpoint keeps its encoder, and the names of the original for its variables.

google-research/bert writes `bert/embeddings/…`, `cls/…`. Modules of TF-Hub put a prefix before (`module/bert/…`), other
programs name the scope otherwise (`electra/…`), and code upgraded to TensorFlow 2 names the normalisations
`layer_normalization_3`.
"""

import re
from collections.abc import Mapping

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_WORDS = "embeddings/word_embeddings"
_NORM = re.compile(r"layer_normalization(?:_\d+)?/(gamma|beta)$")
Shapes = Mapping[str, tuple[int, ...]]


def canonical_names(shapes: Shapes, where: str, *, scope: str | None, config: EncoderConfig) -> dict[str, str]:
    """The original's name → the checkpoint's own, of its encoder and heads.

    Args:
        shapes: shapes by the checkpoint's names.
        where: the checkpoint, for messages.
        scope: the encoder's, as `module/bert`; None: `bert` where it is there, else the one whose shapes fit.
        config: the encoder's sizes.

    Raises:
        InputError: no such scope, or several that fit.
    """
    found = scopes_in(shapes)
    if scope is not None:
        chosen = scope.strip("/")
        if chosen not in found:
            raise InputError(f"--scope {scope}: {where} has no {chosen}/{_WORDS}; scopes there: {_listed(found)}")
    elif "bert" in found:
        chosen = "bert"
    else:
        fitting = [one for one in found if shapes[f"{one}/{_WORDS}"] == (config.vocab_size, config.hidden_size)]
        if len(fitting) > 1:
            raise InputError(f"{where}: holds several encoders; name one: --scope SCOPE, of: {_listed(fitting)}")
        if not fitting:
            return {_plain(name): name for name in shapes}
        chosen = fitting[0]
    before = chosen.rpartition("bert")[0] if chosen.endswith("bert") else ""
    others = tuple(f"{one}/" for one in found if one != chosen)
    names = {}
    for name in shapes:
        if name.startswith(others):
            continue
        if name.startswith(f"{chosen}/"):
            names[_plain(f"bert/{name.removeprefix(f'{chosen}/')}")] = name
        elif name.startswith(before) and not name.removeprefix(before).startswith("bert/"):
            names[_plain(name.removeprefix(before))] = name
    return names


def scopes_in(shapes: Shapes) -> list[str]:
    """Every scope that has word embeddings."""
    return [name.removesuffix(f"/{_WORDS}") for name in shapes if name.endswith(f"/{_WORDS}")]


def _plain(name: str) -> str:
    return _NORM.sub(r"LayerNorm/\1", name)


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
