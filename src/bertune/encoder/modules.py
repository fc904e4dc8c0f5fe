"""The small parts of an encoder. Matrices may be kept in half precision; vectors (biases, norms) stay in float32."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.kernels import calls


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
    """Dropout whose masks cost little on the CPU too; governed by PyTorch's generator."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Shape: any → the same."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, p: float) -> Tensor:
    """Elements of x dropped with probability p, the rest scaled by 1 / (1 - p). Shape: any → the same."""
    if p == 0:
        return x
    return calls.differentiable_dropout(x, p) if calls.available(x) else F.dropout(x, p)


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
