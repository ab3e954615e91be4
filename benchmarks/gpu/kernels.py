"""Our kernels as the measurements call them: one problem each, everything allocated before anything is timed."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

_NOT_WRITTEN = float("nan")
_ALIGNMENT = 256


class Kernels(Protocol):
    """The launchers of cc/lib, on tensors of the device; outputs are written in place, nothing is waited for.

    Tensors are laid out as in `tf_dcnv2.ops`. Workspaces are 1-D uint8 tensors of the sizes asked for.
    """

    def conv_forward(self, x, kernel, offset, mask, y, *, allow_tf32: bool) -> None: ...

    def conv_workspace(self, x_shape: Sequence[int], out_channels: int, dtype: torch.dtype, allow_tf32: bool) -> int:
        """Bytes that the backward pass wants for 3x3 taps and one deformable group; allocates nothing."""

    def conv_backward(
        self, x, kernel, offset, mask, dy, gradients: Sequence[Tensor], workspace: Tensor, *, allow_tf32: bool
    ) -> None: ...

    def roi_forward(self, features, boxes, box_indices, levels, offset, mask, y, *, spatial_scale, gamma) -> None: ...

    def roi_workspace(self, features, boxes) -> int: ...

    def roi_backward(
        self, features, boxes, box_indices, levels, offset, mask, dy, gradients, workspace, *, spatial_scale, gamma
    ) -> None: ...


class ConvCall:
    """A deformable convolution with its outputs, gradients and workspace."""

    def __init__(self, kernels: Kernels, data, allow_tf32: bool):
        """`data` has x, kernel, offset, mask and dy."""
        self._kernels = kernels
        self._inputs = (data.x, data.kernel, data.offset, data.mask)
        self._dy = data.dy
        self._allow_tf32 = allow_tf32
        self._y = torch.full_like(data.dy, _NOT_WRITTEN)
        self._gradients = [torch.full_like(tensor, _NOT_WRITTEN) for tensor in self._inputs]
        self.workspace = _workspace(
            kernels.conv_workspace(data.x.shape, data.kernel.shape[-1], data.x.dtype, allow_tf32), data.x.device
        )

    def forward(self) -> list[Tensor]:
        self._kernels.conv_forward(*self._inputs, self._y, allow_tf32=self._allow_tf32)
        return [self._y]

    def forward_backward(self) -> list[Tensor]:
        self.forward()
        self._kernels.conv_backward(
            *self._inputs, self._dy, self._gradients, self.workspace, allow_tf32=self._allow_tf32
        )
        return [self._y, *self._gradients]


class RoICall:
    """RoI pooling with its outputs, gradients and workspace; offset and mask are None for plain RoIAlign."""

    def __init__(self, kernels: Kernels, data, deformation: Sequence[Tensor | None], **geometry: float):
        """`data` has features, boxes, box_indices and dy; `geometry` is `spatial_scale` and `gamma`."""
        self._kernels = kernels
        one_level = torch.zeros_like(data.box_indices)
        self._inputs = (data.features, data.boxes, data.box_indices, one_level, *deformation)
        self._dy = data.dy
        self._geometry = geometry
        self._y = torch.full_like(data.dy, _NOT_WRITTEN)
        wanted = (data.features, *deformation)
        self._gradients = [None if tensor is None else torch.full_like(tensor, _NOT_WRITTEN) for tensor in wanted]
        self.workspace = _workspace(kernels.roi_workspace(data.features, data.boxes), data.features.device)

    def forward(self) -> list[Tensor]:
        self._kernels.roi_forward(*self._inputs, self._y, **self._geometry)
        return [self._y]

    def forward_backward(self) -> list[Tensor]:
        self.forward()
        self._kernels.roi_backward(*self._inputs, self._dy, self._gradients, self.workspace, **self._geometry)
        return [self._y, *(gradient for gradient in self._gradients if gradient is not None)]


def _workspace(size: int, device: torch.device) -> Tensor:
    """Aligned bytes that make NaN of every type: results must not depend on what was there."""
    memory = torch.full((size + _ALIGNMENT,), 0xFF, dtype=torch.uint8, device=device)
    first = -memory.data_ptr() % _ALIGNMENT
    return memory[first : first + size]
