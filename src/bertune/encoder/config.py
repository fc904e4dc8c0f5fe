"""Every number of an encoder: the one tree behind bert_config.json and config.json."""

from dataclasses import dataclass

from bertune.errors import Problems

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "tanh", "linear")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes and rates of a BERT encoder. Defaults are BERT-base's, as in google-research/bert's modeling.py."""

    vocab_size: int
    """Word pieces in the vocabulary."""
    hidden_size: int = 768
    """Width of every token's vector."""
    num_hidden_layers: int = 12
    """Transformer layers."""
    num_attention_heads: int = 12
    """Heads a layer; divides hidden_size."""
    intermediate_size: int = 3072
    """Width inside the feed-forward part."""
    hidden_act: str = "gelu"
    """`gelu` is the exact (erf) form, `gelu_tanh` the approximation that Google's checkpoints were trained with."""
    hidden_dropout_prob: float = 0.1
    """Dropout after embeddings and after both parts of a layer."""
    attention_probs_dropout_prob: float = 0.1
    """Dropout on attention probabilities."""
    max_position_embeddings: int = 512
    """Longest sequence, in word pieces."""
    type_vocab_size: int = 2
    """Segments (sentence A, sentence B)."""
    initializer_range: float = 0.02
    """Standard deviation of the truncated normal that new matrices are drawn from."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in layer normalisation."""
    pad_token_id: int = 0
    """Vocabulary entry used for padding."""

    def __post_init__(self) -> None:
        """Refuse impossible numbers, all at once.

        Raises:
            InputError: a size that is not positive, heads that do not divide the width, an unknown activation.
        """
        problems = Problems()
        for name in (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "type_vocab_size",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                problems.add(f"encoder config: {name} is {value!r}, but must be a whole number of at least 1")
        if not problems and self.hidden_size % self.num_attention_heads:
            problems.add(
                f"encoder config: hidden_size {self.hidden_size} is not divisible by "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            problems.add(f"encoder config: hidden_act is {self.hidden_act!r}; known: {', '.join(ACTIVATIONS)}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                problems.add(f"encoder config: {name} is {value!r}, but must lie in [0, 1)")
        problems.raise_if_any()

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads
