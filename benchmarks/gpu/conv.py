"""Deformable convolution against torchvision's and against cuDNN's dense one, in all precisions by turns."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.cases import BOTH, FORWARD, KERNEL_SIZE, TAPS, ConvCase, Precision
from benchmarks.gpu import reference
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import CONV_PRECISIONS, CONV_WORKS, INPUT_GRADIENT, KERNEL_GRADIENT, OFFSET_GRADIENTS
from benchmarks.gpu.contenders import Contender, Contest, differentiated
from benchmarks.gpu.estimates import conv_estimate
from benchmarks.gpu.findings import CONV, DENSE, OURS, TORCHVISION, contender
from benchmarks.gpu.floors import Floor, Rates, conv_floor
from benchmarks.gpu.kernels import ConvCall, KernelOptions, Kernels

# Which of the reference's results a work has: y, and the gradients of x, kernel, offset and mask.
RESULTS = {
    FORWARD: (0,),
    INPUT_GRADIENT: (1,),
    KERNEL_GRADIENT: (2,),
    OFFSET_GRADIENTS: (3, 4),
    BOTH: (0, 1, 2, 3, 4),
}

_OFFSET_DEVIATION_PX = 2.0
# Offsets are odd multiples of half of this: positions are exact in float32, and none is a whole number, where bilinear
# interpolation has no gradient to compare.
_OFFSET_GRID_PX = 2.0**-10


class ConvData(NamedTuple):
    """Tensors of a `ConvCase` with G deformable groups.

    `(B, H, W, C)`, `(3, 3, C / groups, C)`, `(B, H, W, 18 G)`, `(B, H, W, 9 G)`, `(B, H, W, C)`.
    """

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
    group_channels = case.channels // case.groups
    taps = case.deformable_groups * TAPS
    steps = torch.round(normal(*grid, 2 * taps) * (_OFFSET_DEVIATION_PX / _OFFSET_GRID_PX))
    return ConvData(
        x=normal(*grid, case.channels),
        kernel=normal(KERNEL_SIZE, KERNEL_SIZE, group_channels, case.channels) / (TAPS * group_channels) ** 0.5,
        offset=(steps + 0.5) * _OFFSET_GRID_PX,
        mask=torch.rand((*grid, taps), generator=random, device=device),
        dy=normal(*grid, case.channels),
    )


def measure_case(case: ConvCase, bench: Bench) -> None:
    """Checks and measures all works on one case, and sends each measurement."""
    data = make_data(case, bench.device.name)
    candidates = {
        precision: [ours(stored, precision, bench.kernels), torchvision(stored, precision), _dense(stored, precision)]
        for precision, stored in all_stored(data, CONV_PRECISIONS).items()
    }
    expected = expected_results(data, CONV_PRECISIONS)
    for work in CONV_WORKS:
        if not bench.wants(CONV, work):
            continue
        contest = Contest(bench, CONV, work, str(case))
        for precision in CONV_PRECISIONS:
            for candidate in candidates[precision]:
                contest.admit(candidate, [expected[precision][index] for index in RESULTS[work]])
        floors = floors_of(case, CONV_PRECISIONS, work, bench.rates)
        contest.measure(floors, _estimates(case, work))


def all_stored(data: ConvData, precisions: Sequence[Precision]) -> dict[Precision, ConvData]:
    """The data in each precision's type, one copy for those that share it."""
    copies = {precision.storage: data.stored(precision) for precision in precisions}
    return {precision: copies[precision.storage] for precision in precisions}


def expected_results(data: ConvData, precisions: Sequence[Precision]) -> dict[Precision, list[Tensor]]:
    """By precision what `RESULTS` counts: output and all gradients in float64, of numbers rounded to its type."""
    stored = all_stored(data, precisions)
    results = {precision.storage: reference.deform_conv(*stored[precision]) for precision in precisions}
    return {precision: results[precision.storage] for precision in precisions}


def floors_of(case: ConvCase, precisions: Sequence[Precision], work: str, rates: Rates | None) -> dict[str, Floor]:
    """By precision's name; none where the rates are unknown."""
    return {item.name: conv_floor(case, item, work, rates) for item in precisions} if rates else {}


def ours(
    data: ConvData, precision: Precision, kernels: Kernels, who: str = OURS, options: KernelOptions | None = None
) -> Contender:
    """Our kernels, with everything that they write allocated beforehand; `options` add to those of the precision."""
    options = dataclasses.replace(options or KernelOptions(), allow_tf32=precision.allow_tf32)
    call = ConvCall(kernels, data, options)
    return Contender(who, precision, call.runs, list, call.reset, ours=True)


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
    x = data.x.permute(0, 3, 1, 2)
    kernel = data.kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    groups = x.shape[1] // kernel.shape[1]
    return Contender(
        DENSE, precision, {FORWARD: lambda: [F.conv2d(x, kernel, padding=KERNEL_SIZE // 2, groups=groups)]}
    )


def _estimates(case: ConvCase, work: str) -> dict[str, float]:
    """By contender's name, where there is one."""
    estimates = {
        contender(who, precision): conv_estimate(case, who, precision, work)
        for who in (OURS, TORCHVISION)
        for precision in CONV_PRECISIONS
    }
    return {name: seconds for name, seconds in estimates.items() if seconds is not None}
