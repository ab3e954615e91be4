"""TensorFlow function -> ONNX model, by tf2onnx with handlers for this package's ops."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from tf2onnx import optimizer

from tf_dcnv2.export.onnx.deform_conv2d import PENDING_DOMAIN, convert_deform_conv2d
from tf_dcnv2.export.onnx.roi_pool import convert_deform_roi_pool
from tf_dcnv2.export.onnx.suppression import convert_combined_nms
from tf_dcnv2.ops.implementation import inference_graph

_HANDLERS = {
    "Dcnv2>DeformConv2D": convert_deform_conv2d,
    "Dcnv2>DeformRoiPool": convert_deform_roi_pool,
    "CombinedNonMaxSuppression": convert_combined_nms,
}
# Those passes of tf2onnx's optimiser that find something in these graphs.
_OPTIMIZERS = {
    "transpose": optimizer.TransposeOptimizer,
    "constants": optimizer.ConstFoldOptimizer,
    "duplicates": optimizer.MergeDuplicatedNodesOptimizer,
    "identity": optimizer.IdentityOptimizer,
    "back to back": optimizer.BackToBackOptimizer,
}
# The last operator set that tf2onnx knows.
_TF2ONNX_OPSET = 18


def convert(
    function: Callable[..., dict[str, tf.Tensor]], signature: list[tf.TensorSpec], opset: int
) -> onnx.ModelProto:
    """The ONNX model of a function from tensors, by the names in `signature`, to a dictionary.

    Raises:
        ValueError: there is something in the function that ONNX has not; the message says what.
    """
    order: list[str] = []

    def traced(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(*inputs)
        order.extend(outputs)
        return {name: tf.identity(tensor) for name, tensor in outputs.items()}

    with inference_graph(), _errors_of_tf2onnx() as errors:
        concrete = tf.function(traced).get_concrete_function(*signature)
        model = _convert_graph(concrete, [spec.name for spec in signature])
    _refuse_unknown(model, errors)
    _pad_explicitly(model)
    try:
        model = _raise_opset(model, opset)
        _tidy(model, order)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"ONNX' operator set {opset} does not take the model: {error}") from error
    return model


def _convert_graph(concrete: Any, input_names: list[str]) -> onnx.ModelProto:
    """What `tf2onnx.convert.from_function` does, with fewer passes of its optimiser and without its copies.

    Each pass costs memory for all weights, which is not given back.
    """
    inputs = [tensor.name for tensor in concrete.inputs if tensor.dtype != tf.resource]
    outputs = [tensor.name for tensor in concrete.outputs]
    names = dict(zip(inputs, input_names, strict=True))
    names |= {tensor.name: name for name, tensor in concrete.structured_outputs.items()}
    definition = tf2onnx.tf_loader.from_function(concrete, inputs, outputs)
    with tf.Graph().as_default() as frozen, tf.device("/CPU:0"):
        tf.import_graph_def(definition, name="")
        graph = tf2onnx.tfonnx.process_tf_graph(
            frozen,
            continue_on_error=True,  # what is left is refused, with the reasons
            opset=_TF2ONNX_OPSET,
            extra_opset=[onnx.helper.make_opsetid(PENDING_DOMAIN, 1)],
            custom_op_handlers={op: (handler, []) for op, handler in _HANDLERS.items()},
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=names,
        )
    del definition, frozen
    return optimizer.optimize_graph(graph, catch_errors=False, optimizers=_OPTIMIZERS).make_model("tf-dcnv2")


@contextlib.contextmanager
def _errors_of_tf2onnx() -> Iterator[list[str]]:
    """Collects, instead of printing them, the errors in spite of which tf2onnx goes on: what it could not convert."""
    errors: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(str(record.exc_info[1]) if record.exc_info else record.getMessage())

    logger, collector = logging.getLogger("tf2onnx"), Collector(logging.ERROR)
    propagates, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagates


def _refuse_unknown(model: onnx.ModelProto, errors: list[str]) -> None:
    """Refuses a model in which ops of TensorFlow are left."""
    unknown = {
        node.op_type
        for node in _nodes(model.graph)
        if node.domain != PENDING_DOMAIN and not (node.domain == "" and onnx.defs.has(node.op_type))
    }
    if unknown:
        reasons = " ".join(dict.fromkeys(errors))
        raise ValueError(f"The model has what ONNX has not: {', '.join(sorted(unknown))}. {reasons}".rstrip())


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those of branches."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _pad_explicitly(model: onnx.ModelProto) -> None:
    """Writes the padding "SAME" of convolutions as pixels, where these do not depend on the size of the image."""
    for node in _nodes(model.graph):
        attributes = {each.name: each for each in node.attribute}
        if node.op_type != "Conv" or "auto_pad" not in attributes or max(attributes["strides"].ints) > 1:
            continue
        total = [
            (taps - 1) * dilation
            for taps, dilation in zip(attributes["kernel_shape"].ints, attributes["dilations"].ints, strict=True)
        ]
        before = [pixels // 2 for pixels in total]
        after = [pixels - pixels // 2 for pixels in total]
        node.attribute.remove(attributes["auto_pad"])
        node.attribute.append(onnx.helper.make_attribute("pads", before + after))


def _raise_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model in an operator set with DeformConv, where the nodes that wait for it become that."""
    model = onnx.version_converter.convert_version(model, opset)
    for node in _nodes(model.graph):
        if node.domain == PENDING_DOMAIN:
            node.domain = ""
    imports = [onnx.helper.make_opsetid("", opset)]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    model.ir_version = onnx.helper.find_min_ir_version_for(imports)
    return model


def _tidy(model: onnx.ModelProto, order: list[str]) -> None:
    """Puts the outputs in their order, and gives names to the sizes that are open."""
    graph = model.graph
    outputs = {output.name: output for output in graph.output}
    ordered = [outputs[name] for name in order]
    del graph.output[:]
    graph.output.extend(ordered)
    del graph.value_info[:]  # with names of sizes of their own, and nothing that a reader does not infer
    for value in (*graph.input, *graph.output):
        shape = value.type.tensor_type.shape
        for axis, size in enumerate(shape.dim):
            if not size.HasField("dim_value"):
                size.dim_param = _size_name(value.name, axis, len(shape.dim))


def _size_name(tensor: str, axis: int, rank: int) -> str:
    if axis == 0:
        return "batch"
    side = {1: "height", 2: "width"}.get(axis) if rank == 4 else None
    return f"{tensor}_{side or axis}"
