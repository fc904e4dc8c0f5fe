"""DistilBERT: BERT's layers under other names; no segments; its classifier's first layer, with relu, is our pooler."""

from bertune.checkpoints.families.family import Family, Numbers, dense, weight
from bertune.encoder.config import EncoderConfig

_LAYER = "transformer.layer.{i}."

_NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.position", "embeddings.position_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    *dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention.{part}" for part in ("q_lin", "k_lin", "v_lin"))),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.out_lin"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}sa_layer_norm"),
    *dense("layers.{i}.feed_forward.up", f"{_LAYER}ffn.lin1"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}ffn.lin2"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}output_layer_norm"),
    *dense("pooler", "pooler.dense", optional=True),
]

_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}


def _write(config: EncoderConfig) -> Numbers:  # noqa: ARG001
    return {"sinusoidal_pos_embds": False}  # it only says how the table was made


DISTILBERT = Family(
    "distilbert",
    "DistilBert",
    "distilbert.",
    _NAMES,
    _KEYS,
    activation="activation",
    wiring={"type_vocab_size": 0, "layer_norm_eps": 1e-12, "pooler_act": "relu"},
    defaults={"n_layers": 6},
    spelling={
        "": {"pooler.dense": "pre_classifier"},
        "ForMaskedLM": {
            "cls.predictions.transform.dense": "vocab_transform",
            "cls.predictions.transform.LayerNorm": "vocab_layer_norm",
            "cls.predictions.bias": "vocab_projector.bias",
            "cls.predictions.decoder": "vocab_projector",
        },
    },
    write=_write,
    reads_position_type=False,
)
