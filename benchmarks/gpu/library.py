"""The library that the tests of the kernels use too, on PyTorch's tensors."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from ctypes import byref, c_void_p

import torch
from torch import Tensor

from benchmarks import ROOT
from benchmarks.cases import TAPS
from benchmarks.gpu.cases import BINS, SAMPLES
from benchmarks.gpu.kernels import KernelOptions

sys.path += [str(ROOT / "cc" / "c_api"), str(ROOT / "tools")]

import c_api  # noqa: E402
import gpu_library  # noqa: E402


def build(kind: str) -> None:
    """Compiles what is out of date, once for all processes to come.

    Raises:
        SystemExit: the library cannot be built; the message says why.
    """
    os.environ["DCNV2_GPU_LIBRARY"] = str(gpu_library.build(kind))


class KernelError(RuntimeError):
    """A launch failed; the message is CUDA's."""


class Library:
    """`Kernels` by way of cc/c_api/c_api.h; `kind` is "cuda" or "emulated"."""

    def __init__(self, kind: str):
        self._library = c_api.load(kind)
        self._on_gpu = kind == "cuda"

    def conv_forward(self, x, kernel, offset, mask, y, workspace, options: KernelOptions) -> None:
        inputs = c_api.ConvArraysC(*map(_address, (x, kernel, offset, mask)))
        shape = _conv_shape(x.shape, kernel, offset)
        self._call("conv_forward", x.dtype, shape, inputs, y, workspace, _options(options))

    def conv_workspace(self, x_shape: Sequence[int], kernel: Tensor, offset: Tensor, options: KernelOptions) -> int:
        shape = _conv_shape(x_shape, kernel, offset)
        queries = (self._library.dcnv2_conv_forward_workspace_gpu, self._library.dcnv2_conv_backward_workspace_gpu)
        return max(query(_code(kernel.dtype), byref(shape), byref(_options(options))) for query in queries)

    def conv_backward(
        self, x, kernel, offset, mask, dy, gradients: Sequence[Tensor | None], workspace, options: KernelOptions
    ) -> None:
        shape = _conv_shape(x.shape, kernel, offset)
        inputs = c_api.ConvArraysC(*map(_address, (x, kernel, offset, mask)))
        outputs = c_api.ConvArraysC(*map(_address, gradients))
        self._call("conv_backward", x.dtype, shape, inputs, dy, outputs, workspace, _options(options))

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, *, spatial_scale, gamma) -> None:
        problem = _roi_problem(features, boxes, spatial_scale, gamma)
        inputs = _roi_inputs(features, boxes, box_indices, levels, offset, mask)
        self._call("roi_forward", features.dtype, problem, inputs, y)

    def roi_workspace(self, features: Tensor, boxes: Tensor, options: KernelOptions) -> int:
        problem = _roi_problem(features, boxes, 1.0, 1.0)
        query = self._library.dcnv2_roi_backward_workspace_gpu
        return query(_code(features.dtype), byref(problem), byref(_options(options)))

    def roi_backward(
        self, features, boxes, box_indices, levels, offset, mask, dy, gradients, workspace, *, options, **geometry
    ) -> None:
        problem = _roi_problem(features, boxes, **geometry)
        inputs = _roi_inputs(features, boxes, box_indices, levels, offset, mask)
        dfeatures, doffset, dmask = gradients
        outputs = c_api.RoiGradientsC(_addresses(dfeatures), _address(doffset), _address(dmask))
        self._call("roi_backward", features.dtype, problem, inputs, dy, outputs, workspace, _options(options))

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


def _options(options: KernelOptions):
    return c_api.OptionsC(**dataclasses.asdict(options))


def _conv_shape(x_shape: Sequence[int], kernel: Tensor, offset: Tensor):
    deformable_groups = offset.shape[-1] // (2 * TAPS)
    return c_api.ConvGeometry(tuple(x_shape), tuple(kernel.shape), deformable_groups=deformable_groups).as_c()


def _roi_problem(features: Tensor, boxes: Tensor, spatial_scale: float, gamma: float):
    batch, height, width, channels = features.shape
    return c_api.RoiGeometry(
        *(batch, channels, len(boxes), ((height, width),), (spatial_scale,), (BINS, BINS)),
        sampling_ratio=SAMPLES,
        gamma=gamma,
    ).as_c()


def _roi_inputs(features, boxes, box_indices, levels, offset, mask):
    return c_api.RoiArraysC(_addresses(features), *map(_address, (boxes, box_indices, levels, offset, mask)))
