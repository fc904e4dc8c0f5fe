"""Writing an ONNX graph node by node, with the `onnx` package."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

OPSET = 17
"""The first with LayerNormalization; every runtime of the last years reads it (ONNX 1.12, ONNX Runtime 1.12)."""

Axes = Sequence[str | int]
"""A shape: names of dynamic axes, and numbers."""


class Graph:
    """A graph that grows by operators; every method returns the name of its result.

    Constants that occur again are stored once.

    constants: `onnx.TensorProto` from elsewhere, beside what `weight` adds.
    """

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.domains = {"": OPSET}
        self._names = itertools.count()
        self._weights: dict[str, npt.NDArray[Any]] = {}
        self._small: dict[tuple[str, bytes], str] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """One operator with one output."""
        return self.op_many(kind, inputs, 1, domain=domain, **attributes)[0]

    def op_many(
        self, kind: str, inputs: Sequence[str], count: int, *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """One operator with several outputs."""
        from onnx import helper

        number = next(self._names)
        outputs = [f"{kind}_{number}_{i}" if count > 1 else f"{kind}_{number}" for i in range(count)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), outputs, name=f"{kind}_{number}", domain=domain, **attributes)
        )
        return outputs

    def weight(self, name: str, values: npt.NDArray[Any]) -> str:
        """A named constant: a weight. One whose name is there already (of layers that share theirs) is not added."""
        self._weights.setdefault(name, values)
        return name

    def ints(self, *values: int) -> str:
        """A vector of int64, for shapes and axes."""
        return self._constant(np.array(values, np.int64))

    def scalar(self, value: float | int, dtype: npt.DTypeLike = np.float32) -> str:
        """A number without axes."""
        return self._constant(np.array(value, dtype))

    def _constant(self, values: npt.NDArray[Any]) -> str:
        key = (f"{values.dtype}{values.shape}", values.tobytes())
        if key not in self._small:
            self._small[key] = self.weight(f"constant_{len(self._small)}", values)
        return self._small[key]

    def input(self, name: str, axes: Axes) -> str:
        """An int64 input."""
        from onnx import TensorProto, helper

        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, list(axes)))
        return name

    def output(self, name: str, value: str, axes: Axes) -> None:
        """Make a value a float32 output of the graph under a name."""
        from onnx import TensorProto, helper

        self.nodes.append(helper.make_node("Identity", [value], [name], name=f"output_{name}"))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(axes)))

    def model(self, producer: str, version: str) -> Any:
        """The finished `onnx.ModelProto`."""
        from onnx import helper

        graph = helper.make_graph(self.nodes, "bertune", self.inputs, self.outputs)
        opsets = [helper.make_opsetid(domain, number) for domain, number in self.domains.items()]
        model = helper.make_model(
            graph, opset_imports=opsets, producer_name=producer, producer_version=version, ir_version=8
        )
        # Last, and in place: both functions above copy what they are given, and so does `extend`, several times.
        for name, values in self._weights.items():
            tensor = model.graph.initializer.add()
            tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(values.dtype)
            tensor.dims.extend(values.shape)
            tensor.raw_data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        model.graph.initializer.extend(self.constants)
        return model
