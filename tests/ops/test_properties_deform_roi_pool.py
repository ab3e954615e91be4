"""Properties of RoI pooling over arbitrary problems: both implementations agree, in values and gradients."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tf_dcnv2.ops import deform_roi_pool

# Deterministic: the same examples every time, on every machine.
DETERMINISTIC = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WILD = [1e5, -1e10, 1e10, 1e30, -1e30, np.inf, -np.inf, np.nan]
pytestmark = pytest.mark.usefixtures("native_ops")


@dataclasses.dataclass(frozen=True)
class Case:
    """One pooling; everything random in it follows from `seed`.

    Attributes:
        exact: whether all positions are small fractions, computed without rounding. These meet borders and pixels
            exactly, where rounding would decide which side of them a sample is on.
        wild: values of a few of the box edges or, with `wild_offsets`, of the offsets.
    """

    batch: int
    channels: int
    maps: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    rois: int
    boxes: str
    explicit_levels: bool
    output_size: tuple[int, int]
    sampling_ratio: int
    convention: str
    gamma: float
    with_offset: bool
    with_mask: bool
    exact: bool
    wild: tuple[float, ...]
    wild_offsets: bool
    seed: int

    @property
    def levels(self):
        rng = np.random.default_rng(self.seed)
        return rng.integers(0, len(self.maps), self.rois) if self.explicit_levels else None

    @property
    def box_indices(self):
        return np.random.default_rng(self.seed).integers(0, max(self.batch, 1), self.rois)

    @property
    def options(self):
        names = ("output_size", "sampling_ratio", "convention", "gamma", "levels")
        return {name: getattr(self, name) for name in names} | {"spatial_scale": [1 / s for s in self.strides]}

    def make_boxes(self, rng):
        # In pixels of the image; the maps cover up to 9 strides of it.
        reach = 9 * max(self.strides)
        corner = rng.uniform(-0.2, 1, (self.rois, 2)) * reach
        size = rng.uniform(0, 1, (self.rois, 2)) * reach
        if self.boxes == "without area":
            size[:, rng.integers(0, 2)] = 0
        elif self.boxes == "inverted":
            size *= rng.choice([-1, 1], size.shape)
        elif self.boxes == "outside":
            corner += 3 * reach * rng.choice([-1, 1], corner.shape)
        elif self.boxes == "tiny":
            size *= 1e-3
        boxes = np.concatenate([corner, corner + size], axis=1)
        # Quarters of a feature pixel: with a power of two of bins and samples each position is a small fraction.
        return np.round(boxes * 4 / max(self.strides)) * max(self.strides) / 4 if self.exact else boxes

    def tensors(self, dtype):
        """Boxes, then what the operator is differentiable by: features, offset, mask."""
        rng = np.random.default_rng(self.seed)
        boxes = self.make_boxes(rng)
        bins = (self.rois, *self.output_size)
        offset = rng.integers(-8, 9, (*bins, 2)) / 8 if self.exact else rng.normal(size=(*bins, 2))
        target = offset if self.wild_offsets else boxes
        if self.wild and target.size:
            places = rng.integers(0, target.size, 1 + target.size // 10)
            target.flat[places] = rng.choice(self.wild, places.shape)
        tensors = [rng.normal(size=(self.batch, *size, self.channels)) for size in self.maps]
        tensors += [offset] if self.with_offset else []
        tensors += [rng.uniform(size=bins)] if self.with_mask else []
        return boxes.astype(dtype), [tensor.astype(dtype) for tensor in tensors]


@st.composite
def cases(draw, always_exact=False):
    exact = always_exact or draw(st.booleans())
    counts = st.sampled_from([1, 2, 4]) if exact else st.integers(1, 4)
    # MXNet's smallest size of 0.1 is no such fraction, nor are the samples of a grid that fits the box.
    convention = "aligned" if exact else draw(st.sampled_from(["aligned", "mxnet"]))
    ratios = [1, 2] if exact else [0, 1, 2, 3] if convention == "aligned" else [1, 2, 3]
    levels = draw(st.integers(1, 3))
    rois = draw(st.integers(0, 5))
    side = st.integers(1, 9)
    return Case(
        batch=draw(st.integers(1 if rois else 0, 2)),
        channels=draw(st.integers(1, 5)),
        maps=tuple(draw(st.tuples(side, side)) for _ in range(levels)),
        strides=tuple(draw(st.lists(st.sampled_from([1, 4, 16, 64]), min_size=levels, max_size=levels))),
        rois=rois,
        boxes=draw(st.sampled_from(["ordinary", "ordinary", "without area", "inverted", "outside", "tiny"])),
        explicit_levels=draw(st.booleans()),
        output_size=(draw(counts), draw(counts)),
        sampling_ratio=draw(st.sampled_from(ratios)),
        convention=convention,
        gamma=draw(st.sampled_from([0.0, 0.125, 0.5, 1.0, -2.0] if exact else [0.0, 0.1, 1.0, -0.7, 30.0])),
        with_offset=draw(st.booleans()),
        with_mask=draw(st.booleans()),
        exact=exact,
        wild=draw(st.just(()) | st.sampled_from([*((value,) for value in WILD), tuple(WILD)])),
        wild_offsets=draw(st.booleans()),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def assert_implementations_agree(case, dtype, tolerance, value_and_gradients):
    boxes, tensors = case.tensors(dtype)
    dy = np.random.default_rng(case.seed + 1).normal(size=(case.rois, *case.output_size, case.channels))
    levels = len(case.maps)

    def run(implementation):
        def operator(*tensors):
            rest = list(tensors[levels:])
            return deform_roi_pool(
                list(tensors[:levels]),
                boxes,
                case.box_indices,
                rest.pop(0) if case.with_offset else None,
                rest.pop(0) if case.with_mask else None,
                implementation=implementation,
                **case.options,
            )

        value, gradients = value_and_gradients(operator, tensors, dy)
        return [value, *gradients]

    for native, composite in zip(run("native"), run("composite"), strict=True):
        scale = max(1, np.max(np.abs(composite), initial=0, where=np.isfinite(composite)))
        np.testing.assert_allclose(native, composite, rtol=0, atol=tolerance * scale)


@settings(DETERMINISTIC, max_examples=150)
@given(cases())
def test_implementations_agree_in_values_and_gradients(value_and_gradients, case):
    # Positions of up to 1000 pixels, rounded to 1e-13, times slopes of order one.
    assert_implementations_agree(case, np.float64, 1e-11, value_and_gradients)


@settings(DETERMINISTIC, max_examples=100)
@given(cases(always_exact=True))
def test_implementations_agree_in_float32(value_and_gradients, case):
    assert_implementations_agree(case, np.float32, 1e-5, value_and_gradients)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=2000)
@given(cases())
def test_implementations_agree_on_many_more_problems(value_and_gradients, case):
    assert_implementations_agree(case, np.float64, 1e-11, value_and_gradients)
