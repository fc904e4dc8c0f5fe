"""The parts of a layer: products, norms, dropout, attention.

Matrices may be kept in half precision; vectors (biases, norms) stay in float32. There is one attention, for packed and
padded layouts; the layout and the device pick the kernel.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.flash_attention import flash_attention, flash_works
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout, dropout_factors, padded_float32
from bertune.encoder.rotary import Rotation, rotated, turned

if TYPE_CHECKING:
    from bertune.encoder.relative import RelativeScores


class Linear(nn.Module):
    """y = x Wᵀ + b in the weight's type. weight: Shape: (outputs, inputs); bias: Shape: (outputs,), float32."""

    bias: Tensor
    """Absent (None) where the module was made without; annotated for those that have it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.has_bias = bias
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.register_parameter("bias", nn.Parameter(torch.zeros(outputs)) if bias else None)
        self.packed: Tensor | None = None
        self.tiles: Tensor | None = None

    def pack(self) -> None:
        """Lay the weight out as the matrix library wants it, once instead of in every product.

        For prediction on a CPU: the weight must not change any more. Does nothing where PyTorch has no oneDNN.
        A row's product is then the same to the bit whatever rows stand beside it, if there are two or more of them;
        oneDNN's by AMX are not, so that a kernel of our own takes their place.
        """
        self.tiles = calls.to_tiles(self.weight.detach())
        if self.tiles is not None:
            return
        if not torch.backends.mkldnn.is_available() or not hasattr(  # type: ignore[no-untyped-call]
            torch.ops.mkldnn, "_linear_pointwise"
        ):
            return
        try:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach())
        except RuntimeError:  # a type that oneDNN does not multiply on this machine
            self.packed = None

    def __getstate__(self) -> dict[str, object]:
        """For pickle and copy: without oneDNN's own layout, which neither takes; the copy packs again."""
        state: dict[str, object] = self.__dict__ | {
            "packed": None,
            "tiles": None,
            "_pack_again": self.packed is not None or self.tiles is not None,
        }
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        """Restore, and pack where the original was packed."""
        pack = state.pop("_pack_again", False)
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        if pack:
            self.pack()

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Give x Wᵀ, plus a bias of x's type. Shape: (tokens, inputs) → (tokens, outputs)."""
        if torch.is_grad_enabled():
            return F.linear(x, self.weight, bias)
        if self.tiles is not None and calls.available(x):
            return calls.tile_products(x.contiguous(), self.tiles, None if bias is None else bias.float())
        if self.packed is None:
            return F.linear(x, self.weight, bias)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")
        return result

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (…, inputs) → (…, outputs)."""
        return self.product(x.to(self.weight.dtype), self.bias.to(self.weight.dtype) if self.has_bias else None)


def linear_by_rows(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give x weightᵀ + bias for the small products of heads, in float32.

    Without gradients a row's result is the same to the bit whatever rows stand beside it, where there are compiled
    kernels; a library's would depend on how many there are.

    Shape: (…, inputs), (outputs, inputs), (outputs,) → (…, outputs)
    """
    if torch.is_grad_enabled() or x.dtype != torch.float32 or not calls.available(x):
        return F.linear(x, weight, bias)
    rows = calls.row_products(x.reshape(-1, x.shape[-1]).contiguous(), weight.contiguous(), bias)
    return rows.view(*x.shape[:-1], len(weight))


class LayerNorm(nn.Module):
    """Normalise every row to mean 0 and variance 1, then scale and shift. Computed in float32, returned in x's type."""

    bias: Tensor
    """Absent (None) where the module was made without; annotated for those that have it."""

    def __init__(self, width: int, eps: float, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_parameter("bias", nn.Parameter(torch.zeros(width)) if bias else None)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (…, width) → (…, width)."""
        return F.layer_norm(x.float(), self.weight.shape, self.weight, self.bias, self.eps).to(x.dtype)


class RMSNorm(nn.Module):
    """Divide every row by its root mean square, then scale. Computed in float32, returned in x's type."""

    bias: Tensor
    """Always absent (None); annotated for what reads the norms of layers that have one."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.register_parameter("bias", None)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (…, width) → (…, width)."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class Dropout(nn.Module):
    """Dropout whose masks cost little on the CPU too; governed by PyTorch's generator.

    Where a layout has `keys`, a sequence's mask follows from the generator's state and the sequence's key alone.
    """

    def __init__(self, p: float, *, of_head: bool = False) -> None:
        """of_head: without keys draw as `nn.Dropout` does, which heads had."""
        super().__init__()
        self.p, self.of_head = p, of_head

    def forward(self, x: Tensor, layout: Layout | None = None) -> Tensor:
        """Shape: (tokens, width) or (sequences, width) → the same. layout: None as if it had no keys."""
        if not self.training or self.p == 0:
            return x
        if layout is None or layout.keys is None:
            return F.dropout(x, self.p) if self.of_head else dropout(x, self.p)
        by_token = len(x) == layout.total
        return dropout(x, self.p, layout.row_masks(x.shape[1]) if by_token else layout.sequence_masks)


def dropout(x: Tensor, p: float, masks: Tensor | None = None) -> Tensor:
    """Elements of x dropped with probability p, the rest scaled by 1 / (1 - p).

    masks: the number that the mask of every row of the last dimension begins at, on the CPU alone and the same with and
        without kernels; None: they follow each other.

    Shape: any → the same.
    """
    if p == 0:
        return x
    if calls.available(x):
        return calls.differentiable_dropout(x, p, masks)
    if masks is None:
        return F.dropout(x, p)
    return x * dropout_factors(masks, x.shape[-1], p, calls.new_seed()).to(x.dtype)


def activate(x: Tensor, activation: str) -> Tensor:
    """Apply an activation of `config.ACTIVATIONS` by name. Shape: any → the same."""
    if activation == "gelu":
        return F.gelu(x)
    if activation == "gelu_tanh":
        return F.gelu(x, approximate="tanh")
    if activation == "relu":
        return F.relu(x)
    if activation == "silu":
        return F.silu(x)
    return torch.tanh(x) if activation == "tanh" else x


class Attention(nn.Module):
    """Multi-head self-attention within every sequence (Vaswani et al., 2017); queries, keys, values in one product."""

    def __init__(
        self, config: EncoderConfig, *, is_local: bool = False, distances: "RelativeScores | None" = None
    ) -> None:
        """distances: the part that scores distances between tokens, where every layer has one of its own."""
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.window = config.local_window if is_local else 0
        self.key_value_heads, self.relative = config.key_value_heads or self.heads, config.relative
        width, bias = config.head_size * (self.heads + 2 * self.key_value_heads), config.has_bias("attention")
        self.qkv = Linear(config.hidden_size, width, bias=bias)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=bias)
        if distances is not None:
            self.distances = distances

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        *,
        relative: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden); with `first_only` → (sequences, hidden), for the first tokens.

        rotation: angles of rotary positions.
        relative: what `RelativeTable` gives, where the layers share one.
        """
        p = self.dropout if self.training else 0.0
        if self.relative:
            return self._with_distances(x, layout, relative, p, first_only=first_only)
        if first_only:
            projection = Projection(self.qkv.weight, self.qkv.bias)
            if rotation is None:
                first = first_token_attention(x, projection, layout, self.heads, p, self.window)
            else:
                first = rotated_first_token_attention(x, projection, layout, self.heads, p, self.window, rotation)
            pooled: Tensor = self.output(first)
            return pooled
        qkv = self.qkv(x)
        if self.key_value_heads < self.heads:
            qkv = repeated_heads(qkv, self.heads, self.key_value_heads)
        if rotation is not None:
            qkv = rotated(qkv, self.heads, rotation)
        context = attend(qkv, layout, self.heads, p, self.window)
        result: Tensor = self.output(context)
        return result

    def _with_distances(
        self, x: Tensor, layout: Layout, relative: Tensor | None, dropout: float, *, first_only: bool
    ) -> Tensor:
        """`forward` where distances between tokens count; the first tokens' rows are cut out of all."""
        q, k, v = padded_heads(self.qkv(x), layout, self.heads)
        if hasattr(self, "distances"):
            scores, scale = self.distances(q, k, self.qkv, relative, layout), self.distances.scale
        else:
            scores, scale = relative, None
        if layout.real < len(layout) * layout.longest:
            scores = torch.where(layout.mask()[:, None, None, :], scores, -torch.inf)
        context = padded_attention((q, k, v), scores, layout, dropout, scale).transpose(1, 2)
        if first_only:
            found = context[:, 0]
        else:
            found = layout.from_padded(context) if layout.is_packed else context
        result: Tensor = self.output(found.reshape(-1, x.shape[1]))
        return result


def padded_heads(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Queries, keys and values, padded. Shape: (tokens, 3 * hidden) → (3, sequences, heads, longest, head size)."""
    split = qkv.view(len(qkv), 3, heads, -1)
    padded = layout.to_padded(split) if layout.is_packed else split.view(len(layout), layout.stride, *split.shape[1:])
    return padded.permute(2, 0, 3, 1, 4)


def repeated_heads(qkv: Tensor, heads: int, key_value_heads: int) -> Tensor:
    """Every head of keys and values as often as heads of queries share it (Ainslie et al., 2023).

    Shape: (tokens, (heads + 2 * key_value_heads) * head size) → (tokens, 3 * heads * head size).
    """
    tokens, size = len(qkv), qkv.shape[1] // (heads + 2 * key_value_heads)
    q, k, v = torch.split_with_sizes(qkv.view(tokens, -1, size), [heads, key_value_heads, key_value_heads], dim=1)
    times = heads // key_value_heads
    return torch.cat([q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)], dim=1).view(tokens, -1)


def attend(qkv: Tensor, layout: Layout, heads: int, dropout: float, window: int = 0) -> Tensor:
    """softmax(q kᵀ / √head size) v within every sequence, with dropout on the probabilities.

    Args:
        qkv: queries, keys and values side by side. Shape: (tokens, 3 * hidden).
        layout: where the sequences lie; rows outside them get zeros or values without meaning.
        heads: attention heads.
        dropout: probability of dropping an attention weight; 0 outside training.
        window: tokens to each side that a token attends to; 0: all of its sequence.

    Returns: Shape: (tokens, hidden).
    """
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    split = qkv.view(tokens, 3, heads, width // heads)
    if layout.is_packed and qkv.is_cuda and flash_works(qkv.device, qkv.dtype, width // heads):
        return flash_attention(split, layout.bounds, layout.longest, dropout, window).reshape(tokens, width)
    q, k, v = padded_heads(qkv, layout, heads)
    context = padded_attention((q, k, v), _mask(layout, window), layout, dropout).transpose(1, 2)
    if layout.is_packed:
        return layout.from_padded(context).view(tokens, width)
    return context.reshape(tokens, width)


def padded_attention(
    qkv: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, layout: Layout, p: float, scale: float | None = None
) -> Tensor:
    """PyTorch's attention on padded heads; written out where dropout draws by the layout's `keys`.

    Shape: (sequences, heads, longest, head size) each; mask (…, longest, longest), bool, or numbers to add to scores.
    """
    q, k, v = qkv
    mask = mask if mask is None or mask.dtype == torch.bool else mask.to(q.dtype)
    if layout.keys is None or p == 0:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, scale=scale)
    scores = torch.matmul(q * (q.shape[-1] ** -0.5 if scale is None else scale), k.transpose(2, 3))
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores.float(), dim=-1).to(v.dtype)
    return torch.matmul(dropout(weights, p, layout.attention_masks(q.shape[1], q.shape[2])), v)


def _mask(layout: Layout, window: int) -> Tensor | None:
    """Which keys a query sees; None: all. Shape: (sequences or 1, 1, queries or 1, keys), bool."""
    even = layout.real == len(layout) * layout.longest
    real = None if even else layout.mask()[:, None, None, :]
    if not window or layout.longest <= window + 1:
        return real
    places = torch.arange(layout.longest, device=layout.lengths.device)
    apart = (places[:, None] - places[None, :]).abs()
    near = (apart <= window)[None, None]
    # Padding far behind a sequence's end sees itself: a softmax over nothing has no value, not even one to throw away.
    return near if real is None else (near & real) | (apart == 0)


class Projection(NamedTuple):
    """Weights and biases of queries, keys and values, stacked. Shape: (3 * hidden, hidden), (3 * hidden,)."""

    weight: Tensor
    bias: Tensor | None


def first_token_attention(
    x: Tensor, projection: Projection, layout: Layout, heads: int, dropout_p: float, window: int = 0
) -> Tensor:
    """Attention's result for the first token of every sequence, before the output projection.

    A head that reads `pooled_output` uses one row per sequence of the last layer's output, so attention has one query
    per sequence. Then neither keys nor values have to be computed for every token, for both products are linear and can
    change places with the sums over tokens. For one head, with query q, inputs x_t and attention weights p_t:

        q · (W_k x_t + b_k) = (W_kᵀ q) · x_t + q · b_k      the last term is the same for all t: softmax does not see it
        Σ p_t (W_v x_t + b_v) = W_v (Σ p_t x_t) + b_v Σ p_t    with dropout Σ p_t differs from 1

    This is exact, in gradients too, and turns 4 · hidden² multiplications per token (keys and values, forward) into
    2 · heads · hidden. Rotary positions stand between W_k and x_t; with them keys are computed for all tokens.
    Everything is computed in float32: it is little, and bfloat16 sums would be rounded in other places than `attend`'s.

    Args:
        x: the layer's input, for every token. Shape: (tokens, hidden).
        projection: of queries, keys and values.
        layout: where the sequences lie.
        heads: attention heads.
        dropout_p: probability of dropping an attention weight; 0 outside training.
        window: tokens that the first token attends to on its right; 0: all of its sequence.

    Returns: Shape: (sequences, hidden), in x's type.
    """
    if not torch.is_grad_enabled() and dropout_p == 0 and calls.available(x):
        weight = projection.weight.to(x.dtype)
        return calls.first_token_attention(x.contiguous(), weight, projection.bias, layout, heads, window)
    width = x.shape[1]
    size = width // heads
    by_query, by_key, by_value = projection.weight.float().view(3, heads, size, width).unbind()
    padded = padded_float32(x, layout)
    q = F.linear(padded[:, 0], by_query.reshape(width, width))
    if projection.bias is not None:
        q = q + projection.bias[:width]
    # (heads, sequences, size) x (heads, size, hidden): the queries as seen by the layer's input
    seen = torch.bmm(_by_head(q, heads) * size**-0.5, by_key).transpose(0, 1)
    scores = torch.bmm(seen, padded.transpose(1, 2))
    weights = dropout(torch.softmax(_hidden(scores, layout, window), dim=-1), dropout_p, _masks(layout, heads))
    mixed = torch.bmm(weights, padded).transpose(0, 1)
    context = torch.bmm(mixed, by_value.transpose(1, 2)).transpose(0, 1)
    if projection.bias is not None:
        context = context + weights.sum(-1, keepdim=True) * projection.bias[2 * width :].view(heads, size)
    return context.reshape(len(layout), width).to(x.dtype)


def rotated_first_token_attention(
    x: Tensor, projection: Projection, layout: Layout, heads: int, dropout_p: float, window: int, rotation: Rotation
) -> Tensor:
    """`first_token_attention` where positions turn queries and keys: keys are computed for all tokens, values are not.

    Queries' heads may share those of keys and values, as `repeated_heads` has it.

    Shape: x and the result as there; projection.weight ((heads + 2 * key and value heads) * head size, hidden).
    """
    size = rotation[0].shape[-1]
    by_query, by_key, by_value = _by_part(projection.weight, heads * size)
    query_bias, key_bias, value_bias = (
        (None, None, None) if projection.bias is None else _by_part(projection.bias, heads * size)
    )
    keys_bias = None if key_bias is None else key_bias.to(by_key.dtype)
    k = turned(F.linear(x.to(by_key.dtype), by_key, keys_bias).view(len(x), -1, size), rotation)
    shared = heads * size // len(by_key)
    k = padded_float32(k.repeat_interleave(shared, 1).view(len(x), -1), layout).view(len(layout), -1, heads, size)
    first: Rotation = (rotation[0][layout.starts], rotation[1][layout.starts])
    q = F.linear(layout.first_tokens(x).float(), by_query.float(), query_bias).view(len(layout), heads, size)
    scores = torch.einsum("shd,slhd->shl", turned(q, first) * size**-0.5, k)
    weights = dropout(torch.softmax(_hidden(scores, layout, window), dim=-1), dropout_p, _masks(layout, heads))
    mixed = torch.bmm(weights, padded_float32(x, layout)).transpose(0, 1)
    values = by_value.float().view(-1, size, x.shape[1]).repeat_interleave(shared, 0)
    context = torch.bmm(mixed, values.transpose(1, 2)).transpose(0, 1)
    if value_bias is not None:
        context = context + weights.sum(-1, keepdim=True) * value_bias.view(-1, size).repeat_interleave(shared, 0)
    return context.reshape(len(layout), heads * size).to(x.dtype)


def _by_part(stacked: Tensor, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of queries, of keys and of values. Shape: (queries + 2 * keys, …)."""
    rest = (len(stacked) - queries) // 2
    q, k, v = torch.split_with_sizes(stacked, [queries, rest, rest])
    return q, k, v


def _masks(layout: Layout, heads: int) -> Tensor | None:
    """Where the masks of the first query begin. Shape: (sequences, heads), int64."""
    found = layout.attention_masks(heads, 1)
    return None if found is None else found[:, :, 0]


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """Shape: (sequences, hidden) → (heads, sequences, head size)."""
    return rows.view(len(rows), heads, -1).transpose(0, 1)


def _hidden(scores: Tensor, layout: Layout, window: int) -> Tensor:
    """Scores of which those that the first token must not see are -inf. Shape: (sequences, heads, longest)."""
    if layout.real < len(layout) * layout.longest:
        scores = scores.masked_fill(~layout.mask()[:, None], -torch.inf)
    if window and layout.longest > window + 1:
        far = torch.arange(layout.longest, device=scores.device) > window
        scores = scores.masked_fill(far, -torch.inf)
    return scores
