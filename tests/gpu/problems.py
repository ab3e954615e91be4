"""Random problems, what the kernels may answer to them, and how far they may be off."""

import dataclasses

import numpy as np
from c_api import STORAGES, ConvGeometry, RoiGeometry
from kernels import ConvArrays, Kernels, RoiArrays, RoiGradients, store, widen


def coordinates(rng, shape, spread):
    """Normal numbers that are multiples of 1/256, so that positions are exact in float32 and float64 alike."""
    return np.round(256 * spread * rng.standard_normal(shape)) / 256


@dataclasses.dataclass
class ConvProblem:
    """Inputs of a convolution in float64, each a number that the storage type has."""

    geometry: ConvGeometry
    storage: str
    inputs: ConvArrays
    dy: np.ndarray

    def stored(self) -> tuple[ConvArrays, np.ndarray]:
        """What a kernel gets."""
        x, kernel, dy = (store(array, self.storage) for array in (self.inputs.x, self.inputs.kernel, self.dy))
        compute = STORAGES[self.storage].compute
        offset, mask = (None if a is None else a.astype(compute) for a in (self.inputs.offset, self.inputs.mask))
        return ConvArrays(x, kernel, offset, mask), dy

    def magnitudes(self) -> ConvArrays:
        """Inputs that make of every sum the sum of its terms' magnitudes."""
        x, kernel, offset, mask = self.inputs
        return ConvArrays(np.abs(x), np.abs(kernel), offset, None if mask is None else np.abs(mask))


def conv_problem(rng, storage: str, geometry: ConvGeometry, *, modulated=True, spread=1.5) -> ConvProblem:
    def stored(shape):
        return widen(store(rng.standard_normal(shape), storage), storage)

    mask = rng.integers(0, 257, geometry.mask_shape) / 256 if modulated else None
    offset = coordinates(rng, geometry.offset_shape, spread)
    inputs = ConvArrays(stored(geometry.x_shape), stored(geometry.kernel_shape), offset, mask)
    return ConvProblem(geometry, storage, inputs, stored(geometry.y_shape))


def check_conv_values(problem: ConvProblem, cpu: Kernels, gpu: Kernels, *, tf32=False, shift=0, tuning=()) -> None:
    """Compares a kernel's values with those of the processor in float64, element by element.

    A sum may be off by a small part of the sum of its terms' magnitudes: by what rounding the factors before they are
    multiplied costs, and by what summing in float32 costs.
    """
    inputs, _ = problem.stored()
    y = gpu.conv_forward(problem.storage, problem.geometry, inputs, allow_tf32=tf32, shift=shift, tuning=tuning)

    exact = cpu.conv_forward("float64", problem.geometry, problem.inputs)
    magnitude = cpu.conv_forward("float64", problem.geometry, problem.magnitudes())
    check_stored("y", problem.storage, y, exact, _column_rounding(problem, tf32) * magnitude)


def check_conv_gradients(problem, cpu, gpu, *, tf32=False, deterministic=False, shift=0, tuning=()) -> None:
    """The same for the gradients."""
    options = {"allow_tf32": tf32, "deterministic": deterministic, "shift": shift, "tuning": tuning}
    received = gpu.conv_backward(problem.storage, problem.geometry, *problem.stored(), **options)

    exact = cpu.conv_backward("float64", problem.geometry, problem.inputs, problem.dy)
    magnitude = cpu.conv_backward("float64", problem.geometry, problem.magnitudes(), np.abs(problem.dy))
    magnitude = magnitude._replace(offset=_offset_gradient_magnitudes(problem))
    columns, products = _column_rounding(problem, tf32), _product_rounding(problem, tf32)
    check_stored("dx", problem.storage, received.x, exact.x, products * magnitude.x)
    check_stored("dkernel", problem.storage, received.kernel, exact.kernel, columns * magnitude.kernel)
    check_within("doffset", received.offset, exact.offset, products * magnitude.offset)
    if exact.mask is None:
        assert received.mask is None
    else:
        check_within("dmask", received.mask, exact.mask, products * magnitude.mask)


def check_conv(problem, cpu, gpu, *, tf32=False, deterministic=False, shift=0, tuning=()) -> None:
    """Both."""
    check_conv_values(problem, cpu, gpu, tf32=tf32, shift=shift, tuning=tuning)
    check_conv_gradients(problem, cpu, gpu, tf32=tf32, deterministic=deterministic, shift=shift, tuning=tuning)


def _product_rounding(problem: ConvProblem, tf32: bool) -> float:
    summing = 64 * STORAGES[STORAGES[problem.storage].compute.name].rounding
    return max(summing, 3 * 2.0**-11 if tf32 else 0)


def _column_rounding(problem: ConvProblem, tf32: bool) -> float:
    """Columns of samples are rounded to the storage type before they are multiplied; nothing else is."""
    return max(_product_rounding(problem, tf32), 1.01 * STORAGES[problem.storage].rounding)


def _offset_gradient_magnitudes(problem: ConvProblem) -> np.ndarray:
    """The differences of corners weigh at most as much as twice the largest element of x."""
    x, _, _, mask = problem.magnitudes()
    per_sample = _sample_gradient_magnitudes(problem) * (1 if mask is None else mask)
    return np.repeat(2 * x.max(initial=0) * per_sample[..., np.newaxis], 2, axis=-1)


def check_stored(name: str, storage: str, received: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> None:
    """As check_within, for numbers of a storage type, which are rounded once more."""
    smallest = 2.0**-25 if storage == "float16" else 0  # half of it
    bound = bound + (STORAGES[storage].rounding * (np.abs(expected) + bound) + smallest)
    check_within(name, widen(received, storage), expected, bound)


def check_within(name: str, received: np.ndarray, expected: np.ndarray, bound: np.ndarray) -> None:
    """An AssertionError where a received number is farther than `bound` from what was expected, or NaN."""
    bound = bound + 1e-30
    off = ~(np.abs(received - expected) <= bound)
    if off.any():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(off), off.shape))
        limit = np.broadcast_to(bound, off.shape)[index]
        worst = np.nanmax(np.abs(received - expected) / bound)
        raise AssertionError(
            f"{name}: {off.sum()} of {off.size} elements of {off.shape} are off, the first at {index}: received "
            f"{received[index]!r}, expected {expected[index]!r} within {limit:.3g}; the worst by {worst:.3g} times that"
        )


def _sample_gradient_magnitudes(problem: ConvProblem) -> np.ndarray:
    """sum over channels of a deformable group, for every tap, of sum_o |kernel| |dy|."""
    geometry, kernel = problem.geometry, np.abs(problem.inputs.kernel)
    kh, kw, group_channels, filters = geometry.kernel_shape
    # With zeros between channels and outputs of different groups.
    dense = np.zeros((kh * kw, geometry.groups * group_channels, filters))
    for group, outputs in enumerate(np.split(np.arange(filters), geometry.groups)):
        channels = slice(group * group_channels, (group + 1) * group_channels)
        dense[:, channels, outputs[0] : outputs[-1] + 1] = kernel[..., outputs].reshape(kh * kw, group_channels, -1)
    summed = dense.reshape(kh * kw, geometry.deformable_groups, -1, filters).sum(2).swapaxes(0, 1)
    return (np.abs(problem.dy) @ summed.reshape(-1, filters).T).reshape(geometry.mask_shape)


@dataclasses.dataclass
class RoiProblem:
    """Inputs of a pooling in float64, each a number that the storage type has."""

    geometry: RoiGeometry
    storage: str
    inputs: RoiArrays
    dy: np.ndarray

    def stored(self) -> tuple[RoiArrays, np.ndarray]:
        """What a kernel gets."""
        features = [store(level, self.storage) for level in self.inputs.features]
        compute = STORAGES[self.storage].compute
        boxes, offset, mask = (
            None if a is None else a.astype(compute) for a in (self.inputs.boxes, self.inputs.offset, self.inputs.mask)
        )
        inputs = RoiArrays(features, boxes, self.inputs.box_indices, self.inputs.levels, offset, mask)
        return inputs, store(self.dy, self.storage)


def random_boxes(rng, count: int, height: float, width: float) -> np.ndarray:
    """Boxes inside, across the border, outside, thin and of no area."""
    corners = rng.uniform(-0.2, 1.2, (count, 2, 2)) * [height, width]
    corners.sort(axis=1)
    kind = rng.integers(0, 8, count)
    corners[kind == 0] += [2 * height, 0]
    corners[kind == 1, 1] = corners[kind == 1, 0]
    corners[kind == 2, 1] = corners[kind == 2, 0] + 0.5
    return corners.reshape(count, 4)


def roi_problem(rng, storage: str, geometry: RoiGeometry, *, deformed=True, modulated=True) -> RoiProblem:
    def stored(shape):
        return widen(store(rng.standard_normal(shape), storage), storage)

    count, bins = geometry.rois, (geometry.rois, *geometry.pooled)
    extents = [np.array(size) / scale for size, scale in zip(geometry.sizes, geometry.spatial_scales, strict=True)]
    inputs = RoiArrays(
        [stored(shape) for shape in geometry.feature_shapes],
        random_boxes(rng, count, *np.max(extents, axis=0)).astype(np.float32).astype(np.float64),
        rng.integers(0, max(geometry.batch, 1), count).astype(np.int32),
        rng.integers(0, len(geometry.sizes), count).astype(np.int32),
        coordinates(rng, (*bins, 2), 1.0) if deformed else None,
        rng.integers(0, 257, bins) / 256 if modulated else None,
    )
    return RoiProblem(geometry, storage, inputs, stored(geometry.y_shape))


def check_roi(problem: RoiProblem, cpu: Kernels, gpu: Kernels, *, deterministic=False, shift=0) -> None:
    """Compares a kernel's results with the processor's for the same numbers, in the type of the positions.

    Device and processor may differ in the last bits of a position: one may round a product and a sum together.
    """
    inputs, dy = problem.stored()
    y = gpu.roi_forward(problem.storage, problem.geometry, inputs, shift=shift)
    options = {"deterministic": deterministic, "shift": shift}
    gradients = gpu.roi_backward(problem.storage, problem.geometry, inputs, dy, **options)

    compute = STORAGES[problem.storage].compute
    wide = inputs._replace(features=[level.astype(compute) for level in problem.inputs.features])
    wide_dy = problem.dy.astype(compute)
    exact_y = cpu.roi_forward(compute.name, problem.geometry, wide)
    exact = cpu.roi_backward(compute.name, problem.geometry, wide, wide_dy)
    y_bound, bounds = _roi_bounds(problem, cpu, wide, wide_dy)

    check_stored("y", problem.storage, y, exact_y, y_bound)
    for level, parts in enumerate(zip(gradients.features, exact.features, bounds.features, strict=True)):
        check_stored(f"dfeatures[{level}]", problem.storage, *parts)
    for name in ("offset", "mask"):
        if getattr(inputs, name) is not None:
            check_within(f"d{name}", *(getattr(part, name).astype(np.float64) for part in (gradients, exact, bounds)))


def _roi_bounds(problem, cpu, wide, wide_dy):
    """How far results may be off before they are rounded to the storage type: as for convolutions, and by positions."""
    geometry, compute = problem.geometry, STORAGES[problem.storage].compute
    summing = 64 * STORAGES[compute.name].rounding
    moving = summing * 2 * max(max(size) for size in geometry.sizes)
    mask = None if wide.mask is None else np.abs(wide.mask)
    absolute = wide._replace(features=[np.abs(level) for level in wide.features], mask=mask)
    largest = max(level.max(initial=0) for level in absolute.features)
    y = cpu.roi_forward(compute.name, geometry, absolute)
    gradients = cpu.roi_backward(compute.name, geometry, absolute, np.abs(wide_dy))
    # An offset moves a sample by gamma RoI sizes; slopes are at most twice the largest feature.
    scales = np.array(geometry.spatial_scales)[wide.levels]
    sizes = (np.abs(wide.boxes[:, 2:] - wide.boxes[:, :2]) + 2) * scales[:, np.newaxis] + 0.1
    sums = np.abs(wide_dy).sum(-1)
    moved = (sums * (1 if mask is None else mask))[..., np.newaxis] * sizes[:, np.newaxis, np.newaxis]
    return summing * y + 2 * moving * largest, RoiGradients(
        [summing * level + moving * level.max(initial=0) for level in gradients.features],
        (summing + moving) * 2 * largest * geometry.gamma * moved,
        None if mask is None else summing * gradients.mask + 2 * moving * largest * sums,
    )
