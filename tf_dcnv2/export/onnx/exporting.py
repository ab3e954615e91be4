"""Keras model -> ONNX file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from tf_dcnv2._core.atomic_files import atomic_file
from tf_dcnv2._core.output_files import ensure_writable
from tf_dcnv2.ops import native

# A function from named inputs to named outputs, and its inputs.
_Traceable: TypeAlias = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]

# The first operator set with DeformConv, and the last one that the tests run.
_OPSETS = range(19, 23)


def export_onnx(model: keras.Model, path: str | os.PathLike, *, opset: int = 19, overwrite: bool = False) -> str:
    """Writes a detector, or another Keras model with this package's layers, as one ONNX file.

    The file has operators of ONNX' own domain only: deformable convolution is `DeformConv`, RoI pooling is `RoiAlign`,
    also the deformable one, whose bins are RoIs themselves, and suppression is `NonMaxSuppression`. There are no
    branches and no loops.

    A detector's file takes and gives what a call of the detector does, for images of any size and number:

        images          float32 `(B, H, W, 3)` RGB, 0..255, padded at the bottom and right
        image_sizes     float32 `(B, 2)`, height and width of each image without padding, in pixels
        ->
        boxes           float32 `(B, D, 4)` `[y1, x1, y2, x2]` in pixels of `images`
        scores          float32 `(B, D)`
        classes         int32 `(B, D)`, the data set's category ids, -1 when unused
        num_detections  int32 `(B,)`
        masks           float32 `(B, D, S, S)` in [0, 1], in the frames of the boxes; only from a `MaskRCNN`

    That of another model has the model's own inputs and outputs, under their names. Sizes that are not given to
    `keras.Input` stay open.

    Args:
        model: a `FasterRCNN` or `MaskRCNN`, or a functional or sequential Keras model.
        path: file to create.
        opset: version of ONNX' operator set, from 19, the first with `DeformConv`, to 22.
        overwrite: replace a file that is already there.

    Returns:
        `path` as a string.

    Raises:
        ValueError: `opset` is none of these, `model` is no such model, or it has something that ONNX has not, such as
            RoI pooling with `convention="mxnet"`; the message says what.
        FileExistsError: there is a file at `path`, and `overwrite` is false.
        OSError: it cannot be written.
        ImportError: tf2onnx is not installed; `pip install 'tf-dcnv2[onnx]'`.
        NativeOpsUnavailable: the custom ops are not built; the message says what to do.

    Example:
        >>> export_onnx(detector, "cells.onnx")
        >>> session = onnxruntime.InferenceSession("cells.onnx")
        >>> boxes, scores = session.run(["boxes", "scores"], {"images": images, "image_sizes": image_sizes})
    """
    if opset not in _OPSETS:
        raise ValueError(f"opset must be from {_OPSETS[0]} to {_OPSETS[-1]}. Received: opset={opset!r}")
    function, signature = _traceable(model)
    target = Path(path)
    ensure_writable(target)
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} already exists. To replace it: overwrite=True, or --overwrite.")
    # Their places in the graph are what is converted.
    native.load()
    try:
        from tf_dcnv2.export.onnx.conversion import convert
    except ImportError as error:
        raise ImportError(
            f"{error.name} is not installed; export to ONNX needs: pip install 'tf-dcnv2[onnx]'"
        ) from error
    with atomic_file(target) as file:
        file.write(convert(function, signature, opset).SerializeToString())
    return str(target)


def _traceable(model: Any) -> _Traceable:
    if isinstance(model, keras.Model) and getattr(model, "inputs", None):
        return _keras_model(model)
    # Not before: layers alone need nothing of what detectors are built on.
    from tf_dcnv2.models import FasterRCNN

    if isinstance(model, FasterRCNN):
        return _detector(model)
    raise ValueError(
        "model must be a FasterRCNN, a MaskRCNN, or a functional or sequential Keras model with its inputs, as "
        f"keras.Sequential([keras.Input(...), layer]) makes one of a layer. Received: a {type(model).__name__}."
    )


def _detector(detector: Any) -> _Traceable:
    def detect(images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        return detector(images, image_sizes, training=False)

    return detect, [
        tf.TensorSpec([None, None, None, 3], tf.float32, name="images"),
        tf.TensorSpec([None, 2], tf.float32, name="image_sizes"),
    ]


def _keras_model(model: Any) -> _Traceable:
    # A sequential model has neither `input` nor `output_names`.
    structure = getattr(model, "input", model.inputs[0])
    names = getattr(model, "output_names", [model.layers[-1].name])
    if len(set(names)) < len(names):  # a layer that is called twice
        names = [f"output_{number}" for number in range(len(names))]

    def call(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(keras.tree.pack_sequence_as(structure, inputs), training=False)
        return outputs if isinstance(outputs, dict) else dict(zip(names, keras.tree.flatten(outputs), strict=True))

    return call, [tf.TensorSpec(each.shape, each.dtype, name=each.name) for each in model.inputs]
