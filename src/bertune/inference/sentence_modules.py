"""The modules that sentence-transformers puts behind an encoder, as one head: token vectors to one vector a text.

Source: sentence-transformers 6 (`sentence_transformer/modules`, `base/modules`), whose vectors it equals.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.checkpoints.sentence_transformers import Module
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import linear_by_rows
from bertune.errors import Problems

_TOKENS, _SENTENCE = "token_embeddings", "sentence_embedding"
Values = dict[str, Tensor]
"""What modules read and write. token_embeddings: Shape: (tokens, width); sentence_embedding: (sequences, width)."""


def pool(tokens: Tensor, layout: Layout, mode: str, skip: int = 0) -> Tensor:
    """One vector a sequence. Shape: (tokens, width) → (sequences, width).

    Args:
        tokens: float32.
        layout: where the sequences lie.
        mode: one of `checkpoints.sentence_transformers.POOLING_MODES`.
        skip: tokens of every sequence's beginning (a prompt) that do not count.
    """
    if mode == "lasttoken":
        return tokens[layout.starts + layout.lengths - 1]
    if mode == "cls":
        return tokens[layout.starts + torch.where(layout.lengths > skip, skip, 0)]
    if mode == "max":
        places = torch.arange(layout.longest, device=tokens.device)[None, :, None]
        counts = (places >= skip) & (places < layout.lengths[:, None, None])
        return layout.to_padded(tokens).masked_fill(~counts, -torch.inf).amax(1)
    place = layout.places()[0] % layout.longest  # within the sequence. Shape: (tokens,)
    weights = (place >= skip).to(tokens.dtype) * (place + 1 if mode == "weightedmean" else 1)
    total = layout.sums(weights[:, None]).clamp(min=1e-9)
    return layout.sums(tokens * weights[:, None]) / (total.sqrt() if mode == "mean_sqrt_len_tokens" else total)


class Pooling(nn.Module):
    """Pooling by one mode or several, whose vectors are concatenated. skip: see `pool`."""

    def __init__(self, modes: Sequence[str], *, include_prompt: bool = True) -> None:
        super().__init__()
        self.modes, self.include_prompt, self.skip = tuple(modes), include_prompt, 0

    def forward(self, values: Values, layout: Layout) -> Values:
        """Write the sentence's vector."""
        skip = 0 if self.include_prompt else self.skip
        vectors = [pool(values[_TOKENS], layout, mode, skip) for mode in self.modes]
        return {**values, _SENTENCE: torch.cat(vectors, dim=-1)}


class Dense(nn.Module):
    """A linear layer with an activation, perhaps added to what went in."""

    def __init__(self, module: Module) -> None:
        super().__init__()
        config, tensors = module.config, module.tensors
        self.source = str(config.get("module_input_name") or _SENTENCE)
        self.target = str(config.get("module_output_name") or self.source)
        self.activation: nn.Module = getattr(nn, config["activation"])()
        self.has_residual = bool(config.get("use_residual"))
        self.register_buffer("weight", tensors["linear.weight"].float())
        bias = tensors.get("linear.bias")
        self.register_buffer("bias", None if bias is None else bias.float())
        residual = tensors.get("residual.weight")
        self.register_buffer("residual", None if residual is None else residual.float())

    def forward(self, values: Values, layout: Layout) -> Values:  # noqa: ARG002
        """Shape: (…, in_features) → (…, out_features)."""
        x, weight, bias, residual = values[self.source], self.weight, self.bias, self.residual
        out = self.activation(linear_by_rows(x, weight, bias))  # type: ignore[arg-type]
        if self.has_residual:
            out = out + (x if residual is None else linear_by_rows(x, residual))  # type: ignore[arg-type]
        return {**values, self.target: out}


class Normalize(nn.Module):
    """Vectors of length 1."""

    def __init__(self, config: Mapping[str, object]) -> None:
        super().__init__()
        self.source = str(config.get("module_input_name") or _SENTENCE)
        self.target = str(config.get("module_output_name") or self.source)

    def forward(self, values: Values, layout: Layout) -> Values:  # noqa: ARG002
        """Shape: any → the same."""
        found = values.get(self.source)
        return values if found is None else {**values, self.target: F.normalize(found, dim=-1)}


class SentenceNorm(nn.Module):
    """Layer normalisation of the sentence's vector."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(len(tensors["norm.weight"]))
        self.norm.load_state_dict({"weight": tensors["norm.weight"].float(), "bias": tensors["norm.bias"].float()})

    def forward(self, values: Values, layout: Layout) -> Values:  # noqa: ARG002
        """Shape: (sequences, width) → the same."""
        return {**values, _SENTENCE: self.norm(values[_SENTENCE])}


class SentenceHead(nn.Module):
    """All modules behind an encoder, in order.

    width: numbers of a vector.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        config: EncoderConfig,
        *,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        all_layers: bool = False,
    ) -> None:
        """Make them.

        Args:
            modules: as `read_sentence_folder` reads them.
            config: the encoder's numbers.
            normalize: vectors of length 1 at the end; None: as the modules say; False: without the modules' own.
            truncate_dim: numbers of each vector that are kept; None: all.
            all_layers: whether the encoder hands its layers to WeightedLayerPooling, as config.json's
                `output_hidden_states` says; without, that module does nothing.

        Raises:
            InputError: tensors that are missing, or widths that do not fit.
        """
        super().__init__()
        self.normalize, self.truncate_dim = normalize, truncate_dim
        mixes = [module for module in modules if module.kind == "WeightedLayerPooling"]
        self.needs_layers = bool(mixes) and all_layers
        mix = mixes[0] if self.needs_layers else None
        self.first_layer = int(mix.config.get("layer_start", 4)) if mix else 0
        self.register_buffer("layer_weights", mix.tensors["layer_weights"].float() if mix else None)
        kept = [m for m in modules if m.kind != "Normalize" or normalize is not False]
        made = [built for module in kept if (built := _built(module)) is not None]
        self.steps = nn.ModuleList(made)
        self.width = _checked_width(modules, config.hidden_size)
        if truncate_dim is not None:
            self.width = min(self.width, truncate_dim)

    @property
    def excludes_prompt(self) -> bool:
        """Whether pooling leaves a prompt's tokens out."""
        return any(isinstance(step, Pooling) and not step.include_prompt for step in self.steps)

    def skip(self, tokens: int) -> None:
        """How many tokens a prompt has at every sequence's beginning, `[CLS]` included."""
        for step in self.steps:
            if isinstance(step, Pooling):
                step.skip = tokens

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (sequences, width), float32."""
        values: Values = {_TOKENS: self._mixed(output)}
        for step in self.steps:
            values = step(values, layout)
        vectors = values[_SENTENCE]
        if self.truncate_dim is not None:
            vectors = vectors[:, : self.truncate_dim]
        return F.normalize(vectors, dim=-1) if self.normalize else vectors

    def _mixed(self, output: EncoderOutput) -> Tensor:
        if not self.needs_layers:
            return output.sequence_output.float()
        weights: Tensor = self.layer_weights  # type: ignore[assignment]
        layers = torch.stack([layer.float() for layer in output.layers[self.first_layer :]])
        return torch.einsum("l,lth->th", weights, layers) / weights.sum()


def _built(module: Module) -> nn.Module | None:
    """The torch module; None for what does nothing here."""
    if module.kind == "Pooling":
        return Pooling(module.config["modes"], include_prompt=bool(module.config["include_prompt"]))
    if module.kind == "Dense":
        return Dense(module)
    if module.kind == "Normalize":
        return Normalize(module.config)
    return SentenceNorm(module.tensors) if module.kind == "LayerNorm" else None


_NEEDED = {"Dense": "linear.weight", "LayerNorm": "norm.weight", "WeightedLayerPooling": "layer_weights"}


def _checked_width(modules: Sequence[Module], hidden: int) -> int:
    """The width of the vectors, once every module is known to take what the one before gives."""
    problems = Problems()
    widths = {_TOKENS: hidden}
    for index, module in enumerate(modules, 1):
        if (name := _NEEDED.get(module.kind)) and name not in module.tensors:
            problems.add(f"modules.json: module {index}, {module.kind}, lacks the tensor {name}")
            continue
        if module.kind == "Pooling":
            widths[_SENTENCE] = widths[_TOKENS] * len(module.config["modes"])
        elif module.kind in {"Dense", "LayerNorm"}:
            source = str(module.config.get("module_input_name") or _SENTENCE)
            takes = module.tensors[name].shape[-1]  # type: ignore[index]
            if widths.get(source) != takes:
                problems.add(
                    f"modules.json: module {index}, {module.kind}, takes {takes} numbers, but {source} has "
                    f"{widths.get(source, 'not been made yet')}"
                )
            target = str(module.config.get("module_output_name") or source)
            widths[target] = module.tensors[name].shape[0]  # type: ignore[index]
    if _SENTENCE not in widths:
        problems.add("modules.json: no module gives a vector for the text (Pooling is missing)")
    problems.raise_if_any()
    return widths[_SENTENCE]
