"""Detector -> SavedModel with one signature, from this package's custom ops or from plain TensorFlow."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args

import keras
import tensorflow as tf

from tf_dcnv2._core.atomic_files import hidden_prefix
from tf_dcnv2._core.tensorflow_files import errors_of_files
from tf_dcnv2.ops import native, portable_ops

Ops = Literal["native", "portable"]

_SIGNATURE = "serving_default"
_OP_NAMESPACE = "Dcnv2"


def export_saved_model(
    detector: keras.Model, path: str | os.PathLike, ops: Ops = "native", *, overwrite: bool = False
) -> str:
    """Writes a detector as a SavedModel that needs no Python code of this package.

    The signature `serving_default` takes and gives what a call of the detector does, for images of any size and number:

        images          float32 `(B, H, W, 3)` RGB, 0..255, padded at the bottom and right
        image_sizes     float32 `(B, 2)`, height and width of each image without padding, in pixels
        ->
        boxes           float32 `(B, D, 4)` `[y1, x1, y2, x2]` in pixels of `images`
        scores          float32 `(B, D)`
        classes         int32 `(B, D)`, the data set's category ids, -1 when unused
        num_detections  int32 `(B,)`
        masks           float32 `(B, D, S, S)` in [0, 1], in the frames of the boxes; only from a `MaskRCNN`

    Only the detector is in it: whether it was trained with feature mimicking leaves no trace. The folder appears under
    its name when it is complete.

    Args:
        detector: a `FasterRCNN` or `MaskRCNN`.
        path: folder to create. TensorFlow Serving wants a version number as its last part: `"served/cells/1"`.
        ops: "native" uses the custom ops; a program that loads the model imports `tf_dcnv2` first, or without this
            package loads `op_library_path()`. "portable"
            uses TensorFlow's own ops only, which is slower and runs wherever TensorFlow does, stock TensorFlow Serving
            included.
        overwrite: replace a SavedModel that is already there.

    Returns:
        `path` as a string.

    Raises:
        ValueError: `ops` is neither of the two.
        FileExistsError: there is something at `path`, and `overwrite` is false or it is no SavedModel.
        OSError: it cannot be written, such as on a full disk.
        NativeOpsUnavailable: `ops="native"`, but the custom ops are not built; the message says what to do.

    Example:
        >>> export_saved_model(detector, "served/cells/1", ops="portable")
        >>> detections = load_exported("served/cells/1")(images, image_sizes)
    """
    if ops not in get_args(Ops):
        raise ValueError(f"ops must be one of {get_args(Ops)}. Received: ops={ops!r}")
    if ops == "native":
        # Otherwise "auto" would quietly put the plain TensorFlow implementation in the graph.
        native.load()
    target = Path(path)
    _refuse_to_lose(target, overwrite)

    def serve(images: tf.Tensor, image_sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        with portable_ops() if ops == "portable" else contextlib.nullcontext():
            return detector(images, image_sizes, training=False)

    archive = keras.export.ExportArchive()
    archive.track(detector)
    archive.add_endpoint(
        _SIGNATURE,
        serve,
        input_signature=[
            tf.TensorSpec([None, None, None, 3], tf.float32, name="images"),
            tf.TensorSpec([None, 2], tf.float32, name="image_sizes"),
        ],
    )
    with errors_of_files(target), _appearing_when_complete(target) as staged:
        # TensorFlow wants to be told of every op namespace but its own that a SavedModel may contain.
        options = tf.saved_model.SaveOptions(namespace_whitelist=[_OP_NAMESPACE])
        archive.write_out(staged, options=options, verbose=False)
    return str(target)


def load_exported(path: str | os.PathLike) -> Callable[..., dict[str, tf.Tensor]]:
    """Loads what `export_saved_model` wrote, with the custom ops when they are there.

    Returns:
        A function of `images` and `image_sizes`, giving a dictionary; see `export_saved_model`.

    Raises:
        FileNotFoundError: `path` is no SavedModel.
    """
    if not tf.saved_model.contains_saved_model(os.fspath(path)):
        raise FileNotFoundError(f"{os.fspath(path)} is not a SavedModel: it has no saved_model.pb.")
    model = tf.saved_model.load(os.fspath(path))

    def detect(images: Any, image_sizes: Any) -> dict[str, tf.Tensor]:
        images = tf.convert_to_tensor(images, tf.float32)
        # Looked up in the model here, which keeps it: a signature's variables live as long as the model does.
        signature = model.signatures[_SIGNATURE]
        return signature(images=images, image_sizes=tf.convert_to_tensor(image_sizes, tf.float32))

    return detect


def op_library_path() -> str:
    """The shared library with the custom ops, for `tf.load_op_library` or a TensorFlow Serving linked with it."""
    return native.library_path()


def _refuse_to_lose(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise FileExistsError(f"{target} already exists. To replace it: overwrite=True, or --overwrite.")
    if not tf.saved_model.contains_saved_model(str(target)):
        raise FileExistsError(f"{target} is not a SavedModel, so it is not overwritten. Choose another folder.")


@contextlib.contextmanager
def _appearing_when_complete(target: Path) -> Iterator[str]:
    """A folder to write to, renamed to `target` if all goes well and removed if not."""
    target.parent.mkdir(parents=True, exist_ok=True)
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
