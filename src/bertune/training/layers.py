"""Which layers learn, how fast, and from what: frozen layers, decaying learning rates, re-initialised top layers."""

import re
from collections.abc import Callable

from torch import nn

from bertune.encoder.encoder import Encoder
from bertune.encoder.initialisation import initialise
from bertune.encoder.modules import LayerNorm
from bertune.errors import Problems

_LAYER = re.compile(r"encoder\.layers\.(\d+)\.")


def prepare_layers(encoder: Encoder, *, frozen: int | None, reinitialized: int) -> None:
    """Freeze the lowest layers and draw the highest ones anew, in place.

    Args:
        encoder: as loaded.
        frozen: layers, counted from the lowest, that keep their weights, and the embeddings with them; 0: those alone.
        reinitialized: layers, counted from the highest, that begin with new weights, and the pooler with them
            (Zhang et al., 2021, "Revisiting few-sample BERT fine-tuning").

    Raises:
        InputError: more layers than the encoder has.
    """
    problems = Problems()
    layers = len(encoder.layers)
    for flag, number in (("--frozen-layers", frozen or 0), ("--reinitialize-layers", reinitialized)):
        if number > layers:
            problems.add(f"{flag} {number}: the encoder has {layers} layers")
    if not problems and (frozen or 0) + reinitialized > layers:
        problems.add(
            f"--frozen-layers {frozen} and --reinitialize-layers {reinitialized}: of {layers} layers some are both"
        )
    problems.raise_if_any()
    if frozen is not None:
        for module in (encoder.embeddings, *encoder.layers[:frozen]):
            module.requires_grad_(False)
    if reinitialized:
        pooler = [encoder.pooler] if encoder.config.pooler else []
        for module in (*encoder.layers[layers - reinitialized :], *pooler):
            initialise(module, encoder.config.initializer_range)
            for norm in module.modules():
                if isinstance(norm, LayerNorm):
                    nn.init.ones_(norm.weight)
                    if norm.bias is not None:
                        nn.init.zeros_(norm.bias)


def layer_rates(layers: int, decay: float) -> Callable[[str], float]:
    """By what a weight's learning rate is multiplied, from its name in the network.

    1 for the head and the pooler, decay for the top layer, decay² for the one below, …, once more for the embeddings
    (Clark et al., 2020, ELECTRA's fine-tuning).
    """

    def rate(name: str) -> float:
        if name.startswith("encoder.embeddings."):
            return float(decay ** (layers + 1))
        found = _LAYER.match(name)
        return float(decay ** (layers - int(found[1]))) if found else 1.0

    return rate
