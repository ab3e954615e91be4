"""The library that the tests of the kernels use too, on PyTorch's tensors."""

import sys
from collections.abc import Sequence
from ctypes import byref, c_void_p

import torch
from torch import Tensor

from benchmarks.gpu import ROOT
from benchmarks.gpu.cases import BINS, KERNEL_SIZE, SAMPLES

sys.path += [str(ROOT / "tests" / "gpu"), str(ROOT / "cc" / "tools")]

import c_api  # noqa: E402


class KernelError(RuntimeError):
    """A launch failed; the message is CUDA's."""


class Library:
    """`Kernels` by way of tests/gpu/c_api.h; `kind` is "cuda" or "emulated".

    With `deterministic` gradients of maps are summed in a fixed order.
    """

    def __init__(self, kind: str, deterministic: bool = False):
        self._library = c_api.load(kind)
        self._deterministic = deterministic
        self._on_gpu = kind == "cuda"

    def conv_forward(self, x, kernel, offset, mask, y, *, allow_tf32: bool) -> None:
        inputs = c_api.ConvArraysC(*map(_address, (x, kernel, offset, mask)))
        shape = _conv_shape(x.shape, kernel.shape[-1])
        options = c_api.OptionsC(allow_tf32, self._deterministic)
        self._call("conv_forward", x.dtype, shape, inputs, y, options)

    def conv_workspace(self, x_shape: Sequence[int], out_channels: int, dtype: torch.dtype, allow_tf32: bool) -> int:
        options = c_api.OptionsC(allow_tf32, self._deterministic)
        shape = _conv_shape(x_shape, out_channels)
        return self._library.dcnv2_conv_backward_workspace_gpu(_code(dtype), byref(shape), byref(options))

    def conv_backward(
        self, x, kernel, offset, mask, dy, gradients: Sequence[Tensor], workspace: Tensor, *, allow_tf32: bool
    ) -> None:
        inputs = c_api.ConvArraysC(*map(_address, (x, kernel, offset, mask)))
        outputs = c_api.ConvArraysC(*map(_address, gradients))
        shape = _conv_shape(x.shape, kernel.shape[-1])
        options = c_api.OptionsC(allow_tf32, self._deterministic)
        self._call("conv_backward", x.dtype, shape, inputs, dy, outputs, workspace, options)

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, *, spatial_scale, gamma) -> None:
        problem = _roi_problem(features, boxes, spatial_scale, gamma)
        inputs = _roi_inputs(features, boxes, box_indices, levels, offset, mask)
        self._call("roi_forward", features.dtype, problem, inputs, y)

    def roi_workspace(self, features: Tensor, boxes: Tensor) -> int:
        problem = _roi_problem(features, boxes, 1.0, 1.0)
        options = c_api.OptionsC(True, self._deterministic)
        return self._library.dcnv2_roi_backward_workspace_gpu(_code(features.dtype), byref(problem), byref(options))

    def roi_backward(
        self, features, boxes, box_indices, levels, offset, mask, dy, gradients, workspace, *, spatial_scale, gamma
    ) -> None:
        problem = _roi_problem(features, boxes, spatial_scale, gamma)
        inputs = _roi_inputs(features, boxes, box_indices, levels, offset, mask)
        dfeatures, doffset, dmask = gradients
        outputs = c_api.RoiGradientsC(_addresses(dfeatures), _address(doffset), _address(dmask))
        options = c_api.OptionsC(True, self._deterministic)
        self._call("roi_backward", features.dtype, problem, inputs, dy, outputs, workspace, options)

    def _call(self, name: str, dtype: torch.dtype, *arguments) -> None:
        """Queues work on PyTorch's stream; tensors are given by their addresses, and structures by theirs."""
        stream = torch.cuda.current_stream().cuda_stream if self._on_gpu else None
        pointers = [
            c_void_p(_address(argument)) if isinstance(argument, Tensor) else byref(argument) for argument in arguments
        ]
        error = getattr(self._library, f"dcnv2_{name}_gpu")(_code(dtype), *pointers, c_void_p(stream))
        if error:
            raise KernelError(f"{name}: {self._library.dcnv2_message(error).decode()}")


def _code(dtype: torch.dtype) -> int:
    return c_api.STORAGES[str(dtype).removeprefix("torch.")].code


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _addresses(tensor: Tensor):
    return (c_void_p * 1)(tensor.data_ptr())


def _conv_shape(x_shape: Sequence[int], out_channels: int):
    kernel_shape = (KERNEL_SIZE, KERNEL_SIZE, x_shape[-1], out_channels)
    return c_api.ConvGeometry(tuple(x_shape), kernel_shape).as_c()


def _roi_problem(features: Tensor, boxes: Tensor, spatial_scale: float, gamma: float):
    batch, height, width, channels = features.shape
    return c_api.RoiGeometry(
        *(batch, channels, len(boxes), ((height, width),), (spatial_scale,), (BINS, BINS)),
        sampling_ratio=SAMPLES,
        gamma=gamma,
    ).as_c()


def _roi_inputs(features, boxes, box_indices, levels, offset, mask):
    return c_api.RoiArraysC(_addresses(features), *map(_address, (boxes, box_indices, levels, offset, mask)))
