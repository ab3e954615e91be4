"""Loads the custom op library, wraps its ops and registers their gradients.

This module is the only place that loads the library. The wrappers take normalised arguments; the public functions are
`tf_dcnv2.ops.deform_conv2d` and `tf_dcnv2.ops.deform_roi_pool`.
"""

import functools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import tensorflow as tf

from tf_dcnv2.ops.roi_grid import RoiGrid
from tf_dcnv2.ops.window import Window

_LIBRARY = Path(__file__).with_name("_dcnv2_ops.so")
_BUILD_INFO = _LIBRARY.with_name("_build_info.json")
_REBUILD = (
    "Reinstall tf-dcnv2 in the environment that runs it, for example with "
    "`pip install --force-reinstall --no-deps --no-build-isolation <the source directory>`; the composite ops "
    '(implementation="composite") work meanwhile.'
)
_REBUILD_WITH_CUDA = (
    "TensorFlow sees a GPU, but the custom ops of tf-dcnv2 are built for the CPU only: they compute there, and copy. "
    "Install NVIDIA's CUDA toolkit and rebuild them, for example with `DCNV2_CUDA=1 pip install --force-reinstall "
    "--no-deps --no-build-isolation <the source directory>`; or use the composite ops "
    '(implementation="composite"), which run on any device.'
)


class NativeOpsUnavailable(RuntimeError):
    """The custom op library is missing or does not fit the TensorFlow that is running."""


def library_path() -> str:
    """Path of the op library, whether or not it exists."""
    return str(_LIBRARY)


def build_info() -> dict[str, Any]:
    """What the library was built with, as setup.py and Bazel write it; empty where nobody has.

    "tensorflow" is a version. "cuda" is None or {"version": "13.0", "architectures": [75, 80, 90], "ptx": 90}.
    """
    return json.loads(_BUILD_INFO.read_text()) if _BUILD_INFO.exists() else {}


def is_built() -> bool:
    """Whether the package was installed with custom ops, which `DCNV2_NATIVE=0` leaves out."""
    return _LIBRARY.exists()


def is_available() -> bool:
    """Whether the custom ops can be used here."""
    try:
        load()
    except NativeOpsUnavailable:
        return False
    return True


def load() -> ModuleType:
    """Loads the op library once and returns the module with its generated Python functions.

    Raises:
        NativeOpsUnavailable: the library is missing or was built for another TensorFlow; the message says which, and
            what to do.
    """
    outcome = _load_once()
    if isinstance(outcome, str):
        raise NativeOpsUnavailable(outcome)
    return outcome


@functools.cache
def _load_once() -> ModuleType | str:
    """The module, or the reason why there is none. Both are remembered: a failure does not get better by itself."""
    if not is_built():
        return f"The custom ops of tf-dcnv2 are not built: there is no {_LIBRARY}. {_REBUILD}"
    info = build_info()
    built_for = info.get("tensorflow", "an unknown version")
    mismatch = (
        f"The custom ops of tf-dcnv2 were built for TensorFlow {built_for}; TensorFlow {tf.__version__} is running. "
    )
    # Checked before the library is opened, where a mismatch shows as an undefined symbol or as a crash.
    if _release(built_for) != _release(tf.__version__):
        return mismatch + _REBUILD
    try:
        library = tf.load_op_library(str(_LIBRARY))
    except (tf.errors.OpError, OSError) as error:
        return f"{mismatch}{_REBUILD} Loading {_LIBRARY} failed: {error}"
    if not info.get("cuda") and tf.config.get_visible_devices("GPU"):
        warnings.warn(_REBUILD_WITH_CUDA, RuntimeWarning, stacklevel=2)
    return library


def _release(version: str) -> list[str]:
    """Major and minor version: patch releases keep the binary interface."""
    return version.split(".")[:2]


def deform_conv2d(
    x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor, mask: tf.Tensor | None, window: Window
) -> tf.Tensor:
    """The op `Dcnv2>DeformConv2D`; see its documentation in cc/ops/deform_conv2d_ops.cc.

    Args:
        x: `(B, H, W, C)`, float16, bfloat16, float32 or float64.
        kernel: `(kh, kw, C // groups, O)`, type of `x`.
        offset: `(B, Ho, Wo, G*K*2)`, float32, or float64 with a float64 `x`.
        mask: `(B, Ho, Wo, G*K)`, type of `offset`, or `None`.
        window: how the kernel moves over `x`; G is its `deformable_groups`.

    Returns:
        `(B, Ho, Wo, O)`, type of `x`.
    """
    return load().dcnv2_deform_conv2d(
        x, kernel, offset, _or_empty(mask, offset), use_mask=mask is not None, **window.attributes()
    )


def deform_roi_pool(
    features: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    box_indices: tf.Tensor,
    levels: tf.Tensor,
    offset: tf.Tensor | None,
    mask: tf.Tensor | None,
    grid: RoiGrid,
) -> tf.Tensor:
    """The op `Dcnv2>DeformRoiPool`; see its documentation in cc/ops/deform_roi_pool_ops.cc.

    Args:
        features: one `(B, H, W, C)` per level, float16, bfloat16, float32 or float64.
        boxes: `(N, 4)`, `[y1, x1, y2, x2]` in pixels of the network image, float32, or float64 with float64
            features.
        box_indices: int32 `(N,)`, image of each RoI.
        levels: int32 `(N,)`, index into `features`.
        offset: `(N, Ph, Pw, 2)`, type of `boxes`, or `None`.
        mask: `(N, Ph, Pw)`, type of `boxes`, or `None`.
        grid: the Ph x Pw bins of an RoI, with one scale per level.

    Returns:
        `(N, Ph, Pw, C)`, type of the features.
    """
    # Kernels of all devices read these on the host; from a GPU's memory they would have to wait for them.
    with tf.device("/CPU:0"):
        spatial_scales = tf.constant(grid.spatial_scales, tf.float64)
        gamma = tf.constant(grid.gamma, tf.float64)
    return load().dcnv2_deform_roi_pool(
        features,
        boxes,
        box_indices,
        levels,
        _or_empty(offset, boxes),
        _or_empty(mask, boxes),
        spatial_scales,
        gamma,
        use_offset=offset is not None,
        use_mask=mask is not None,
        **grid.attributes(),
    )


def _or_empty(tensor: tf.Tensor | None, like: tf.Tensor) -> tf.Tensor:
    return tf.zeros([0], tf.convert_to_tensor(like).dtype) if tensor is None else tensor


@tf.RegisterGradient("Dcnv2>DeformConv2D")
def _deform_conv2d_gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor | None]:
    use_mask = op.get_attr("use_mask")
    window = Window.from_op(op)
    *gradients, dmask = load().dcnv2_deform_conv2d_grad(*op.inputs, dy, use_mask=use_mask, **window.attributes())
    return [*gradients, dmask if use_mask else None]


@tf.RegisterGradient("Dcnv2>DeformRoiPool")
def _deform_roi_pool_gradient(op: tf.Operation, dy: tf.Tensor) -> list[tf.Tensor | None]:
    use_offset, use_mask = op.get_attr("use_offset"), op.get_attr("use_mask")
    levels = op.get_attr("L")
    features, rois = op.inputs[:levels], op.inputs[levels:]
    grid = RoiGrid.from_op(op, *rois[-2:])
    dfeatures, doffset, dmask = load().dcnv2_deform_roi_pool_grad(
        features, *rois, dy, use_offset=use_offset, use_mask=use_mask, **grid.attributes()
    )
    # Without gradient: boxes, box_indices and levels in between, spatial_scales and gamma at the end.
    return [*dfeatures, None, None, None, doffset if use_offset else None, dmask if use_mask else None, None, None]
