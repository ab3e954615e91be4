"""RoI pooling, plain and modulated deformable, against torchvision's roi_align."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.cases import BOTH, FORWARD, Precision
from benchmarks.gpu import reference
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import BACKWARD, BINS, ROI_PRECISIONS, ROI_WORKS, SAMPLES, RoICase
from benchmarks.gpu.contenders import Contender, Contest, differentiated
from benchmarks.gpu.findings import MODULATED_POOLING, OURS, POOLING, TORCHVISION
from benchmarks.gpu.floors import Floor, Rates, roi_floor
from benchmarks.gpu.kernels import KernelOptions, Kernels, RoICall

# Which of the reference's results a work has: y, and the gradients of features, offset and mask.
RESULTS = {FORWARD: slice(0, 1), BACKWARD: slice(1, None), BOTH: slice(None)}

_BOX_SIZE_PX = (16, 600)
_MOST_ELONGATED = 3.0
# With these grids, a bin being a multiple of an eighth of a feature pixel and positions never a whole number, all
# positions are exact in float32. Next to a whole number a rounding would decide which gradient there is.
_BINS_PER_PIXEL = 8
_START_GRID = 2.0**-6
_OFFSET_GRID = 2.0**-4
_NEVER_WHOLE = 2.0**-13
_GAMMA = 0.125

SUBJECTS = (POOLING, MODULATED_POOLING)


class RoIData(NamedTuple):
    """Features `(B, H, W, C)`, boxes `(N, 4)` in pixels and their images `(N,)`, offset, mask, dy `(N, 7, 7, C)`."""

    features: Tensor
    boxes: Tensor
    box_indices: Tensor
    offset: Tensor
    mask: Tensor
    dy: Tensor

    def stored(self, precision: Precision) -> "RoIData":
        """With features and dy in the precision's type."""
        dtype = getattr(torch, precision.storage)
        return self._replace(features=self.features.to(dtype), dy=self.dy.to(dtype))


def make_data(case: RoICase, device: str, seed: int = 0) -> RoIData:
    """Boxes with log-uniform sizes and aspect ratios, their corners anywhere within the image."""
    random = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, device=device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=random, device=device)

    rois = case.all_rois
    smallest, largest = map(math.log, _BOX_SIZE_PX)
    size_px = torch.exp(smallest + (largest - smallest) * uniform(rois, 1))
    elongation = torch.exp((uniform(rois, 1) - 0.5) * math.log(_MOST_ELONGATED))
    sides_px = torch.cat([size_px * elongation, size_px / elongation], dim=1)
    eighths = torch.round(sides_px * _BINS_PER_PIXEL / (BINS * case.stride)).clamp(min=1)
    sides = eighths * (BINS / _BINS_PER_PIXEL)
    extent = torch.tensor([case.height, case.width], device=device)
    start = torch.floor(uniform(rois, 2) * extent / _START_GRID) * _START_GRID + _NEVER_WHOLE
    corner = (start + 0.5) * case.stride
    pooled = (rois, BINS, BINS)
    return RoIData(
        features=normal(case.batch, case.height, case.width, case.channels),
        boxes=torch.cat([corner, corner + sides * case.stride], dim=1),
        box_indices=torch.arange(case.batch, dtype=torch.int32, device=device).repeat_interleave(case.rois),
        offset=torch.round(normal(*pooled, 2) / _OFFSET_GRID) * _OFFSET_GRID,
        mask=uniform(*pooled),
        dy=normal(*pooled, case.channels),
    )


def measure_case(case: RoICase, bench: Bench) -> None:
    """Checks and measures all works on one case, plain and modulated, and sends each measurement."""
    data = make_data(case, bench.device.name)
    stored = {precision: data.stored(precision) for precision in ROI_PRECISIONS}
    expected = {
        (subject, precision): expected_results(subject, stored[precision], case)
        for subject in SUBJECTS
        for precision in ROI_PRECISIONS
    }
    theirs = {precision: _torchvision(stored[precision], precision, 1 / case.stride) for precision in ROI_PRECISIONS}
    for subject in SUBJECTS:
        mine = {precision: ours(subject, stored[precision], precision, bench.kernels, case) for precision in stored}
        for work in ROI_WORKS:
            if not bench.wants(subject, work):
                continue
            contest = Contest(bench, subject, work, str(case))
            for precision in ROI_PRECISIONS:
                contest.admit(mine[precision], expected[subject, precision][RESULTS[work]])
                # It pools without deformation whatever the subject.
                contest.admit(theirs[precision], expected[POOLING, precision][RESULTS[work]])
            contest.measure(_floors(case, subject, work, bench.rates), {})


def expected_results(subject: str, data: RoIData, case: RoICase) -> list[Tensor]:
    """What `RESULTS` counts, in float64."""
    return reference.roi_pool(*data[:3], *_deformation(subject, data), data.dy, **_geometry(case))


def _floors(case: RoICase, subject: str, work: str, rates: Rates | None) -> dict[str, Floor]:
    if rates is None:
        return {}
    modulated = subject == MODULATED_POOLING
    return {precision.name: roi_floor(case, precision, work, modulated, rates) for precision in ROI_PRECISIONS}


def _deformation(subject: str, data: RoIData) -> tuple[Tensor | None, Tensor | None]:
    return (data.offset, data.mask) if subject == MODULATED_POOLING else (None, None)


def _geometry(case: RoICase) -> dict[str, float]:
    """How boxes relate to features, and offsets to boxes."""
    return {"spatial_scale": 1 / case.stride, "gamma": _GAMMA}


def ours(
    subject: str,
    data: RoIData,
    precision: Precision,
    kernels: Kernels,
    case: RoICase,
    options: KernelOptions | None = None,
) -> Contender:
    """Our kernels on one of `SUBJECTS`, with everything that they write allocated beforehand."""
    call = RoICall(kernels, data, _deformation(subject, data), options or KernelOptions(), **_geometry(case))
    return Contender(OURS, precision, call.runs, list, call.reset, ours=True)


def _torchvision(data: RoIData, precision: Precision, spatial_scale: float) -> Contender:
    """torchvision's op, in its own layout and with boxes in the type of the features, as it wants them."""
    features, dy = (tensor.permute(0, 3, 1, 2).contiguous() for tensor in (data.features, data.dy))
    x_before_y = data.boxes[:, [1, 0, 3, 2]]
    rois = torch.cat([data.box_indices[:, None].float(), x_before_y], dim=1).to(features.dtype)

    def op(features: Tensor) -> Tensor:
        from torchvision.ops import roi_align

        return roi_align(features, rois, BINS, spatial_scale, SAMPLES, aligned=True)

    def comparable(outputs: Sequence[Tensor]) -> list[Tensor]:
        return [tensor.permute(0, 2, 3, 1) for tensor in outputs]

    return Contender(TORCHVISION, precision, differentiated(op, [features], dy), comparable)
