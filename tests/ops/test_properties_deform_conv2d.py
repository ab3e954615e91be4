"""Properties of deformable convolution over arbitrary problems: both implementations agree, in values and gradients."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D
from tf_dcnv2.ops import deform_conv2d

# Deterministic: the same examples every time, on every machine.
DETERMINISTIC = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# What a few of the offsets may be.
WILD = [1e5, -1e10, 1e10, 1e30, -1e30, np.inf, -np.inf, np.nan]
pytestmark = pytest.mark.usefixtures("native_ops")


@dataclasses.dataclass(frozen=True)
class Case:
    """One convolution; everything random in it follows from `seed`.

    Attributes:
        offsets: what they are like, see `tensors`.
        wild: values of a few of the offsets.
        bad: which of dy, x and kernel (0, 1, 2) has one value that is not finite, and that value.
    """

    shape: tuple[int, int, int, int]
    filters: int
    kernel_size: tuple[int, int]
    strides: tuple[int, int]
    padding: object
    dilation_rate: tuple[int, int]
    groups: int
    deformable_groups: int
    modulated: bool
    offsets: str
    wild: tuple[float, ...]
    bad: tuple[int, float] | None
    seed: int

    @property
    def options(self):
        names = ("strides", "padding", "dilation_rate", "deformable_groups")
        return {name: getattr(self, name) for name in names}

    def output_size(self):
        """(rows, columns) by Keras' documented rule."""
        size = []
        for axis in (0, 1):
            length, stride = self.shape[1 + axis], self.strides[axis]
            if self.padding == "same":
                size.append(math.ceil(length / stride))
                continue
            padding = {"valid": 0}.get(self.padding, self.padding) if isinstance(self.padding, str) else self.padding
            sides = np.broadcast_to(np.reshape(padding, [-1, 1]) if np.ndim(padding) == 1 else padding, (2, 2))[axis]
            window = (self.kernel_size[axis] - 1) * self.dilation_rate[axis] + 1
            size.append((length + int(sum(sides)) - window) // stride + 1)
        return size

    def tensors(self, dtype):
        """The gradient with respect to y, then x, kernel, offset and, if modulated, mask."""
        rng = np.random.default_rng(self.seed)
        leading = (self.shape[0], *self.output_size())
        samples = self.deformable_groups * self.kernel_size[0] * self.kernel_size[1]
        offset_shape = (*leading, 2 * samples)
        offset = {
            "zero": lambda: np.zeros(offset_shape),
            # Whole and half pixels meet every border and every corner of the rule exactly.
            "halves": lambda: rng.integers(-8, 9, offset_shape) / 2,
            "near": lambda: rng.normal(size=offset_shape),
            "far": lambda: 10 * rng.normal(size=offset_shape),
            "huge": lambda: 1e10 * rng.normal(size=offset_shape),
        }[self.offsets]()
        if self.wild and offset.size:
            places = rng.integers(0, offset.size, 1 + offset.size // 20)
            offset.flat[places] = rng.choice(self.wild, places.shape)
        x = rng.normal(size=self.shape)
        kernel = rng.normal(size=(*self.kernel_size, self.shape[3] // self.groups, self.filters))
        dy = rng.normal(size=(*leading, self.filters))
        tensors = [dy, x, kernel, offset, rng.uniform(size=(*leading, samples))][: 5 if self.modulated else 4]
        if self.bad is not None:
            tensor = tensors[self.bad[0]]
            tensor.flat[rng.integers(0, tensor.size, min(tensor.size, 1))] = self.bad[1]
        return [tensor.astype(dtype) for tensor in tensors]


def pairs(most):
    return st.tuples(st.integers(1, most), st.integers(1, most))


@st.composite
def cases(draw):
    groups, deformable_groups = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    channels = math.lcm(groups, deformable_groups) * draw(st.integers(1, 3))
    side = st.integers(0, 3)
    case = Case(
        shape=(draw(st.integers(0, 3)), draw(st.integers(1, 9)), draw(st.integers(1, 9)), channels),
        filters=groups * draw(st.integers(1, 3)),
        kernel_size=draw(pairs(4)),
        strides=draw(pairs(3)),
        padding=draw(
            st.sampled_from(["same", "valid"])
            | side
            | st.tuples(side, side)
            | st.tuples(st.tuples(side, side), st.tuples(side, side))
        ),
        dilation_rate=draw(pairs(3)),
        groups=groups,
        deformable_groups=deformable_groups,
        modulated=draw(st.booleans()),
        offsets=draw(st.sampled_from(["zero", "halves", "near", "far", "huge"])),
        wild=draw(st.just(()) | st.sampled_from([*((value,) for value in WILD), tuple(WILD)])),
        bad=draw(st.none() | st.none() | st.tuples(st.integers(0, 2), st.sampled_from([np.nan, np.inf, -np.inf]))),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    assume(min(case.output_size()) >= 0)
    return case


def assert_implementations_agree(case, dtype, tolerance, value_and_gradients):
    dy, *tensors = case.tensors(dtype)

    def run(implementation):
        def operator(*tensors):
            return deform_conv2d(*tensors, implementation=implementation, **case.options)

        value, gradients = value_and_gradients(operator, tensors, dy)
        return [value, *gradients]

    names = ["y", "dx", "dkernel", "doffset", "dmask"][: 1 + len(tensors)]
    for name, native, composite in zip(names, run("native"), run("composite"), strict=True):
        finite = np.isfinite(composite)
        if case.bad is not None:
            # Infinity times a weight of zero, or infinity: either way nothing finite, and in the same places.
            np.testing.assert_array_equal(np.isfinite(native), finite, err_msg=name)
            native, composite = np.where(finite, native, 0), np.where(finite, composite, 0)
        scale = max(1, np.max(np.abs(composite), initial=0, where=finite))
        np.testing.assert_allclose(native, composite, rtol=0, atol=tolerance * scale, err_msg=name)


def is_defined(case, device):
    """On a GPU, what is not finite may reach the outputs of other groups."""
    is_finite = case.bad is None and not np.isnan(case.wild).any()
    return device == "/CPU:0" or case.groups == 1 or is_finite


# Sums of up to 200 products of order one.
@settings(DETERMINISTIC, max_examples=150)
@given(cases())
def test_implementations_agree_in_values_and_gradients(value_and_gradients, device, case):
    assume(is_defined(case, device))
    assert_implementations_agree(case, np.float64, 1e-12, value_and_gradients)


@settings(DETERMINISTIC, max_examples=100)
@given(cases())
def test_implementations_agree_in_float32(value_and_gradients, device, case):
    assume(is_defined(case, device))
    assert_implementations_agree(case, np.float32, 2e-5, value_and_gradients)


@pytest.mark.slow
@settings(DETERMINISTIC, max_examples=2000)
@given(cases(), st.sampled_from([(np.float64, 1e-12), (np.float32, 2e-5)]))
def test_implementations_agree_on_many_more_problems(value_and_gradients, device, case, precision):
    assume(is_defined(case, device))
    assert_implementations_agree(case, *precision, value_and_gradients)


@settings(DETERMINISTIC, max_examples=30)
@given(cases(), st.booleans())
def test_layers_agree_with_and_without_bias(case, use_bias):
    assume(min(case.shape) > 0 and case.bad is None)
    x = tf.constant(case.tensors(np.float64)[1])
    layer_class = ModulatedDeformableConv2D if case.modulated else DeformableConv2D
    results = []
    for implementation in ("native", "composite"):
        layer = layer_class(
            case.filters,
            case.kernel_size,
            groups=case.groups,
            use_bias=use_bias,
            implementation=implementation,
            dtype="float64",
            **case.options,
        )
        layer.build(x.shape)
        rng = np.random.default_rng(case.seed)
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        gradients = tape.gradient(y, [x, *layer.trainable_variables])
        results.append([result.numpy() for result in (y, *gradients)])
    assert len(results[0]) == (6 if use_bias else 5)
    for native, composite in zip(*results, strict=True):
        scale = max(1, np.max(np.abs(composite), initial=0))
        np.testing.assert_allclose(native, composite, rtol=0, atol=1e-11 * scale)
