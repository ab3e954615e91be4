"""The C interface of the kernels (c_api.h) for ctypes, and the problems that its functions solve.

library = load("cuda")
shape, arrays = geometry.as_c(), ConvArraysC(x, kernel, offset, mask)
error = library.dcnv2_conv_forward_gpu(
    code, byref(shape), byref(arrays), y, None, byref(OptionsC(True, False)), stream
)
"""

import ctypes
import dataclasses
from ctypes import POINTER, Structure, c_double, c_int32, c_int64, c_void_p
from typing import NamedTuple

import gpu_library
import numpy as np


def load(device: str) -> ctypes.CDLL:
    """The library for "cuda", "cuda-checked" or a device of gpu_library.py, compiled where it is out of date."""
    library = ctypes.CDLL(str(gpu_library.build("cuda" if device == "cuda-checked" else device)))
    library.dcnv2_message.restype = ctypes.c_char_p
    for name in ("conv_forward", "conv_backward", "roi_backward"):
        getattr(library, f"dcnv2_{name}_workspace_gpu").restype = c_int64
    return library


class Storage(NamedTuple):
    """How numbers of one type are stored, and computed with."""

    code: int
    stored: np.dtype
    compute: np.dtype
    rounding: float  # the largest relative error of a rounded number


STORAGES = {
    "float32": Storage(0, np.dtype(np.float32), np.dtype(np.float32), 2.0**-24),
    "float64": Storage(1, np.dtype(np.float64), np.dtype(np.float64), 2.0**-53),
    "bfloat16": Storage(2, np.dtype(np.uint16), np.dtype(np.float32), 2.0**-8),
    "float16": Storage(3, np.dtype(np.float16), np.dtype(np.float32), 2.0**-11),
}


class OptionsC(Structure):
    _fields_ = [
        *((name, c_int32) for name in ("allow_tf32", "deterministic")),
        *((name, c_int32) for name in ("tile", "slab_steps", "blocks_per_multiprocessor")),
    ]


_CONV_SIZES = (
    "batch in_height in_width in_channels out_height out_width out_channels kernel_height kernel_width groups "
    "deformable_groups stride_height stride_width dilation_height dilation_width padding_above padding_left"
)


class ConvShapeC(Structure):
    _fields_ = [(name, c_int64) for name in _CONV_SIZES.split()]


class ConvArraysC(Structure):
    _fields_ = [(name, c_void_p) for name in ("x", "kernel", "offset", "mask")]


class RoiProblemC(Structure):
    _fields_ = [
        *((name, c_int64) for name in ["batch", "channels", "rois", "levels"]),
        *((name, c_int64) for name in ["pooled_height", "pooled_width", "sampling_ratio"]),
        ("mxnet_convention", c_int32),
        ("gamma", c_double),
        *((name, POINTER(c_int32)) for name in ("heights", "widths")),
        ("spatial_scales", POINTER(c_double)),
    ]


class RoiArraysC(Structure):
    _fields_ = [
        ("features", POINTER(c_void_p)),
        *((name, c_void_p) for name in ("boxes", "box_indices", "levels", "offset", "mask")),
    ]


class RoiGradientsC(Structure):
    _fields_ = [("features", POINTER(c_void_p)), ("offset", c_void_p), ("mask", c_void_p)]


@dataclasses.dataclass(frozen=True)
class ConvGeometry:
    """A convolution: x (B, H, W, C), kernel (kh, kw, C / groups, O). The padding is (above, below), (left, right)."""

    x_shape: tuple[int, int, int, int]
    kernel_shape: tuple[int, int, int, int]
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
    deformable_groups: int = 1

    @property
    def groups(self) -> int:
        return self.x_shape[3] // self.kernel_shape[2]

    @property
    def out_size(self) -> tuple[int, int]:
        windows = zip(self.x_shape[1:3], self.kernel_shape, self.strides, self.dilation, self.padding, strict=False)
        return tuple((size + sum(p) - (k - 1) * d - 1) // s + 1 for size, k, s, d, p in windows)

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        return (self.x_shape[0], *self.out_size, self.kernel_shape[3])

    @property
    def mask_shape(self) -> tuple[int, ...]:
        taps = self.kernel_shape[0] * self.kernel_shape[1]
        return (self.x_shape[0], *self.out_size, self.deformable_groups, taps)

    @property
    def offset_shape(self) -> tuple[int, ...]:
        return (*self.mask_shape, 2)

    def as_c(self) -> ConvShapeC:
        (above, _), (left, _) = self.padding
        sizes = [*self.x_shape, *self.out_size, self.kernel_shape[3], *self.kernel_shape[:2]]
        return ConvShapeC(*sizes, self.groups, self.deformable_groups, *self.strides, *self.dilation, above, left)


@dataclasses.dataclass(frozen=True)
class RoiGeometry:
    """A pooling of `rois` RoIs from levels of (height, width)."""

    batch: int
    channels: int
    rois: int
    sizes: tuple[tuple[int, int], ...]
    spatial_scales: tuple[float, ...]
    pooled: tuple[int, int]
    sampling_ratio: int = 2
    mxnet: bool = False
    gamma: float = 0.1

    @property
    def feature_shapes(self) -> list[tuple[int, ...]]:
        return [(self.batch, *size, self.channels) for size in self.sizes]

    @property
    def y_shape(self) -> tuple[int, ...]:
        return (self.rois, *self.pooled, self.channels)

    def as_c(self) -> RoiProblemC:
        count = len(self.sizes)
        heights, widths = zip(*self.sizes, strict=True)
        return RoiProblemC(
            *(self.batch, self.channels, self.rois, count, *self.pooled, self.sampling_ratio, self.mxnet, self.gamma),
            *((c_int32 * count)(*heights), (c_int32 * count)(*widths), (c_double * count)(*self.spatial_scales)),
        )
