"""BERT, and all that shares its wiring and names: MiniLM, TinyBERT, whole-word-masked and Chinese BERT, MacBERT."""

from bertune.checkpoints.families.family import Family, dense, weight

_LAYER = "encoder.layer.{i}."

NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.position", "embeddings.position_embeddings"),
    weight("embeddings.segment", "embeddings.token_type_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    *dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention.self.{part}" for part in ("query", "key", "value"))),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.output.dense"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}attention.output.LayerNorm"),
    *dense("layers.{i}.feed_forward.up", f"{_LAYER}intermediate.dense"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}output.dense"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}output.LayerNorm"),
    *dense("pooler", "pooler.dense", optional=True),
]

KEYS = {
    key: key
    for key in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "max_position_embeddings",
        "type_vocab_size",
        "initializer_range",
        "layer_norm_eps",
        "pad_token_id",
    )
}

BERT = Family("bert", "Bert", "bert.", NAMES, KEYS)
