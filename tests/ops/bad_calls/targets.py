"""What is called: the public functions, the raw ops and the layers, each with arguments that are right."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from corruptions import pick

from tf_dcnv2 import layers
from tf_dcnv2.ops import deform_conv2d, deform_roi_pool, native

Arguments = dict[str, object]


@dataclasses.dataclass(frozen=True)
class Target:
    """Something to call.

    Attributes:
        valid: makes arguments that are right.
        kinds: the kind of each argument, a key of `corruptions.CORRUPTIONS`.
        call: takes the arguments by name and returns tensors.
        is_raw: whether TensorFlow checks some arguments before this package sees them, in its own words.
        is_layer: whether Keras does.
    """

    valid: Callable[[np.random.Generator], Arguments]
    kinds: dict[str, str]
    call: Callable[..., object]
    is_raw: bool = False
    is_layer: bool = False


def _with_gradients(function: Callable[..., tf.Tensor], differentiable: tuple[str, ...], **arguments) -> object:
    """The value and its gradients by those of the `differentiable` arguments that are arrays."""
    watched = {}
    for name in differentiable:
        parts = arguments[name] if isinstance(arguments[name], list) else [arguments[name]]
        if all(isinstance(part, np.ndarray) and part.dtype.kind == "f" for part in parts):
            watched[name] = tf.nest.map_structure(tf.constant, arguments[name])
    with tf.GradientTape() as tape:
        tape.watch(tf.nest.flatten(watched))
        value = function(**{**arguments, **watched})
    return value, tape.gradient(value, tf.nest.flatten(watched))


def _traced(function: Callable[..., tf.Tensor], **arguments) -> tf.Tensor:
    """Calls `function` in a graph that knows the shapes of some arrays, and nothing of the others'."""
    arrays = {name: value for name, value in arguments.items() if isinstance(value, np.ndarray) and value.dtype != "O"}
    others = {name: value for name, value in arguments.items() if name not in arrays}
    shapes = {name: array.shape if sum(array.shape) % 3 == 0 else None for name, array in arrays.items()}
    specs = {name: tf.TensorSpec(shapes[name], array.dtype) for name, array in arrays.items()}
    graph = tf.function(lambda arrays: function(**arrays, **others), input_signature=[specs])
    return graph({name: tf.constant(array) for name, array in arrays.items()})


CONV_TENSORS = ("x", "kernel", "offset", "mask")
CONV_KINDS = {
    **dict.fromkeys(CONV_TENSORS, "tensor"),
    "strides": "pair",
    "padding": "padding",
    "dilation_rate": "pair",
    "deformable_groups": "count",
    "implementation": "word",
}
ROI_TENSORS = ("features", "offset", "mask")
ROI_KINDS = {
    "features": "tensors",
    "boxes": "tensor",
    "box_indices": "indices",
    "offset": "tensor",
    "mask": "tensor",
    "output_size": "pair",
    "spatial_scale": "scale",
    "sampling_ratio": "count",
    "gamma": "number",
    "levels": "indices",
    "convention": "word",
    "implementation": "word",
}


def _conv(rng: np.random.Generator) -> Arguments:
    height, width, channels = int(rng.integers(3, 7)), int(rng.integers(3, 7)), 4
    groups, deformable_groups, stride = pick(rng, [1, 2]), pick(rng, [1, 2, 4]), pick(rng, [1, 2])
    size = (2, -(-height // stride), -(-width // stride))
    dtype, wide = pick(rng, [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)])
    return {
        "x": rng.normal(size=(2, height, width, channels)).astype(dtype),
        "kernel": rng.normal(size=(3, 3, channels // groups, 4)).astype(dtype),
        "offset": rng.normal(size=(*size, 18 * deformable_groups)).astype(wide),
        "mask": pick(rng, [rng.uniform(size=(*size, 9 * deformable_groups)).astype(wide), None]),
        "strides": stride,
        "padding": "same",
        "dilation_rate": pick(rng, [1, 2]),
        "deformable_groups": deformable_groups,
        "implementation": pick(rng, ["auto", "native", "composite"]),
    }


def _roi(rng: np.random.Generator) -> Arguments:
    levels, rois, bins = int(rng.integers(1, 3)), int(rng.integers(0, 4)), (2, int(rng.integers(1, 4)))
    dtype, wide = pick(rng, [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)])
    corner = rng.uniform(-5, 30, (rois, 2))
    return {
        "features": [rng.normal(size=(2, 6 - level, 5, 3)).astype(dtype) for level in range(levels)],
        "boxes": np.concatenate([corner, corner + rng.uniform(0, 30, (rois, 2))], axis=1).astype(wide),
        "box_indices": rng.integers(0, 2, rois).astype(np.int32),
        "offset": pick(rng, [rng.normal(size=(rois, *bins, 2)).astype(wide), None]),
        "mask": pick(rng, [rng.uniform(size=(rois, *bins)).astype(wide), None]),
        "output_size": bins,
        "spatial_scale": [0.25] * levels,
        "sampling_ratio": pick(rng, [0, 1, 2]),
        "gamma": 0.1,
        "levels": pick(rng, [rng.integers(0, levels, rois).astype(np.int32), None]),
        "convention": "aligned",
        "implementation": pick(rng, ["auto", "native", "composite"]),
    }


def _raw_conv(rng: np.random.Generator) -> Arguments:
    arguments = _conv(rng)
    x, kernel, offset, mask = (arguments[name] for name in CONV_TENSORS)
    return {
        "x": x,
        "kernel": kernel,
        "offset": offset,
        "mask": np.zeros(0, offset.dtype) if mask is None else mask,
        "use_mask": mask is not None,
        "strides": [arguments["strides"]] * 2,
        "padding": "SAME",
        "explicit_paddings": [],
        "dilations": [arguments["dilation_rate"]] * 2,
        "deformable_groups": arguments["deformable_groups"],
    }


def _raw_conv_grad(rng: np.random.Generator) -> Arguments:
    arguments = _raw_conv(rng)
    size, x, kernel = arguments["offset"].shape[:3], arguments["x"], arguments["kernel"]
    return {**arguments, "dy": rng.normal(size=(*size, kernel.shape[3])).astype(x.dtype)}


RAW_CONV_KINDS = {
    **dict.fromkeys(CONV_TENSORS, "tensor"),
    "use_mask": "flag",
    "strides": "list",
    "padding": "word",
    "explicit_paddings": "list",
    "dilations": "list",
    "deformable_groups": "count",
}


def _raw_roi(rng: np.random.Generator) -> Arguments:
    arguments = _roi(rng)
    boxes, offset, mask, levels = (arguments[name] for name in ("boxes", "offset", "mask", "levels"))
    return {
        **{name: arguments[name] for name in ("features", "boxes", "box_indices")},
        "levels": np.zeros(len(boxes), np.int32) if levels is None else levels,
        "offset": np.zeros(0, boxes.dtype) if offset is None else offset,
        "mask": np.zeros(0, boxes.dtype) if mask is None else mask,
        "spatial_scales": np.array(arguments["spatial_scale"]),
        "gamma": np.array(0.1),
        "use_offset": offset is not None,
        "use_mask": mask is not None,
        "output_size": list(arguments["output_size"]),
        "sampling_ratio": arguments["sampling_ratio"],
        "convention": "aligned",
    }


def _raw_roi_grad(rng: np.random.Generator) -> Arguments:
    arguments = _raw_roi(rng)
    shape = (len(arguments["boxes"]), *arguments["output_size"], 3)
    return {**arguments, "dy": rng.normal(size=shape).astype(arguments["features"][0].dtype)}


RAW_ROI_KINDS = {
    "features": "tensors",
    **dict.fromkeys(["boxes", "offset", "mask", "spatial_scales", "gamma"], "tensor"),
    **dict.fromkeys(["box_indices", "levels"], "indices"),
    **dict.fromkeys(["use_offset", "use_mask"], "flag"),
    "output_size": "list",
    "sampling_ratio": "count",
    "convention": "word",
}


def _raw(name: str) -> Callable[..., object]:
    return lambda **arguments: getattr(native.load(), name)(**arguments)


def _conv_layer(rng: np.random.Generator) -> Arguments:
    return {
        "inputs": rng.normal(size=(2, 6, 5, 4)).astype(np.float32),
        "filters": 4,
        "kernel_size": 3,
        "strides": pick(rng, [1, 2]),
        "padding": pick(rng, ["same", "valid", 1]),
        "dilation_rate": pick(rng, [1, 2]),
        "groups": pick(rng, [1, 2]),
        "deformable_groups": pick(rng, [1, 2]),
        "offset_clip": pick(rng, [None, 2.0]),
        "offset_learning_rate_multiplier": 0.1,
        "implementation": pick(rng, ["auto", "native", "composite"]),
    }


CONV_LAYER_KINDS = {
    "inputs": "tensor",
    **dict.fromkeys(["filters", "groups", "deformable_groups"], "count"),
    **dict.fromkeys(["kernel_size", "strides", "dilation_rate"], "pair"),
    "padding": "padding",
    **dict.fromkeys(["offset_clip", "offset_learning_rate_multiplier"], "number"),
    "implementation": "word",
}


def _roi_layer(rng: np.random.Generator) -> Arguments:
    arguments = _roi(rng)
    names = ("features", "boxes", "box_indices", "levels", "output_size", "spatial_scale", "sampling_ratio")
    return {name: arguments[name] for name in (*names, "implementation")}


ROI_LAYER_INPUTS = ("features", "boxes", "box_indices", "levels")
ROI_LAYER_KINDS = {
    name: kind for name, kind in ROI_KINDS.items() if name not in ("offset", "mask", "gamma", "convention")
}


def _layer(layer_class: type, inputs: tuple[str, ...]) -> Callable[..., object]:
    def call(**arguments):
        layer = layer_class(**{name: value for name, value in arguments.items() if name not in inputs})
        first, *others = inputs
        return layer(arguments[first], **{name: arguments[name] for name in others})

    return call


def _extended(valid: Callable, **more: object) -> Callable[[np.random.Generator], Arguments]:
    return lambda rng: {**valid(rng), **more}


TARGETS = {
    "deform_conv2d": Target(
        _conv, CONV_KINDS, lambda **arguments: _with_gradients(deform_conv2d, CONV_TENSORS, **arguments)
    ),
    "deform_conv2d in a graph": Target(_conv, CONV_KINDS, lambda **arguments: _traced(deform_conv2d, **arguments)),
    "deform_roi_pool": Target(
        _roi, ROI_KINDS, lambda **arguments: _with_gradients(deform_roi_pool, ROI_TENSORS, **arguments)
    ),
    "deform_roi_pool in a graph": Target(_roi, ROI_KINDS, lambda **arguments: _traced(deform_roi_pool, **arguments)),
    "raw convolution": Target(_raw_conv, RAW_CONV_KINDS, _raw("dcnv2_deform_conv2d"), True),
    "raw gradient of convolution": Target(
        _raw_conv_grad, {**RAW_CONV_KINDS, "dy": "tensor"}, _raw("dcnv2_deform_conv2d_grad"), True
    ),
    "raw pooling": Target(_raw_roi, RAW_ROI_KINDS, _raw("dcnv2_deform_roi_pool"), True),
    "raw gradient of pooling": Target(
        _raw_roi_grad, {**RAW_ROI_KINDS, "dy": "tensor"}, _raw("dcnv2_deform_roi_pool_grad"), True
    ),
    "DeformableConv2D": Target(
        _conv_layer, CONV_LAYER_KINDS, _layer(layers.DeformableConv2D, ("inputs",)), is_layer=True
    ),
    "ModulatedDeformableConv2D": Target(
        _extended(_conv_layer, mask_scale=1.0),
        {**CONV_LAYER_KINDS, "mask_scale": "number"},
        _layer(layers.ModulatedDeformableConv2D, ("inputs",)),
        is_layer=True,
    ),
    "RoIAlign": Target(_roi_layer, ROI_LAYER_KINDS, _layer(layers.RoIAlign, ROI_LAYER_INPUTS), is_layer=True),
    "DeformableRoIPooling": Target(
        _extended(_roi_layer, gamma=0.1, hidden_units=4),
        {**ROI_LAYER_KINDS, "gamma": "number", "hidden_units": "count"},
        _layer(layers.DeformableRoIPooling, ROI_LAYER_INPUTS),
        is_layer=True,
    ),
    "ModulatedDeformableRoIPooling": Target(
        _extended(_roi_layer, gamma=0.1, hidden_units=4, mask_scale=1.0),
        {**ROI_LAYER_KINDS, "gamma": "number", "hidden_units": "count", "mask_scale": "number"},
        _layer(layers.ModulatedDeformableRoIPooling, ROI_LAYER_INPUTS),
        is_layer=True,
    ),
}
