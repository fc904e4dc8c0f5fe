"""Every number of an encoder: the one tree behind bert_config.json and config.json.

The first part is BERT's. The second tells what the rest of the family does otherwise; its defaults are BERT's wiring.
"""

from dataclasses import dataclass

from bertune.errors import Problems

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu", "tanh", "linear")
POOLINGS = ("first", "mean", "late")
RELATIVE = ("", "bias", "layer", "projected")
NORMS = ("layer", "rms")


_LARGEST, _MOST_LAYERS = 1 << 24, 1 << 10
"""Some thirty times what any encoder has; a config that claims more is damaged, or means to fill the memory."""
_MAY_BE_ZERO = (
    "type_vocab_size",
    "embedding_size",
    "position_offset",
    "local_window",
    "key_value_heads",
    "relative_buckets",
    "relative_reach",
    "global_first",
    "convolution",
)


_CHOICES = {
    "hidden_act": ACTIVATIONS,
    "pooler_act": ACTIVATIONS,
    "convolution_act": ACTIVATIONS,
    "pooling": POOLINGS,
    "relative": RELATIVE,
    "norm": NORMS,
}


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Sizes, rates and wiring of an encoder. Defaults are BERT-base's, as in google-research/bert's modeling.py."""

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
    """Segments (sentence A, sentence B). 1: all tokens are of one; 0: no segment vectors at all."""
    initializer_range: float = 0.02
    """Standard deviation of the truncated normal that new matrices are drawn from."""
    layer_norm_eps: float = 1e-12
    """Added to the variance in layer normalisation."""
    pad_token_id: int = 0
    """Vocabulary entry used for padding."""

    family: str = "bert"
    """Whose names a checkpoint follows; one of `checkpoints.families`."""
    embedding_size: int = 0
    """Width of the embedding tables, whose sum a matrix brings to hidden_size; 0: they have that width already."""
    position_offset: int = 0
    """Rows of the position table before the first token's."""
    shared_layers: bool = False
    """Whether all layers are one and the same."""
    biases: bool = True
    """Whether products and norms have biases."""
    pre_norm: bool = False
    """Normalise what goes into attention and feed-forward, and the last layer's output, instead of what comes out."""
    gated: bool = False
    """Feed-forward: multiply the activated half of the first product by its other half."""
    gate_last: bool = False
    """Whether the activated half is the second."""
    rotary_base: float = 0.0
    """Positions rotate queries and keys by angles of this base (Su et al., 2021); 0: positions have learned vectors."""
    rotary_scale: float = 1.0
    """What angles are multiplied by, where positions are stretched beyond those of pretraining."""
    local_window: int = 0
    """Tokens to each side that a token of a local layer attends to; 0: no layer is local."""
    local_rotary_base: float = 0.0
    """The rotation's base in local layers."""
    global_every: int = 1
    """Every n-th layer attends to all tokens, the others are local."""
    global_first: int = 0
    """The first layer that attends to all tokens."""
    key_value_heads: int = 0
    """Heads of keys and values, each for several heads of queries; 0: as many as queries."""
    unbiased: tuple[str, ...] = ()
    """Of `attention`, `up`, `down`, `norm` and `embeddings`: what has no biases though `biases` is true."""
    norm: str = "layer"
    """`layer`: LayerNorm; `rms`: division by the root mean square alone (Zhang and Sennrich, 2019)."""
    embedding_norm: bool = True
    """Whether embeddings are normalised; with `pre_norm`, the first layer normalises its input where they are not."""
    gated_dropout: bool = False
    """Dropout between the two products of the feed-forward part too."""
    absolute_positions: bool = True
    """Whether positions have learned vectors, unless they are rotary."""
    relative: str = ""
    """What distances between tokens add to attention scores; see `encoder.relative`. Empty: nothing."""
    relative_terms: tuple[str, ...] = ()
    """`c2p`: queries meet vectors of distances, `p2c`: keys do."""
    relative_buckets: int = 0
    """Buckets that distances fall into; 0: every distance has its own."""
    relative_reach: int = 0
    """The distance from which on all fall into the last bucket."""
    relative_shared: bool = False
    """Whether distances are projected by the layer's own matrices of keys and queries."""
    relative_norm: bool = False
    """Whether the vectors of distances are normalised."""
    convolution: int = 0
    """Tokens that a convolution beside the first layer spans, an odd number; 0: there is none."""
    convolution_groups: int = 1
    """Groups of channels that the convolution keeps apart; divides hidden_size."""
    convolution_act: str = "tanh"
    """The convolution's activation."""
    pooler: bool = True
    """Whether heads on sequences have a layer before them."""
    pooling: str = "first"
    """What the pooler takes: the first token's vector or the `mean` of all; `late`: all, the mean comes after."""
    pooler_act: str = "tanh"
    """The pooler's activation."""
    pooler_norm: bool = False
    """Whether the pooler normalises its output; heads on single tokens then go through the same steps."""

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
            "global_every",
            "convolution_groups",
            *_MAY_BE_ZERO,
        ):
            value, least = getattr(self, name), 0 if name in _MAY_BE_ZERO else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                problems.add(f"encoder config: {name} is {value!r}, but must be a whole number of at least {least}")
            elif value > (most := _MOST_LAYERS if name == "num_hidden_layers" else _LARGEST):
                problems.add(f"encoder config: {name} is more than {most}, which no encoder has")
        if not problems and self.hidden_size % self.num_attention_heads:
            problems.add(
                f"encoder config: hidden_size {self.hidden_size} is not divisible by "
                f"num_attention_heads {self.num_attention_heads}"
            )
        if not problems and self.key_value_heads and self.num_attention_heads % self.key_value_heads:
            problems.add(
                f"encoder config: num_attention_heads {self.num_attention_heads} is not divisible by the "
                f"{self.key_value_heads} heads of keys and values"
            )
        if not problems and self.convolution and self.hidden_size % self.convolution_groups:
            problems.add(
                f"encoder config: hidden_size {self.hidden_size} is not divisible by the convolution's "
                f"{self.convolution_groups} groups"
            )
        if not problems and self.convolution and self.convolution % 2 == 0:
            problems.add(
                f"encoder config: the convolution spans {self.convolution} tokens, but must span an odd number"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                problems.add(f"encoder config: {name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                problems.add(f"encoder config: {name} is {value!r}, but must lie in [0, 1)")
        for name in ("layer_norm_eps", "initializer_range", "rotary_scale"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                problems.add(f"encoder config: {name} is {value!r}, but must be a number of at least 0")
        if isinstance(self.pad_token_id, bool) or not isinstance(self.pad_token_id, int) or self.pad_token_id < 0:
            problems.add(f"encoder config: pad_token_id is {self.pad_token_id!r}, but must be a vocabulary entry")
        problems.raise_if_any()

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def stored_layers(self) -> int:
        """Layers with weights of their own."""
        return 1 if self.shared_layers else self.num_hidden_layers

    @property
    def has_plain_layers(self) -> bool:
        """Whether the layers are wired as BERT's."""
        other = self.pre_norm or self.gated or self.rotary_base or self.local_window or self.relative
        return self.biases and self.norm == "layer" and not (other or self.unbiased or self.key_value_heads)

    @property
    def is_bert(self) -> bool:
        """Whether everything is wired as in BERT, so that a BERT checkpoint can hold it."""
        other = self.embedding_size or self.position_offset or self.shared_layers or self.pooler_norm
        pooler = (self.pooling, self.pooler_act) == ("first", "tanh")
        tables = self.type_vocab_size > 0 and self.absolute_positions and self.embedding_norm
        return self.has_plain_layers and self.pooler and pooler and tables and not other and not self.convolution

    def is_local(self, layer: int) -> bool:
        """Whether a layer attends to near tokens only."""
        return self.local_window > 0 and (layer - self.global_first) % self.global_every > 0

    def has_bias(self, part: str) -> bool:
        """Whether a part (as in `unbiased`, or `pooler`) has biases."""
        return self.biases and part not in self.unbiased
