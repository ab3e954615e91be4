"""Writes ONNX nodes into a graph of tf2onnx as if they were function calls."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto
from tf2onnx.utils import make_name


class Nodes:
    """Adds the nodes that take the place of one TensorFlow op.

    Each call is a node: `nodes("Mul", a, 2.0)` is a product, and gives the name of its output. An operand is such a
    name, or a number or array, which becomes a constant: integers int64, the others float32.

    Args:
        graph: tf2onnx's graph.
        node: the TensorFlow op.
    """

    def __init__(self, graph: Any, node: Any):
        self._graph, self._node = graph, node

    def __call__(self, op_type: str, *operands: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node.

        Args:
            op_type: an operator of ONNX.
            *operands: its inputs; `""` leaves an optional one out.
            outputs: how many it has.
            **attributes: of the operator.

        Returns:
            The name of the output, or a list of them where there are several.
        """
        domain = attributes.pop("domain", "")
        made = self._graph.make_node(op_type, self._names(operands), attributes, output_count=outputs, domain=domain)
        return made.output[0] if outputs == 1 else list(made.output)

    def finish(self, *results: str) -> None:
        """Lets `results` take the place of the op's outputs, under their names, shapes and types."""
        node = self._node
        names, shapes, dtypes = list(node.output), node.output_shapes, node.output_dtypes
        self._graph.remove_node(node.name)
        for result, name, shape, dtype in zip(results, names, shapes, dtypes, strict=True):
            # The cast is one to the type it has already, except for floats of other widths, and is optimised away.
            self._graph.make_node("Cast", [result], {"to": dtype}, outputs=[name], shapes=[shape], dtypes=[dtype])

    def as_float(self, tensor: str) -> str:
        """`tensor` in float32."""
        is_float = self._graph.get_dtype(tensor) == TensorProto.FLOAT
        return tensor if is_float else self("Cast", tensor, to=TensorProto.FLOAT)

    def size(self, tensor: str, axis: int) -> str:
        """The length of an axis, int64 of shape `(1,)`, as shapes are put together of."""
        # Not by the attributes of Shape, which tf2onnx's optimiser of reshapes overlooks.
        return self("Slice", self("Shape", tensor), [axis], [axis + 1], [0])

    def shape(self, *sizes: Any) -> str:
        """A shape from sizes: integers, and names of tensors as `size` gives them."""
        return self("Concat", *([size] if isinstance(size, int) else size for size in sizes), axis=0)

    def _names(self, operands: Sequence[Any]) -> list[str]:
        return [each if isinstance(each, str) else self._constant(each) for each in operands]

    def _constant(self, value: Any) -> str:
        array = np.asarray(value)
        array = array.astype(np.int64 if np.issubdtype(array.dtype, np.integer) else np.float32)
        return self._graph.make_const(make_name("constant"), array).output[0]
