"""The encoder of BERT and its family: embeddings, layers, pooler, on one flat axis of tokens.

Sources: Devlin et al., 2019 (post-norm wiring of google-research/bert's modeling.py); what the config turns on beyond
it: Lan et al., 2019 (ALBERT), Clark et al., 2020 (ELECTRA), Warner et al., 2024 (ModernBERT).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bertune.encoder.config import EncoderConfig
from bertune.encoder.convolution import Convolution
from bertune.encoder.initialisation import initialise
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Attention, Dropout, LayerNorm, Linear, RMSNorm, activate
from bertune.encoder.relative import RelativeScores, RelativeTable
from bertune.encoder.rotary import Rotation, rotation_of


@dataclass(frozen=True)
class EncoderOutput:
    """The encoder's output for a batch.

    tokens: `sequence_output`; None where only the pooled output was asked for.
    pooled_output: a vector for every sequence, from its first token. Shape: (sequences, hidden).
    layers: when asked for, the embeddings and every layer's output. Shape: (tokens, hidden) each.
    segment_ids: as the batch has them. Shape: (tokens,), integer.
    transform: the family's steps from a token's vector to what its heads take, where it has any.
    """

    tokens: Tensor | None
    pooled_output: Tensor
    layers: tuple[Tensor, ...] = ()
    transform: Callable[[Tensor], Tensor] | None = None
    segment_ids: Tensor | None = None

    @property
    def sequence_output(self) -> Tensor:
        """A vector for every token. Shape: (tokens, hidden).

        Raises:
            RuntimeError: it was not computed, because the head declares that it reads `pooled_output` alone.
        """
        if self.tokens is None:
            raise RuntimeError(
                'this head reads sequence_output but declares reads = "pooled_output", so the last layer was computed '
                "for first tokens only; remove that declaration"
            )
        return self.tokens

    @property
    def token_output(self) -> Tensor:
        """What heads on single tokens take: `sequence_output`, in ModernBERT transformed. Shape: (tokens, hidden)."""
        return self.sequence_output if self.transform is None else self.transform(self.sequence_output)


class Embeddings(nn.Module):
    """Word, position and segment vectors, as far as the config has them, summed, normalised, dropped out."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_size or config.hidden_size
        self.segments, self.offset = config.type_vocab_size, config.position_offset
        self.word = _vectors(config.vocab_size, width)
        if config.absolute_positions and not config.rotary_base:
            self.position = _vectors(config.max_position_embeddings + config.position_offset, width)
        if config.type_vocab_size:
            self.segment = _vectors(config.type_vocab_size, width)
        if config.embedding_norm:
            self.norm = new_norm(config, width, "embeddings")
        self.dropout = Dropout(config.hidden_dropout_prob)
        if config.embedding_size:
            self.projection = Linear(width, config.hidden_size)

    def forward(self, input_ids: Tensor, segment_ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens,) each → (tokens, hidden)."""
        total = self.word(input_ids)
        if hasattr(self, "position"):
            total = total + self.position(positions + self.offset if self.offset else positions)
        if self.segments:
            total = total + self.segment(segment_ids if self.segments > 1 else torch.zeros_like(segment_ids))
        result: Tensor = self.dropout(self.norm(total) if hasattr(self, "norm") else total, layout)
        return self.projection(result) if hasattr(self, "projection") else result


def _vectors(count: int, width: int) -> nn.Embedding:
    """A table of vectors; on the meta device none are drawn, for which torch would load its compiler."""
    table = torch.empty(count, width)
    return nn.Embedding(count, width, _weight=table) if table.is_meta else nn.Embedding(count, width)


def new_norm(config: EncoderConfig, width: int, part: str = "norm") -> LayerNorm | RMSNorm:
    """A normalisation of the family's kind. part: as in `EncoderConfig.unbiased`."""
    if config.norm == "rms":
        return RMSNorm(width, config.layer_norm_eps)
    return LayerNorm(width, config.layer_norm_eps, bias=config.has_bias(part))


class FeedForward(nn.Module):
    """Two products with an activation between, on every token alike."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated, self.gate_last = config.gated, config.gate_last
        width = (1 + config.gated) * config.intermediate_size
        self.up = Linear(config.hidden_size, width, bias=config.has_bias("up"))
        self.down = Linear(config.intermediate_size, config.hidden_size, bias=config.has_bias("down"))
        self.dropout = Dropout(config.hidden_dropout_prob if config.gated_dropout else 0.0)
        self.activation = config.hidden_act

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden)."""
        up = self.up(x)  # (tokens, intermediate), with the gate (tokens, 2 x intermediate)
        if self.gated:
            first, second = up.chunk(2, dim=-1)
            gate, up = (second, first) if self.gate_last else (first, second)
            active = self.dropout(activate(gate, self.activation) * up, layout)
        else:
            active = activate(up, self.activation)
        result: Tensor = self.down(active)
        return result


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input; the sum is normalised, or with `pre_norm` what goes in."""

    def __init__(self, config: EncoderConfig, index: int = 0) -> None:
        super().__init__()
        self.is_plain = config.has_plain_layers and config.hidden_act in calls.ACTIVATION_CODES
        self.pre_norm = config.pre_norm
        distances = RelativeScores(config) if config.relative in {"layer", "projected"} else None
        self.attention = Attention(config, is_local=config.is_local(index), distances=distances)
        self.normalises_first = not (config.pre_norm and config.embedding_norm and index == 0)
        """False where the embeddings have just been normalised."""
        if self.normalises_first:
            self.attention_norm = new_norm(config, config.hidden_size)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = new_norm(config, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        *,
        relative: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden); with `first_only` → (sequences, hidden), for the first tokens."""
        if not first_only and self.is_plain and calls.available(x):
            return fused(self, x, layout)
        residual = layout.first_tokens(x) if first_only else x
        if self.pre_norm:
            normal = self.attention_norm(x) if self.normalises_first else x
            attended = self.attention(normal, layout, rotation, relative=relative, first_only=first_only)
            x = residual + self.dropout(attended, layout)
            added: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x), layout), layout)
            return added
        attended = self.attention(x, layout, rotation, relative=relative, first_only=first_only)
        x = self.attention_norm(residual + self.dropout(attended, layout))
        result: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x, layout), layout))
        return result


class Encoder(nn.Module):
    """A pretrained encoder's wiring; its numbers come from `config`, its weights from a checkpoint."""

    pooler: Linear
    """Absent (None) in families whose heads have no layer of their own; annotated for those that have one."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config, i) for i in range(config.stored_layers))
        self._is_local = [config.is_local(i) for i in range(config.num_hidden_layers)]
        if config.relative in {"bias", "projected"}:
            self.distances = RelativeTable(config)
        if config.pre_norm:
            self.norm = new_norm(config, config.hidden_size)
        if config.convolution:
            self.convolution = Convolution(config)
        pooler = Linear(config.hidden_size, config.hidden_size, bias=config.has_bias("pooler"))
        self.register_module("pooler", pooler if config.pooler else None)
        if config.pooler_norm:
            self.pooler_norm = new_norm(config, config.hidden_size)
        self.compute_dtype = torch.float32
        """The type that layers compute in: that of their matrices; `set_compute_dtype` changes it."""
        self.activation_checkpointing = False
        """In training keep only each layer's input and compute the rest again in the backward pass: less memory."""
        initialise(self, config.initializer_range)

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Turn the matrices of products into `dtype`; embedding tables and vectors stay float32."""
        self.compute_dtype = dtype
        for module in self.modules():
            if isinstance(module, Linear):
                module.weight.data = module.weight.data.to(dtype)
                module.packed = module.tiles = None  # they hold the former type

    def pack(self) -> None:
        """Prepare the matrices for prediction on a CPU; they must not change any more. See `Linear.pack`."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.pack()

    def forward(
        self,
        input_ids: Tensor,
        segment_ids: Tensor,
        positions: Tensor,
        layout: Layout,
        *,
        keep_layers: bool = False,
        only_pooled: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            input_ids: vocabulary entries. Shape: (tokens,), integer.
            segment_ids: 0 for sentence A, 1 for B. Shape: (tokens,), integer.
            positions: place within the sequence, from 0. Shape: (tokens,), integer.
            layout: where the sequences lie on the token axis.
            keep_layers: also return the embeddings and every layer's output.
            only_pooled: compute `pooled_output` alone. Where it comes from first tokens, the last layer then computes
                nothing else; results and gradients are the same.
        """
        x = self.embeddings(input_ids, segment_ids, positions, layout).to(self.compute_dtype)
        kept = [x]
        turns = self._rotations(positions)
        shared = {"relative": self.distances(layout.longest)} if hasattr(self, "distances") else {}
        last = self.config.num_hidden_layers - 1
        first_only = only_pooled and self.config.pooling == "first" and not keep_layers
        first_only = first_only and not (self.config.convolution and last == 0)
        for index in range(last + 1):
            layer = self.layers[index % len(self.layers)]
            rotation = turns[self._is_local[index]]
            run = (
                partial(layer, **shared, first_only=True) if first_only and index == last else partial(layer, **shared)
            )
            if self.activation_checkpointing and self.training:
                x = checkpoint(run, x, layout, *rotation, use_reentrant=False)
            else:
                x = run(x, layout, *rotation)
            if index == 0 and self.config.convolution:
                x = self.convolution(kept[0], x, layout)
            if index == last and self.config.pre_norm:
                x = self.norm(x)
            if keep_layers:
                kept.append(x)
        if self.config.pooling == "late":
            pooled = self._pool(self._transform(x), layout)
        else:
            pooled = self._transform(x if first_only else self._pool(x, layout))
        transform = self._transform if self.config.pooler_norm else None
        layers = tuple(kept) if keep_layers else ()
        return EncoderOutput(None if only_pooled else x, pooled, layers, transform, segment_ids)

    def _rotations(self, positions: Tensor) -> tuple[tuple[()] | tuple[Rotation], tuple[()] | tuple[Rotation]]:
        """What global and what local layers take besides: angles where positions are rotary, else nothing."""
        config = self.config
        if not config.rotary_base:
            return (), ()
        everywhere = rotation_of(positions, config.head_size, config.rotary_base, config.rotary_scale)
        if not config.local_window:
            return (everywhere,), (everywhere,)
        return (everywhere,), (rotation_of(positions, config.head_size, config.local_rotary_base),)

    def _pool(self, x: Tensor, layout: Layout) -> Tensor:
        """One vector a sequence. Shape: (tokens, hidden) → (sequences, hidden)."""
        if self.config.pooling == "first":
            return layout.first_tokens(x)
        return layout.means(x.float()).to(x.dtype)

    def _transform(self, x: Tensor) -> Tensor:
        """The pooler. Shape: (…, hidden) → (…, hidden)."""
        if not self.config.pooler:
            return x
        active = activate(self.pooler(x), self.config.pooler_act)
        return self.pooler_norm(active) if self.config.pooler_norm else active


@dataclass(frozen=True)
class _Settings:
    """What a fused layer needs to know besides tensors. …_mask: of dropout."""

    layout: Layout
    heads: int
    activation: str
    eps: float
    attention_mask: calls.Mask
    first_mask: calls.Mask
    second_mask: calls.Mask


Product = Callable[[Tensor], Tensor]
"""A linear layer's product, without its bias. Shape: (tokens, in) → (tokens, out)."""


def fused(layer: Layer, x: Tensor, layout: Layout) -> Tensor:
    """`Layer.forward` on the CPU as a single step of autograd, its products in PyTorch, all between them in kernels.

    Equal in meaning to `Layer.forward`, which is its reference (tests compare them), for layers wired like BERT's.
    Written out by hand because it saves most of the memory traffic: biases ride in the passes that follow the products,
    residual gradients are added by the products themselves, and dropout masks are computed twice instead of stored.

    Shape: (tokens, hidden) → (tokens, hidden)
    """
    attention, norm1 = layer.attention, layer.attention_norm
    feed_forward, norm2 = layer.feed_forward, layer.feed_forward_norm
    hidden_p, attention_p = (layer.dropout.p, attention.dropout) if layer.training else (0.0, 0.0)
    settings = _Settings(
        layout,
        attention.heads,
        feed_forward.activation,
        norm1.eps,
        calls.Mask(attention_p, calls.new_seed(), layout.sequence_masks) if attention_p else calls.NO_MASK,
        calls.Mask(hidden_p, calls.new_seed(), layout.row_masks(x.shape[1])) if hidden_p else calls.NO_MASK,
        calls.Mask(hidden_p, calls.new_seed(), layout.row_masks(x.shape[1])) if hidden_p else calls.NO_MASK,
    )
    qkv, output, up, down = attention.qkv, attention.output, feed_forward.up, feed_forward.down
    parameters = (
        *(qkv.weight, qkv.bias, output.weight, output.bias, norm1.weight, norm1.bias),
        *(up.weight, up.bias, down.weight, down.bias, norm2.weight, norm2.bias),
    )
    if not torch.is_grad_enabled():  # matrices may be packed
        return _forward(x, (qkv.product, output.product, up.product, down.product), parameters, settings, keep=False)[0]
    result: Tensor = _FusedLayer.apply(settings, x, *parameters)  # type: ignore[no-untyped-call]
    return result


def _forward(
    x: Tensor, products: tuple[Product, ...], parameters: tuple[Tensor, ...], settings: _Settings, *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The layer's output and, when asked, what backward needs.

    products: with the matrices of queries, keys and values; of attention's output; up; and down.
    """
    by_qkv, by_out, by_up, by_down = products
    _, b_qkv, _, b_out, norm1, shift1, _, b_up, _, b_down, norm2, shift2 = parameters
    qkv = by_qkv(x)
    context, denominators = calls.attention(
        qkv, b_qkv, settings.layout, settings.heads, settings.attention_mask, keep=keep
    )
    attended = by_out(context)
    middle, kept1 = calls.add_norm(attended, b_out, x, (norm1, shift1, settings.eps), settings.first_mask, keep=keep)
    up = by_up(middle)
    active = calls.bias_activation(up, b_up, settings.activation)
    down = by_down(active)
    out, kept2 = calls.add_norm(down, b_down, middle, (norm2, shift2, settings.eps), settings.second_mask, keep=keep)
    if kept1 is None or kept2 is None or denominators is None:
        return out, ()
    return out, (qkv, context, denominators, *kept1, middle, up, active, *kept2)


def _times(weight: Tensor, x: Tensor) -> Tensor:
    return torch.mm(x, weight.t())


class _FusedLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings: _Settings, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        x = x.contiguous()
        products = tuple(partial(_times, weight) for weight in parameters if weight.ndim > 1)
        out, kept = _forward(x, products, parameters, settings, keep=True)
        ctx.settings = settings
        ctx.save_for_backward(x, *parameters, *kept)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        settings: _Settings = ctx.settings
        x, w_qkv, b_qkv, w_out, _, norm1, _, w_up, b_up, w_down, _, norm2, _, *kept = ctx.saved_tensors
        qkv, context, denominators, z1, mean1, rstd1, middle, up, active, z2, mean2, rstd2 = kept

        d_middle, d_down, sums2 = calls.add_norm_backward(
            gradient.contiguous(), calls.Norm(z2, mean2, rstd2), norm2, settings.second_mask
        )
        d_w_down = torch.mm(d_down.t(), active)
        d_up = torch.mm(d_down, w_down)
        d_b_up = calls.bias_activation_backward_(up, b_up, settings.activation, d_up)
        d_w_up = torch.mm(d_up.t(), middle)
        d_middle.addmm_(d_up, w_up)

        d_x, d_attended, sums1 = calls.add_norm_backward(
            d_middle, calls.Norm(z1, mean1, rstd1), norm1, settings.first_mask
        )
        d_w_out = torch.mm(d_attended.t(), context)
        d_context = torch.mm(d_attended, w_out)
        d_qkv = calls.attention_backward(
            d_context, (qkv, b_qkv, context, denominators), settings.layout, settings.heads, settings.attention_mask
        )
        d_b_qkv = calls.column_sums(d_qkv)
        d_w_qkv = torch.mm(d_qkv.t(), x)
        d_x.addmm_(d_qkv, w_qkv)
        return (
            None,
            d_x,
            *(d_w_qkv, d_b_qkv, d_w_out, sums1[2], sums1[0], sums1[1]),
            *(d_w_up, d_b_up, d_w_down, sums2[2], sums2[0], sums2[1]),
        )
