"""Deformable convolution against torchvision's and against cuDNN's dense one, in all precisions by turns."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu import reference
from benchmarks.gpu.cases import BOTH, CONV_PRECISIONS, FORWARD, KERNEL_SIZE, TAPS, WORKS, ConvCase, Precision
from benchmarks.gpu.contenders import Contender, Contest, differentiated
from benchmarks.gpu.device import Device
from benchmarks.gpu.findings import CONV, DENSE, OURS, TORCHVISION, Measurement
from benchmarks.gpu.floors import Rates, conv_floor
from benchmarks.gpu.kernels import ConvCall, Kernels

_OFFSET_DEVIATION_PX = 2.0
# Offsets are odd multiples of half of this: positions are exact in float32, and none is a whole number, where bilinear
# interpolation has no gradient to compare.
_OFFSET_GRID_PX = 2.0**-10


class ConvData(NamedTuple):
    """Tensors of a `ConvCase`: `(B, H, W, C)`, `(3, 3, C, C)`, `(B, H, W, 18)`, `(B, H, W, 9)`, `(B, H, W, C)`."""

    x: Tensor
    kernel: Tensor
    offset: Tensor
    mask: Tensor
    dy: Tensor

    def stored(self, precision: Precision) -> "ConvData":
        """With map, kernel and dy in the precision's type."""
        dtype = getattr(torch, precision.storage)
        return self._replace(x=self.x.to(dtype), kernel=self.kernel.to(dtype), dy=self.dy.to(dtype))


def make_data(case: ConvCase, device: str, seed: int = 0) -> ConvData:
    """Offsets of two pixels' deviation, a mask uniform in [0, 1), outputs with a variance of about a third."""
    random = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=device)

    grid = (case.batch, case.height, case.width)
    fan_in = TAPS * case.channels
    steps = torch.round(normal(*grid, 2 * TAPS) * (_OFFSET_DEVIATION_PX / _OFFSET_GRID_PX))
    return ConvData(
        x=normal(*grid, case.channels),
        kernel=normal(KERNEL_SIZE, KERNEL_SIZE, case.channels, case.channels) / fan_in**0.5,
        offset=(steps + 0.5) * _OFFSET_GRID_PX,
        mask=torch.rand((*grid, TAPS), generator=random, device=device),
        dy=normal(*grid, case.channels),
    )


def measure_case(
    case: ConvCase, device: Device, kernels: Kernels, rates: Rates, rounds: int
) -> tuple[list[Measurement], list[str]]:
    """Checks and measures both works on one case.

    Returns:
        The measurements, and in words what was wrong with our values.
    """
    contests = {work: Contest(work, str(case)) for work in WORKS}
    data = make_data(case, device.name)
    for storage in dict.fromkeys(precision.storage for precision in CONV_PRECISIONS):
        sharing = [precision for precision in CONV_PRECISIONS if precision.storage == storage]
        stored = data.stored(sharing[0])
        expected = reference.deform_conv(*stored)
        for precision in sharing:
            for candidate in candidates(stored, precision, kernels):
                for work in WORKS:
                    contests[work].admit(candidate, expected[: 1 if work == FORWARD else None])
    measurements = [
        Measurement(
            CONV,
            contest.measure(device, rounds),
            {precision.name: conv_floor(case, precision, work, rates) for precision in CONV_PRECISIONS},
            contest.errors,
        )
        for work, contest in contests.items()
    ]
    return measurements, [text for contest in contests.values() for text in contest.wrong]


def candidates(data: ConvData, precision: Precision, kernels: Kernels) -> list[Contender]:
    """Everybody, in one precision; `data` is stored in it."""
    return [ours(data, precision, kernels), torchvision(data, precision), _dense(data, precision)]


def ours(data: ConvData, precision: Precision, kernels: Kernels) -> Contender:
    """Our kernels, with everything that they write allocated beforehand."""
    call = ConvCall(kernels, data, precision.allow_tf32)
    return Contender(OURS, precision, {FORWARD: call.forward, BOTH: call.forward_backward}, list, ours=True)


def torchvision(data: ConvData, precision: Precision) -> Contender:
    """torchvision's op, in its own layout and with offset and mask in the type of the map, as it wants them."""
    dtype = data.x.dtype
    x, offset, mask, dy = (
        tensor.to(dtype).permute(0, 3, 1, 2).contiguous() for tensor in (data.x, data.offset, data.mask, data.dy)
    )
    leaves = [x, data.kernel.permute(3, 2, 0, 1).contiguous(), offset, mask]

    def op(x: Tensor, kernel: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d

        return deform_conv2d(x, offset, kernel, padding=KERNEL_SIZE // 2, mask=mask)

    def comparable(outputs: Sequence[Tensor]) -> list[Tensor]:
        # y, then the gradients of x, kernel, offset and mask
        return [y.permute(2, 3, 1, 0) if index == 2 else y.permute(0, 2, 3, 1) for index, y in enumerate(outputs)]

    return Contender(TORCHVISION, precision, differentiated(op, leaves, dy), comparable)


def _dense(data: ConvData, precision: Precision) -> Contender:
    """PyTorch's convolution with channels last, which is another function of as many multiplications."""
    x, dy = (tensor.permute(0, 3, 1, 2) for tensor in (data.x, data.dy))
    kernel = data.kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)

    def op(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, padding=KERNEL_SIZE // 2)

    return Contender(DENSE, precision, differentiated(op, [x, kernel], dy))
