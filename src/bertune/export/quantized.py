"""Products in 8 bits: weights by output channel, activations by token, and never a sum that saturates.

Instruction sets without 8-bit dot products (AVX2, AVX-512 without VNNI) add the products of neighbours, an unsigned
and a signed byte each, in 16 bits. So two neighbouring weights of an output together reach at most 128: 255 * 128 =
32640 of 32767. The same file then gives the same sums on every processor, and steps are finer by a third than with 7
bits for each weight. Every token has a scale of its own, found when it is computed: one long vector does not take the
others' digits. Values that cannot fall below a bound (an activation's) use the whole byte above it.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.export.files import save_graph
from bertune.export.graph import Graph
from bertune.export.layers import Float32Products, FloatArray
from bertune.export.network import network_model
from bertune.export.record import Written
from bertune.export.verification import Compared, Reference, compare, loses_too_much
from bertune.inference.onnx_model import OnnxModel

logger = logging.getLogger(__name__)

MOST = 127
"""Largest 8-bit weight."""
PAIR = 128
"""Most that two neighbouring weights may come to, both without their signs; see above."""
_ZERO = 128
"""The unsigned byte that stands for an activation of zero, where values have both signs."""
_SMALLEST = 1e-20
"""Least length of a row, so that one of zeros is not divided by zero."""
_SHARES = (0.125, 0.25, 0.5)
"""Shares of the products that go back to float32, the most sensitive first, until the metric is kept."""
_PROBED = 16
"""Sequences on which the sensitivity of a product is measured."""


class Int8Products:
    """Products in 8 bits, but for some that stay in float32.

    names: of all products, in the order in which they were written; layers that share weights share names.
    """

    def __init__(self, float32: Collection[str] = ()) -> None:
        """float32: names of products that stay in float32."""
        self.float32 = frozenset(float32)
        self.names: list[str] = []
        self._plain = Float32Products()
        self._quantized: dict[str, _Bytes] = {}
        self._scalar = ""

    def linear(
        self, graph: Graph, x: str, name: str, weight: FloatArray, bias: FloatArray | None, least: float | None = None
    ) -> str:
        """See `export.layers.Products`."""
        if name not in self.names:
            self.names.append(name)
        if name in self.float32:
            return self._plain.linear(graph, x, name, weight, bias)
        if x not in self._quantized:
            self._quantized[x] = quantized_rows(graph, x) if least is None else rows_above(graph, x, least)
        rows = self._quantized[x]
        numbers, steps = paired_weight(weight)
        matrix = graph.weight(f"{name}.weight_quantized", np.ascontiguousarray(numbers.T))
        total = graph.op(
            "Cast", graph.op("MatMulInteger", rows.numbers, matrix, graph.scalar(rows.zero, np.uint8)), to=1
        )
        # In this form ONNX Runtime computes the product, the conversion and the scale of outputs in one operator.
        steps_now = graph.op("Mul", self._one(graph), graph.weight(f"{name}.weight_scale", steps))
        result = graph.op("Mul", graph.op("Mul", total, steps_now), rows.scale)
        if rows.moved:  # the bytes stand for x + moved; what that adds to an output is the same for every token
            added = np.float32(rows.moved) * numbers.sum(1, dtype=np.int32).astype(np.float32) * steps
            bias = -added if bias is None else bias - added
        return result if bias is None else graph.op("Add", result, graph.weight(f"{name}.bias", bias))

    def words(self, graph: Graph, name: str, table: FloatArray, ids: str) -> str:
        """See `export.layers.Products`; words are most of a small encoder, and in 8 bits its file is half as long."""
        if name not in self.names:
            self.names.append(name)
        if name in self.float32:
            return self._plain.words(graph, name, table, ids)
        numbers, steps = quantized_weight(table, most=MOST)
        rows = graph.op("Gather", graph.weight(f"{name}.weight_quantized", numbers), ids, axis=0)
        scales = graph.op("Gather", graph.weight(f"{name}.weight_scale", steps[:, None]), ids, axis=0)
        return graph.op("Mul", graph.op("Cast", rows, to=1), scales)

    def _one(self, graph: Graph) -> str:
        """1 as a number that is computed: ONNX Runtime would multiply a constant into the weight's scale beforehand,
        and then not recognise the pattern that it has an operator for.
        """
        if not self._scalar:
            size = graph.op("Size", graph.inputs[0].name)
            self._scalar = graph.op("Cast", graph.op("Min", size, graph.scalar(1, np.int64)), to=1)
        return self._scalar


def quantized_weight(weight: FloatArray, most: int) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """A matrix as whole numbers up to `most`, and every row's step. Shape: (outputs, inputs) → the same, (outputs,)."""
    steps = np.abs(weight).max(1) / most
    steps = np.where(steps > 0, steps, 1).astype(np.float32)
    return np.round(weight / steps[:, None]).astype(np.int8), steps


def paired_weight(weight: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """A matrix as whole numbers of which two neighbours come to at most `PAIR`, and every row's step.

    Neighbours are inputs 0 and 1, 2 and 3, and so on: those that instructions add.

    Shape: (outputs, inputs) → the same, (outputs,).
    """
    width = weight.shape[1]
    even = weight if width % 2 == 0 else np.pad(weight, ((0, 0), (0, 1)))
    sizes = np.abs(even)
    steps = np.maximum(sizes.max(1) / MOST, (sizes[:, ::2] + sizes[:, 1::2]).max(1) / PAIR)
    steps = np.where(steps > 0, steps, 1).astype(np.float32)
    exact = even / steps[:, None]
    numbers = np.clip(np.rint(exact), -MOST, MOST).astype(np.int8)
    sums = np.abs(numbers[:, ::2]).astype(np.uint8) + np.abs(numbers[:, 1::2]).astype(np.uint8)
    # Two that were both rounded away from zero may come to one more: that which was rounded further goes back.
    for output, pair in zip(*np.nonzero(sums > PAIR), strict=True):
        at = slice(2 * pair, 2 * pair + 2)
        two = numbers[output, at]
        further = int(np.argmax(np.abs(two) - np.abs(exact[output, at])))
        two[further] -= np.sign(two[further])
    return numbers[:, :width], steps


@dataclass(frozen=True)
class _Bytes:
    """Rows in bytes: a value is (number - zero) * its row's scale - moved.

    numbers: Shape: (rows, width). scale: Shape: (rows, 1).
    """

    numbers: str
    scale: str
    zero: int
    moved: float = 0.0


def quantized_rows(graph: Graph, x: str) -> _Bytes:
    """Rows as unsigned bytes around 128, with a step for every row. Shape: (rows, width)."""
    largest, smallest = (graph.op(kind, x, axes=(1,), keepdims=1) for kind in ("ReduceMax", "ReduceMin"))
    largest = graph.op("Max", largest, graph.op("Neg", smallest), graph.scalar(_SMALLEST))
    return _in_steps(graph, x, graph.op("Mul", largest, graph.scalar(1 / 127)), _ZERO)


def rows_above(graph: Graph, x: str, least: float) -> _Bytes:
    """Rows without a value below `least` (not above 0), as unsigned bytes from there. Shape: (rows, width)."""
    moved = graph.op("Add", x, graph.scalar(-least)) if least else x
    largest = graph.op("Max", graph.op("ReduceMax", moved, axes=(1,), keepdims=1), graph.scalar(_SMALLEST))
    return replace(_in_steps(graph, moved, graph.op("Mul", largest, graph.scalar(1 / 255)), 0), moved=-least)


def _in_steps(graph: Graph, x: str, scale: str, zero: int) -> _Bytes:
    # Not QuantizeLinear with a step for every row: OpenVINO takes none that is computed.
    steps = graph.op("Div", x, scale)
    return _Bytes(graph.op("QuantizeLinear", steps, graph.scalar(1.0), graph.scalar(zero, np.uint8)), scale, zero)


def write_int8(path: Path, reference: Reference, kind: str, max_loss: float) -> Written:
    """Write the graph with products in 8 bits, as few as possible of them in float32.

    Args:
        path: of the file.
        reference: what it is compared with; its metric decides.
        kind: see `network_model`.
        max_loss: most that the task's metric may lose.

    Raises:
        InputError: half of the products in float32 do not keep the metric; with the figures.
    """
    products = Int8Products()
    compared = _write(path, reference, kind, products)
    if not loses_too_much(compared, max_loss):
        return Written(path, compared)
    logger.info("int8: %s loses %.4f; looking for the products that it comes from", reference.metric, compared.loss)
    ranked = _by_sensitivity(path, reference, kind, products.names)
    for share in _SHARES:
        float32 = ranked[: max(1, round(share * len(ranked)))]
        compared = _write(path, reference, kind, Int8Products(float32))
        if not loses_too_much(compared, max_loss):
            return Written(path, compared, sorted(float32))
    raise InputError(
        f"--precision int8: {reference.metric} falls by {compared.loss:.4f} even with half of the products in "
        f"float32; --max-loss {max_loss:g} allows less; nothing was written"
    )


def _write(path: Path, reference: Reference, kind: str, products: Int8Products) -> Compared:
    save_graph(network_model(reference.model.network, kind, products), path)
    compared = compare(OnnxModel(path), reference)
    logger.info(
        "int8, %d products in float32: %s loses %.4f, logits within %.3f",
        len(products.float32),
        reference.metric,
        compared.loss,
        compared.difference,
    )
    return compared


def _by_sensitivity(path: Path, reference: Reference, kind: str, names: Sequence[str]) -> list[str]:
    """The products, that which moves the logits most when it alone is in 8 bits first."""
    if reference.labelled is None:
        return list(names)
    some = reference.labelled.features.first(_PROBED)
    expected = reference.labelled_rows[: len(some)]
    moved = {}
    for name in names:
        save_graph(network_model(reference.model.network, kind, Int8Products(set(names) - {name})), path)
        found = OnnxModel(path).rows(some)
        moved[name] = float(np.mean([np.square(a - b).mean() for a, b in zip(found, expected, strict=True)]))
    return sorted(names, key=lambda name: -moved[name])
