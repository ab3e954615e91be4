"""Our kernels as the measurements call them: one problem each, everything allocated before anything is timed."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.cases import BOTH, FORWARD
from benchmarks.gpu.cases import BACKWARD, INPUT_GRADIENT, KERNEL_GRADIENT, OFFSET_GRADIENTS

_NOT_WRITTEN = float("nan")
_ALIGNMENT = 256


@dataclasses.dataclass(frozen=True)
class KernelOptions:
    """`dcnv2_options` of cc/c_api/c_api.h; what is 0 the library chooses by itself.

    Attributes:
        allow_tf32: factors of float32 products may be rounded to TF32.
        deterministic: gradients of maps are summed in a fixed order.
        tile: 1 large, 2 medium, 3 small; forward, 4 wide.
        slab_steps: steps along the depth of the forward product that the channels of a slab fill; 2 unless told.
        blocks_per_multiprocessor: at most so many.
    """

    allow_tf32: bool = False
    deterministic: bool = False
    tile: int = 0
    slab_steps: int = 0
    blocks_per_multiprocessor: int = 0


class Kernels(Protocol):
    """The launchers of cc/lib, on tensors of the device; outputs are written in place, nothing is waited for.

    Tensors are laid out as in `tf_dcnv2.ops`. Workspaces are 1-D uint8 tensors of the sizes asked for. A gradient of a
    convolution that is None is not computed.
    """

    def conv_forward(self, x, kernel, offset, mask, y, workspace, options: KernelOptions) -> None: ...

    def conv_workspace(self, x_shape: Sequence[int], kernel: Tensor, offset: Tensor, options: KernelOptions) -> int:
        """Bytes that both passes can do with for maps of `x_shape`; allocates nothing."""

    def conv_backward(
        self, x, kernel, offset, mask, dy, gradients: Sequence[Tensor | None], workspace, options: KernelOptions
    ) -> None: ...

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, *, spatial_scale, gamma) -> None: ...

    def roi_workspace(self, features, boxes, options: KernelOptions) -> int: ...

    def roi_backward(
        self,
        *tensors: Tensor | Sequence[Tensor | None] | None,
        options: KernelOptions,
        spatial_scale: float,
        gamma: float,
    ) -> None:
        """`tensors`: features, boxes, box_indices, levels, offset, mask, dy, the three gradients, and the workspace."""


class ConvCall:
    """A deformable convolution with its outputs, gradients and workspace."""

    def __init__(self, kernels: Kernels, data, options: KernelOptions):
        """`data` has x, kernel, offset, mask and dy."""
        self._kernels = kernels
        self._inputs = (data.x, data.kernel, data.offset, data.mask)
        self._dy = data.dy
        self._options = options
        self._y = torch.empty_like(data.dy)
        self._gradients = [torch.empty_like(tensor) for tensor in self._inputs]
        self.workspace = _workspace(
            kernels.conv_workspace(data.x.shape, data.kernel, data.offset, options), data.x.device
        )
        self.reset()

    def reset(self) -> None:
        """Fills what the kernels write with NaN."""
        for tensor in (self._y, *self._gradients):
            tensor.fill_(_NOT_WRITTEN)

    @property
    def runs(self) -> Mapping[str, Callable[[], list[Tensor]]]:
        """By work, a function that queues it and returns its results."""
        return {
            FORWARD: self._forward,
            INPUT_GRADIENT: lambda: self._backward(0),
            KERNEL_GRADIENT: lambda: self._backward(1),
            OFFSET_GRADIENTS: lambda: self._backward(2, 3),
            BOTH: lambda: self._forward() + self._backward(0, 1, 2, 3),
        }

    def _forward(self) -> list[Tensor]:
        self._kernels.conv_forward(*self._inputs, self._y, self.workspace, self._options)
        return [self._y]

    def _backward(self, *wanted: int) -> list[Tensor]:
        """Of the gradients of x, kernel, offset and mask those with the indices `wanted`."""
        gradients = [gradient if index in wanted else None for index, gradient in enumerate(self._gradients)]
        self._kernels.conv_backward(*self._inputs, self._dy, gradients, self.workspace, self._options)
        return [self._gradients[index] for index in wanted]


class RoICall:
    """RoI pooling with its outputs, gradients and workspace; offset and mask are None for plain RoIAlign."""

    def __init__(
        self, kernels: Kernels, data, deformation: Sequence[Tensor | None], options: KernelOptions, **geometry: float
    ):
        """`data` has features, boxes, box_indices and dy; `geometry` is `spatial_scale` and `gamma`."""
        self._kernels = kernels
        one_level = torch.zeros_like(data.box_indices)
        self._inputs = (data.features, data.boxes, data.box_indices, one_level, *deformation)
        self._dy = data.dy
        self._options = options
        self._geometry = geometry
        self._y = torch.empty_like(data.dy)
        wanted = (data.features, *deformation)
        self._gradients = [None if tensor is None else torch.empty_like(tensor) for tensor in wanted]
        self.workspace = _workspace(kernels.roi_workspace(data.features, data.boxes, options), data.features.device)
        self.reset()

    def reset(self) -> None:
        """Fills what the kernels write with NaN."""
        for tensor in (self._y, *self._results):
            tensor.fill_(_NOT_WRITTEN)

    @property
    def runs(self) -> Mapping[str, Callable[[], list[Tensor]]]:
        """By work, a function that queues it and returns its results."""
        return {
            FORWARD: self._forward,
            BACKWARD: self._backward,
            BOTH: lambda: self._forward() + self._backward(),
        }

    def _forward(self) -> list[Tensor]:
        self._kernels.roi_forward(*self._inputs, self._y, **self._geometry)
        return [self._y]

    def _backward(self) -> list[Tensor]:
        self._kernels.roi_backward(
            *self._inputs, self._dy, self._gradients, self.workspace, options=self._options, **self._geometry
        )
        return self._results

    @property
    def _results(self) -> list[Tensor]:
        return [gradient for gradient in self._gradients if gradient is not None]


def _workspace(size: int, device: torch.device) -> Tensor:
    """Aligned bytes that make NaN of every type: results must not depend on what was there."""
    memory = torch.full((size + _ALIGNMENT,), 0xFF, dtype=torch.uint8, device=device)
    first = -memory.data_ptr() % _ALIGNMENT
    return memory[first : first + size]
