"""Runs ONNX files, and looks into them."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime


def run_onnx(path: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a file by name, by onnxruntime on the CPU."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(
        zip(names, session.run(names, {name: np.asarray(value) for name, value in inputs.items()}), strict=True)
    )


def operators(path: str) -> set[tuple[str, str]]:
    """Domain and type of every node; those of ONNX itself have the domain ""."""
    return {(node.domain, node.op_type) for node in onnx.load(path).graph.node}


def signature(path: str) -> dict[str, tuple[str, list]]:
    """Type and shape of each input and output by name; sizes that are open by their names."""
    graph = onnx.load(path).graph
    return {
        value.name: (
            onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type),
            [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim],
        )
        for value in (*graph.input, *graph.output)
    }
