"""Deformable convolution on GPUs: values and all gradients, of every storage type, by every kernel."""

import numpy as np
import pytest
from c_api import STORAGES, ConvGeometry
from kernels import ConvArrays, widen
from problems import check_conv, check_within, conv_problem


def geometry(channels=8, filters=8, *, size=(7, 6), batch=2, kernel=(3, 3), groups=1, padding=(1, 1), **options):
    sides = padding if isinstance(padding[0], tuple) else tuple((p, p) for p in padding)
    shapes = (batch, *size, channels), (*kernel, channels // groups, filters)
    return ConvGeometry(*shapes, padding=sides, **options)


# Channels that are multiples of 16 bytes and others, for 32-bit and for 16-bit numbers.
GEOMETRIES = {
    "plain": geometry(),
    "many channels": geometry(72, 40, size=(5, 7)),
    "many pixels": geometry(16, 16, size=(13, 17)),
    "vectors of 32 bits only": geometry(12, 20),
    "odd channels": geometry(5, 3),
    "one channel": geometry(1, 1),
    "odd filters": geometry(16, 7),
    "stride 2": geometry(strides=(2, 2)),
    "uneven strides, no padding": geometry(strides=(1, 3), padding=(0, 0)),
    "dilation": geometry(dilation=(2, 2), padding=(2, 2)),
    "dilation and stride": geometry(dilation=(2, 1), strides=(2, 2), padding=(2, 2)),
    "explicit sides": geometry(padding=((0, 2), (1, 3))),
    "groups": geometry(16, 32, groups=2),
    "many groups": geometry(32, 32, groups=8),
    "depthwise": geometry(16, 32, groups=16),
    "odd groups": geometry(15, 9, groups=3),
    "deformable groups": geometry(32, 8, deformable_groups=4),
    "small deformable groups": geometry(12, 8, deformable_groups=6),
    "both kinds of groups": geometry(24, 16, groups=4, deformable_groups=3, strides=(2, 2)),
    "even kernel": geometry(kernel=(2, 4), strides=(2, 1)),
    "1 x 1": geometry(24, 24, kernel=(1, 1), padding=(0, 0)),
    "5 x 5": geometry(8, 8, kernel=(5, 5), padding=(2, 2)),
    "single pixel": geometry(size=(1, 1), batch=1),
}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_values_and_gradients_equal_the_processors(gpu, cpu, rng, storage, name):
    check_conv(conv_problem(rng, storage, GEOMETRIES[name]), cpu, gpu)


@pytest.mark.parametrize("name", ["plain", "many channels", "groups", "deformable groups"])
def test_products_of_tf32_are_as_close_as_its_rounding(gpu, cpu, rng, name):
    check_conv(conv_problem(rng, "float32", GEOMETRIES[name]), cpu, gpu, tf32=True)


TUNINGS = [(1, 0, 0), (2, 1, 0), (3, 2, 0), (0, 1, 1), (0, 4, 2), (4, 0, 0), (5, 0, 99)]


@pytest.mark.parametrize("tuning", TUNINGS, ids=str)
@pytest.mark.parametrize("storage, tf32", [("float32", False), ("float32", True), ("bfloat16", False)])
def test_tuning_changes_no_value(gpu, cpu, rng, storage, tf32, tuning):
    problem = conv_problem(rng, storage, geometry(72, 40, size=(5, 7), deformable_groups=3))
    check_conv(problem, cpu, gpu, tf32=tf32, tuning=tuning)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["plain", "odd channels", "both kinds of groups"])
def test_convolutions_without_modulation(gpu, cpu, rng, storage, name):
    check_conv(conv_problem(rng, storage, GEOMETRIES[name], modulated=False), cpu, gpu)


@pytest.mark.parametrize("storage", STORAGES)
def test_samples_far_outside_are_zero(gpu, cpu, rng, storage):
    check_conv(conv_problem(rng, storage, GEOMETRIES["plain"], spread=20.0), cpu, gpu)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shift", [1, 2])
def test_arrays_need_no_alignment_beyond_their_elements(gpu, cpu, rng, storage, shift):
    check_conv(conv_problem(rng, storage, GEOMETRIES["plain"]), cpu, gpu, shift=shift)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["many pixels", "odd channels", "both kinds of groups", "single pixel"])
def test_ordered_gradients_equal_the_processors(gpu, cpu, rng, storage, name):
    check_conv(conv_problem(rng, storage, GEOMETRIES[name]), cpu, gpu, deterministic=True)


@pytest.mark.parametrize("storage", ["float64", "float32"])
def test_values_and_gradients_equal_those_of_mmcv(gpu, deform_conv_vectors, storage):
    vectors = deform_conv_vectors
    compute = STORAGES[storage].compute
    shape = ConvGeometry(
        vectors["x"].shape,
        vectors["kernel"].shape,
        tuple(vectors["strides"].tolist()),
        tuple(vectors["dilation_rate"].tolist()),
        tuple((p, p) for p in vectors["padding"].tolist()),
        int(vectors["deformable_groups"]),
    )
    inputs = ConvArrays(*(vectors[name].astype(compute) for name in ("x", "kernel", "offset", "mask")))
    inputs = inputs._replace(
        offset=inputs.offset.reshape(shape.offset_shape), mask=inputs.mask.reshape(shape.mask_shape)
    )
    y = gpu.conv_forward(storage, shape, inputs, allow_tf32=False)
    gradients = gpu.conv_backward(storage, shape, inputs, vectors["dy"].astype(compute), allow_tf32=False)

    # In float32 a position of some 10 pixels is off by 1e-6, which slopes and sums over some 100 products enlarge.
    bound = np.array(1e-9 if storage == "float64" else 1e-3)
    check_within("y", y + vectors["bias"], vectors["y"], bound)
    for name, gradient in gradients._asdict().items():
        check_within(f"d{name}", gradient.reshape(vectors[f"d{name}"].shape), vectors[f"d{name}"], bound)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "shape",
    [geometry(batch=0), geometry(size=(0, 6), kernel=(1, 1)), geometry(size=(2, 2), kernel=(3, 3), padding=(0, 0))],
    ids=["batch", "map", "output"],
)
def test_nothing_to_do_leaves_zeros(gpu, rng, storage, shape):
    problem = conv_problem(rng, storage, shape)
    inputs, dy = problem.stored()
    y = gpu.conv_forward(storage, shape, inputs)
    gradients = gpu.conv_backward(storage, shape, inputs, dy)
    assert y.shape == shape.y_shape
    for name in ("x", "kernel"):
        assert not widen(getattr(gradients, name), storage).any()
    assert not gradients.offset.any() and not gradients.mask.any()
