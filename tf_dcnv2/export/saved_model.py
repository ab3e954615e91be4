"""Detector -> SavedModel, from this package's custom ops or from plain TensorFlow."""

import contextlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2._core.atomic_files import hidden_prefix
from tf_dcnv2._core.output_files import ensure_creatable
from tf_dcnv2._core.tensorflow_files import errors_of_files
from tf_dcnv2.export.assets import write_assets
from tf_dcnv2.export.serving_graph import ServingGraph
from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.ops import native, portable_ops

Ops = Literal["native", "portable"]

# The inputs of each signature, in their order.
_SIGNATURES = {
    "serving_default": (
        tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"),
        tf.TensorSpec([None, 2], tf.int32, name="image_sizes"),
    ),
    "serving_bytes": (tf.TensorSpec([None], tf.string, name="image_bytes"),),
    "network": (
        tf.TensorSpec([None, None, None, 3], tf.float32, name="images"),
        tf.TensorSpec([None, 2], tf.float32, name="image_sizes"),
    ),
}
_OP_NAMESPACE = "Dcnv2"


def export_saved_model(
    detector: FasterRCNN,
    path: str | os.PathLike,
    ops: Ops = "native",
    *,
    labels: Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> str:
    """Writes a detector as a SavedModel that needs no Python code of this package.

    It has three signatures. `serving_default` takes images of any size, as `detector.detect` does: they are resized
    and padded in the graph, and boxes are in pixels of what was given.

        images          uint8 `(B, H, W, 3)`, RGB; smaller images of a batch are at the top left
        image_sizes     int32 `(B, 2)`, height and width of each image in pixels

    `serving_bytes` takes files:

        image_bytes     string `(B,)`, JPEG, PNG, BMP or GIF files of 8 bits a sample, each of its own size; JPEGs are
                        turned as their EXIF orientation says

    `network` takes what a call of the detector does, images that are resized and padded already:

        images          float32 `(B, H, W, 3)`, RGB in 0..255, padded at the bottom and right
        image_sizes     float32 `(B, 2)`, height and width of each image without padding, in pixels

    All of them give

        boxes           float32 `(B, D, 4)` `[y1, x1, y2, x2]` in pixels of the given images
        scores          float32 `(B, D)`
        classes         int32 `(B, D)`, the data set's category ids, -1 when unused
        num_detections  int32 `(B,)`
        masks           float32 `(B, D, S, S)` in [0, 1], in the frames of the boxes; only from a `MaskRCNN`

    Only the detector is in it: whether it was trained with feature mimicking leaves no trace. Its folder `assets.extra`
    holds requests with which TensorFlow Serving warms it up, and `labels.json`. The folder appears under its name when
    it is complete.

    Args:
        detector: a `FasterRCNN` or `MaskRCNN`.
        path: folder to create. TensorFlow Serving wants a version number as its last part: `"served/cells/1"`.
        ops: "native" uses the custom ops; a program that loads the model imports `tf_dcnv2` first, or without this
            package loads `op_library_path()`. "portable"
            uses TensorFlow's own ops only, which is slower and runs wherever TensorFlow does, stock TensorFlow Serving
            included.
        labels: names of the classes by category id, for `labels.json`.
        overwrite: replace a SavedModel that is already there.

    Returns:
        `path` as a string.

    Raises:
        ValueError: `ops` is neither of the two, or `labels` names a class that the detector does not have.
        FileExistsError: there is something at `path`, and `overwrite` is false or it is no SavedModel.
        OSError: it cannot be written, such as on a full disk.
        NativeOpsUnavailable: `ops="native"`, but the custom ops are not built; the message says what to do.

    Warns:
        UserWarning: the detector was never trained.

    Example:
        >>> export_saved_model(detector, "served/cells/1", ops="portable", labels={1: "RBC", 2: "WBC"})
        >>> detections = load_exported("served/cells/1", "serving_bytes")([tf.io.read_file("cells.jpg")])
    """
    if ops not in get_args(Ops):
        raise ValueError(f"ops must be one of {get_args(Ops)}. Received: ops={ops!r}")
    if unknown := set(labels or {}) - set(detector.category_ids):
        raise ValueError(
            f"labels must be names by category id, of {list(detector.category_ids)}. Received: {sorted(unknown)}"
        )
    if ops == "native":
        # Otherwise "auto" would quietly put the plain TensorFlow implementation in the graph.
        native.load()
    target = Path(path)
    _refuse_to_lose(target, overwrite)
    ensure_creatable(target)
    _warn_of_untrained(detector)

    @tf.function(input_signature=_SIGNATURES["network"])
    def network(images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        with portable_ops() if ops == "portable" else contextlib.nullcontext():
            return detector(images, image_sizes, training=False)

    graph = ServingGraph(
        network, short_side=detector.short_side, max_side=detector.max_side, resizing=detector.resizing
    )
    archive = keras.export.ExportArchive()
    archive.track(detector)
    # Each calls the one function `network`, which is in the model once.
    for name, function in {
        "serving_default": graph.of_images,
        "serving_bytes": graph.of_files,
        "network": lambda images, image_sizes: network(images, image_sizes),
    }.items():
        archive.add_endpoint(name, function, input_signature=list(_SIGNATURES[name]))
    with errors_of_files(target), _appearing_when_complete(target) as staged:
        # TensorFlow wants to be told of every op namespace but its own that a SavedModel may contain.
        options = tf.saved_model.SaveOptions(namespace_whitelist=[_OP_NAMESPACE])
        archive.write_out(staged, options=options, verbose=False)
        write_assets(Path(staged), _warm_up_requests(detector), labels or {})
    return str(target)


def load_exported(path: str | os.PathLike, signature: str = "serving_default") -> Callable[..., dict[str, tf.Tensor]]:
    """Loads what `export_saved_model` wrote, with the custom ops when they are there.

    Args:
        path: the SavedModel's folder.
        signature: "serving_default", "serving_bytes" or "network".

    Returns:
        A function of the signature's inputs, giving a dictionary; see `export_saved_model`.

    Raises:
        FileNotFoundError: `path` is no SavedModel.
        ValueError: it has no such signature.
    """
    if not tf.saved_model.contains_saved_model(os.fspath(path)):
        raise FileNotFoundError(f"{os.fspath(path)} is not a SavedModel: it has no saved_model.pb.")
    model = tf.saved_model.load(os.fspath(path))
    if signature not in model.signatures or signature not in _SIGNATURES:
        raise ValueError(
            f"signature must be one of those in {os.fspath(path)}: {sorted(model.signatures)}. Received: {signature!r}"
        )

    def detect(*inputs: Any, **named_inputs: Any) -> dict[str, tf.Tensor]:
        specs = {spec.name: spec for spec in _SIGNATURES[signature]}
        values = dict(zip(specs, inputs, strict=False), **named_inputs)
        # Looked up in the model here, which keeps it: a signature's variables live as long as the model does.
        function = model.signatures[signature]
        return function(**{name: tf.convert_to_tensor(value, specs[name].dtype) for name, value in values.items()})

    return detect


def op_library_path() -> str:
    """The shared library with the custom ops, for `tf.load_op_library` or a TensorFlow Serving linked with it."""
    return native.library_path()


def _refuse_to_lose(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} already exists. {_next_version(target)}To replace it: overwrite=True, or --overwrite."
        )
    if not tf.saved_model.contains_saved_model(str(target)):
        raise FileExistsError(f"{target} is not a SavedModel, so it is not overwritten. Choose another folder.")


def _next_version(target: Path) -> str:
    """What to export to where `target` is one of a model's versions, as TensorFlow Serving numbers them."""
    if not target.name.isdecimal():
        return ""
    highest = max(int(path.name) for path in target.parent.iterdir() if path.name.isdecimal())
    return f"The next version is {target.parent / str(highest + 1)}. "


def _warn_of_untrained(detector: FasterRCNN) -> None:
    # Any step of training moves them all, and any trained file that is loaded has others.
    if not np.any(keras.ops.convert_to_numpy(detector.box_head.classifier.bias)):
        warnings.warn(
            f"The detector {detector.name} was never trained: all biases of its classifier are zero. It is exported "
            "as it is.",
            stacklevel=3,
        )


def _warm_up_requests(detector: FasterRCNN) -> dict[str, dict[str, tf.Tensor]]:
    """A grey image of the size that the network gets, to each signature for clients."""
    height, width = detector.short_side, min(detector.max_side, detector.short_side * 4 // 3)
    image = tf.fill([height, width, 3], tf.constant(128, tf.uint8))
    return {
        "serving_default": {"images": image[None], "image_sizes": tf.constant([[height, width]])},
        "serving_bytes": {"image_bytes": tf.io.encode_jpeg(image)[None]},
    }


@contextlib.contextmanager
def _appearing_when_complete(target: Path) -> Iterator[str]:
    """A folder to write to, renamed to `target` if all goes well and removed if not."""
    # A hidden neighbour: on the same file system, and no version number to a TensorFlow Serving that watches.
    staging = Path(tempfile.mkdtemp(prefix=hidden_prefix(target.name), dir=target.parent))
    try:
        staged = staging / "new"
        yield str(staged)
        if target.exists():
            target.rename(staging / "old")
        staged.rename(target)
    finally:
        shutil.rmtree(staging)
