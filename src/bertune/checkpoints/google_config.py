"""`bert_config.json` of google-research/bert."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.files.json_files import parse_json
from bertune.files.text_files import small_file

_WHOLE = {
    "vocab_size": None,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 16,
}
"""Keys of whole numbers with the defaults of modeling.py's BertConfig; None: the key is needed."""
_RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02}
_ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu", "tanh": "tanh", "linear": "linear"}
"""Google's name → ours: its gelu is the tanh form."""
_OTHER_NAMES = dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_tanh", "gelu_approximate"), "gelu_tanh")
"""What later programs call the same form in their bert_config.json; read, never written."""


def read_bert_config(path: Path) -> EncoderConfig:
    """Read a `bert_config.json`.

    Raises:
        InputError: it cannot be read, is no JSON object, or holds an impossible value.
    """
    try:
        data = parse_json(small_file(path).decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected one JSON object with vocab_size, hidden_size, …")
    return config_from_bert_json(data, str(path))


def config_from_bert_json(data: Mapping[str, object], where: str) -> EncoderConfig:
    """An encoder's numbers from the keys of `bert_config.json`; unknown keys are ignored, as the original does.

    Its activation `gelu` is the tanh form: `gelu_tanh` here. No activation means `linear`.

    Args:
        data: the parsed file.
        where: the file's name, for messages.

    Raises:
        InputError: a key is missing or holds an impossible value.
    """
    problems = Problems()
    whole: dict[str, Any] = {}
    for key, default in _WHOLE.items():
        value = data.get(key, default)
        if value is None:
            problems.add(f"{where}: {key} is missing")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            problems.add(f"{where}: {key} is {value!r}, but must be a whole number of at least 1")
        else:
            whole[key] = value
    rates: dict[str, float] = {}
    for key, rate in _RATES.items():
        value = data.get(key, rate)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            problems.add(f"{where}: {key} is {value!r}, but must be a number in [0, 1)")
        else:
            rates[key] = float(value)
    name = data.get("hidden_act", "gelu")
    known = _ACTIVATIONS | _OTHER_NAMES
    activation = known.get(name.lower() or "linear") if isinstance(name, str) else None if name else "linear"
    if activation is None:
        problems.add(f"{where}: hidden_act is {name!r}; known: {', '.join(known)}")
    if not problems and whole["hidden_size"] % whole["num_attention_heads"]:
        problems.add(
            f"{where}: hidden_size {whole['hidden_size']} is not divisible by "
            f"num_attention_heads {whole['num_attention_heads']}"
        )
    problems.raise_if_any()
    return EncoderConfig(
        hidden_act=activation or "linear",
        hidden_dropout_prob=rates["hidden_dropout_prob"],
        attention_probs_dropout_prob=rates["attention_probs_dropout_prob"],
        initializer_range=rates["initializer_range"],
        **whole,
    )


def config_to_bert_json(config: EncoderConfig) -> dict[str, object]:
    """The keys of `bert_config.json` for an encoder.

    The format knows one gelu, the tanh form, and no epsilon (it is 1e-12): the exact `gelu` is written as `gelu` too,
    which differs by at most some 5e-4 an activation, and another `layer_norm_eps` is lost. `convert` measures and says
    what that comes to.
    """
    names = {ours: theirs for theirs, ours in _ACTIVATIONS.items()}
    data: dict[str, object] = {key: getattr(config, key) for key in (*_WHOLE, *_RATES)}
    data["hidden_act"] = names.get(config.hidden_act, config.hidden_act)
    return dict(sorted(data.items()))
