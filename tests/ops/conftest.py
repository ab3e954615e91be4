"""Random problems for the operators, and slow references written straight from their definitions."""

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d

DEVICES = ["/CPU:0", "/GPU:0"] if tf.config.list_physical_devices("GPU") else None


@pytest.fixture(autouse=True, params=DEVICES)
def device(request):
    """Runs every test on either device where TensorFlow has a GPU; otherwise there is nothing to choose."""
    if DEVICES is None:
        yield "/CPU:0"
        return
    if request.param == "/GPU:0" and request.node.get_closest_marker("cpu_only"):
        pytest.skip("checks what only the CPU's kernels do")
    with tf.device(request.param):
        yield request.param


class ConvProblem:
    """Random inputs of one deformable convolution, offsets of about `spread` pixels."""

    def __init__(
        self,
        rng,
        *,
        shape=(2, 7, 6, 4),
        filters=4,
        kernel_size=(3, 3),
        strides=1,
        padding="same",
        dilation_rate=1,
        groups=1,
        deformable_groups=1,
        modulated=True,
        spread=1.5,
    ):
        self.x = rng.standard_normal(shape)
        self.kernel = rng.standard_normal((*kernel_size, shape[-1] // groups, filters))
        samples = deformable_groups * kernel_size[0] * kernel_size[1]
        self.strides, self.padding, self.dilation_rate = strides, padding, dilation_rate
        leading = self.convolve(tf.zeros(shape), tf.zeros([*kernel_size, shape[-1], 1])).shape[:3]
        self.offset = spread * rng.standard_normal((*leading, 2 * samples))
        self.mask = rng.uniform(size=(*leading, samples)) if modulated else None
        self.options = {
            "strides": strides,
            "padding": padding,
            "dilation_rate": dilation_rate,
            "deformable_groups": deformable_groups,
        }

    @property
    def tensors(self):
        """What the operator is differentiable by."""
        given = [self.x, self.kernel, self.offset, self.mask]
        return given if self.mask is not None else given[:3]

    def tensors_of(self, dtype):
        """`tensors` for an `x` of `dtype`; offset and mask are never narrower than float32."""
        wide = max(tf.as_dtype(dtype), tf.float32, key=lambda each: each.size)
        return [tf.cast(tensor, dtype if number < 2 else wide) for number, tensor in enumerate(self.tensors)]

    def operator(self, implementation):
        """The operator as a function of `tensors`."""
        return lambda *tensors: deform_conv2d(*tensors, implementation=implementation, **self.options)

    def convolve(self, x, kernel):
        """TensorFlow's ordinary convolution with this geometry."""
        strides, dilation = (list(np.broadcast_to(value, 2)) for value in (self.strides, self.dilation_rate))
        if isinstance(self.padding, str):
            return tf.nn.conv2d(x, kernel, strides, self.padding.upper(), dilations=dilation)
        return tf.nn.conv2d(x, kernel, strides, [[0, 0], *self.padding, [0, 0]], dilations=dilation)


CONV_CONFIGURATIONS = {
    "plain": {},
    "stride 2": {"strides": 2},
    "uneven strides, valid": {"strides": (1, 3), "padding": "valid"},
    "dilation": {"dilation_rate": 2},
    "dilation and stride": {"dilation_rate": (2, 1), "strides": 2, "padding": ((2, 2), (2, 2))},
    "explicit sides": {"padding": ((0, 2), (1, 3))},
    "groups": {"groups": 2},
    "deformable groups": {"deformable_groups": 4},
    "both kinds of groups": {"groups": 2, "deformable_groups": 4, "strides": 2},
    "even kernel": {"kernel_size": (2, 4), "strides": (2, 1)},
    "without modulation": {"modulated": False},
    "far offsets": {"spread": 20.0},
}


@pytest.fixture(params=CONV_CONFIGURATIONS.values(), ids=CONV_CONFIGURATIONS.keys())
def conv_problem(request, rng) -> ConvProblem:
    """Every kind of convolution."""
    return ConvProblem(rng, **request.param)


# Every setting once, for what costs much and does not depend on how they are combined.
FEW_CONFIGURATIONS = ("both kinds of groups", "even kernel", "without modulation")


@pytest.fixture(
    params=[
        pytest.param(configuration, id=name, marks=() if name in FEW_CONFIGURATIONS else pytest.mark.slow)
        for name, configuration in CONV_CONFIGURATIONS.items()
    ]
)
def some_conv_problem(request, rng) -> ConvProblem:
    """Every kind of convolution, most of them in the slow tests only."""
    return ConvProblem(rng, **request.param)


@pytest.fixture
def make_conv_problem(rng):
    return lambda **configuration: ConvProblem(rng, **configuration)


@pytest.fixture
def roi_pool_reference():
    """Modulated deformable RoI pooling of one RoI with RoIAlign's geometry, one sample at a time."""

    def interpolate(feature, row, column):
        height, width = feature.shape[:2]
        if not (-1 <= row <= height and -1 <= column <= width):
            return np.zeros(feature.shape[2])
        row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
        top, left = int(row), int(column)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        down, across = row - top, column - left
        upper = (1 - across) * feature[top, left] + across * feature[top, right]
        lower = (1 - across) * feature[bottom, left] + across * feature[bottom, right]
        return (1 - down) * upper + down * lower

    def pool(feature, box, scale, output_size, samples, offset=None, mask=None, gamma=0.1):
        start, end = np.array(box[:2]) * scale - 0.5, np.array(box[2:]) * scale - 0.5
        bin_size = (end - start) / output_size
        counts = [samples or int(np.ceil(size)) for size in bin_size]
        pooled = np.zeros((*output_size, feature.shape[2]))
        for cell in np.ndindex(*output_size):
            shift = 0 if offset is None else gamma * offset[cell] * (end - start)
            for sample in np.ndindex(*counts):
                position = start + cell * bin_size + (np.array(sample) + 0.5) * bin_size / counts + shift
                pooled[cell] += interpolate(feature, *position) / np.prod(counts)
            pooled[cell] *= 1 if mask is None else mask[cell]
        return pooled

    return pool


@pytest.fixture
def check_rounded_once():
    """Compares 16-bit results, `rounded` of `dtype` and `unrounded` in float32, with those of float32 inputs."""

    def check(dtype, rounded, exact_rounded, unrounded, exact_unrounded):
        one_rounding = 1.01 * {"float16": 2.0**-11, "bfloat16": 2.0**-8}[dtype]
        for received, exact in zip(rounded, exact_rounded, strict=True):
            assert received.dtype == tf.as_dtype(dtype).as_numpy_dtype
            # Sums of numbers of this size differ by it where float32 adds them in another order.
            atol = np.finfo(np.float32).eps * np.abs(exact).max()
            np.testing.assert_allclose(tf.cast(received, tf.float32), exact, rtol=one_rounding, atol=atol)
        for received, exact in zip(unrounded, exact_unrounded, strict=True):
            assert received.dtype == np.float32
            np.testing.assert_allclose(received, exact, rtol=1e-5, atol=1e-5)

    return check
