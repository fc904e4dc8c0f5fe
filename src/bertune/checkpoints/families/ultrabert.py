"""UltraBERT: EuroBERT's layers, of which some attend to near tokens only; heads without a layer of their own."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertune.checkpoints.families.eurobert import EUROBERT
from bertune.checkpoints.families.family import Family, Numbers, must_be
from bertune.checkpoints.families.rotary import GLOBAL, LOCAL, global_layers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_POOLINGS = {"cls": "first", "mean": "mean"}
_BASES = {GLOBAL: 2_560_000.0, LOCAL: 10_000.0}


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    for bias in ("attention_bias", "mlp_bias"):
        must_be(settings, bias, False, where)
    layers, heads = numbers["num_hidden_layers"], numbers["num_attention_heads"]
    must_be(settings, "head_dim", numbers["hidden_size"] // heads, where)
    pooling = settings.get("classifier_pooling", "cls")
    if pooling not in _POOLINGS:
        raise InputError(f"{where}: classifier_pooling is {pooling!r}; known: {', '.join(_POOLINGS)}")
    types, window = _layer_types(settings, layers, where)
    bases = _bases(settings, types, where)
    first, every = global_layers(types, where)
    shared = settings.get("num_key_value_heads", heads)
    return numbers | {
        "local_window": window,
        "global_first": first,
        "global_every": every,
        "rotary_base": bases[GLOBAL],
        "local_rotary_base": bases[LOCAL],
        "key_value_heads": 0 if shared == heads else shared,
        "pooling": _POOLINGS[pooling],
    }


def _layer_types(settings: Mapping[str, Any], layers: int, where: str) -> tuple[list[str], int]:
    """Every layer's kind and the window of the local ones; at first a window stood for each layer, 0 for global ones.

    Raises:
        InputError: not one kind a layer, or windows of several sizes.
    """
    windows = settings.get("attention_windows")
    window = int(settings.get("sliding_window", 128))
    types = settings.get("layer_types") or [GLOBAL if i % 3 == 2 else LOCAL for i in range(layers)]
    if windows is not None:
        sizes = sorted({size for size in windows if size})
        if len(sizes) > 1:
            raise InputError(f"{where}: attention_windows has the sizes {sizes}; windows of one size are supported")
        window = sizes[0] if sizes else window
        types = settings.get("layer_types") or [LOCAL if size else GLOBAL for size in windows]
    if len(types) != layers or not {*types} <= {LOCAL, GLOBAL}:
        raise InputError(f"{where}: layer_types must name {LOCAL} or {GLOBAL} for each of {layers} layers")
    return list(types), window


def _bases(settings: Mapping[str, Any], types: Sequence[str], where: str) -> dict[str, float]:
    """The rotation's base of each kind of layers; at first one stood for each layer."""
    older = settings.get("rope_theta")
    rope = settings.get("rope_parameters")
    if rope is None and isinstance(older, list):
        return _BASES | dict(zip(types, map(float, older), strict=False))
    found = dict(_BASES)
    for kind, numbers in (rope or {}).items():
        must_be(numbers, "rope_type", "default", f"{where}, rope_parameters of {kind}")
        found[kind] = float(numbers["rope_theta"])
    return found


def _write(config: EncoderConfig) -> Numbers:
    bases = {GLOBAL: config.rotary_base, LOCAL: config.local_rotary_base}
    return {
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": base} for kind, base in bases.items()},
        "sliding_window": config.local_window,
        "layer_types": [LOCAL if config.is_local(i) else GLOBAL for i in range(config.num_hidden_layers)],
        "num_key_value_heads": config.key_value_heads or config.num_attention_heads,
        "classifier_pooling": next(theirs for theirs, ours in _POOLINGS.items() if ours == config.pooling),
        **dict.fromkeys(("attention_bias", "mlp_bias"), False),
    }


ULTRABERT = Family(
    "ultrabert",
    "Ultrabert",
    "model.",
    [name for name in EUROBERT.names if not name.ours.startswith("pooler.")],
    EUROBERT.keys,
    wiring={**EUROBERT.wiring, "pooler": False},
    defaults={
        **EUROBERT.defaults,
        **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
        **{"max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "pad_token_id": 0},
    },
    read=_read,
    write=_write,
    reads_position_type=False,
    older_prefix="ultrabert.",
)
