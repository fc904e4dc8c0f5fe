"""Weight names as a reversible list: import and export of a dialect come from the same lines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bertune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

KIND = "bertune_head"
"""Key of config.json for a head on several layers, whose tensors `head.…` stand beside an encoder for `AutoModel`.

Its values are those of `architectures` without the family's name (`ForQuestionAnswering`), and `Embedding`.
"""


@dataclass(frozen=True)
class Rename:
    """One line of a dialect: how one tensor of ours is stored by others.

    ours: our name; `{i}` stands for the layer.
    theirs: their name, or several whose tensors we hold joined along the first axis (query, key, value).
    transpose: they store a matrix as (in, out), we as (out, in).
    optional: its absence is no error (a pooler, a head).
    sizes: rows of each of several; none: all have as many.
    """

    ours: str
    theirs: tuple[str, ...]
    transpose: bool = False
    optional: bool = False
    sizes: tuple[int, ...] = ()

    def at_layer(self, layer: int) -> "Rename":
        """This line for one layer: `{i}` filled in."""
        index = str(layer)
        theirs = tuple(name.replace("{i}", index) for name in self.theirs)
        return replace(self, ours=self.ours.replace("{i}", index), theirs=theirs)


def for_layers(names: Iterable[Rename], layers: int) -> list[Rename]:
    """The list with every `{i}` line written out for each of `layers` layers."""
    plain: list[Rename] = []
    for name in names:
        plain.extend([name.at_layer(i) for i in range(layers)] if "{i}" in name.ours else [name])
    return plain


def to_ours(
    names: Sequence[Rename], theirs: Mapping[str, "Tensor"]
) -> tuple[dict[str, "Tensor"], list[str], list[str]]:
    """Read a foreign set of tensors by a written-out list.

    Raises:
        InputError: tensors to be joined differ in shape, or one to be transposed is no matrix.

    Returns: our tensors; the foreign names that are missing though not optional; the foreign names that no line uses.
    """
    import torch  # the names alone are read where torch is not

    ours: dict[str, Tensor] = {}
    missing: list[str] = []
    used: set[str] = set()
    for name in names:
        absent = [their for their in name.theirs if their not in theirs]
        if absent:
            missing.extend([] if name.optional else absent)
            continue
        parts = [theirs[their] for their in name.theirs]
        used.update(name.theirs)
        sizes = name.sizes or (0,) * len(parts)  # with sizes, all but the number of rows must be equal
        shapes = {
            (part.shape[0] - size, *part.shape[1:]) if part.ndim else ()
            for part, size in zip(parts, sizes, strict=True)
        }
        if (
            len(shapes) > 1
            or (name.sizes and any(shape[0] for shape in shapes if shape))
            or (name.transpose and parts[0].ndim != 2)
        ):
            listed = ", ".join(f"{their} {tuple(part.shape)}" for their, part in zip(name.theirs, parts, strict=True))
            raise InputError(f"tensors of impossible shapes: {listed}")
        if name.transpose:
            parts = [part.t() for part in parts]
        ours[name.ours] = (parts[0] if len(parts) == 1 else torch.cat(parts)).contiguous()
    return ours, missing, [name for name in theirs if name not in used]


def to_theirs(names: Sequence[Rename], ours: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """Write our tensors under foreign names by a written-out list; tensors without a line are left out."""
    theirs: dict[str, Tensor] = {}
    for name in names:
        if name.ours not in ours:
            continue
        whole = ours[name.ours]
        if len(name.theirs) == 1:
            parts: Sequence[Tensor] = [whole]  # also a single number, which cannot be cut
        else:
            parts = whole.split_with_sizes(name.sizes) if name.sizes else whole.chunk(len(name.theirs))
        for their, part in zip(name.theirs, parts, strict=True):
            theirs[their] = (part.t() if name.transpose else part).contiguous()
    return theirs
