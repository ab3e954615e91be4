"""The gradient of features is summed in windows of shared memory, and what falls outside of them in memory."""

import numpy as np
import pytest
from c_api import STORAGES, ConvGeometry
from kernels import ConvArrays, widen
from problems import check_conv_gradients, conv_problem, coordinates

# Maps that are much larger than a window.
GEOMETRIES = {
    "plain": ConvGeometry((1, 30, 37, 64), (3, 3, 64, 8)),
    "several chunks of channels": ConvGeometry((2, 20, 23, 72), (3, 3, 72, 8)),
    "stride 2": ConvGeometry((1, 45, 48, 32), (3, 3, 32, 8), strides=(2, 2)),
    "dilation": ConvGeometry((1, 30, 31, 32), (3, 3, 32, 8), dilation=(3, 2), padding=((3, 3), (2, 2))),
    "5 x 5, odd channels": ConvGeometry((1, 26, 25, 5), (5, 5, 5, 3), padding=((2, 2), (2, 2))),
    "groups": ConvGeometry((1, 25, 24, 48), (3, 3, 12, 16), deformable_groups=2),
    "one row": ConvGeometry((1, 1, 300, 32), (1, 3, 32, 8), padding=((0, 0), (1, 1))),
    "one column": ConvGeometry((1, 300, 1, 32), (3, 1, 32, 8), padding=((1, 1), (0, 0))),
    "many taps": ConvGeometry((1, 14, 60, 8), (1, 40, 8, 4), padding=((0, 0), (20, 20))),
}


@pytest.mark.parametrize("storage, tf32", [("float32", True), *((storage, False) for storage in STORAGES)])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_samples_inside_and_outside_of_windows_add_alike(gpu, cpu, rng, storage, tf32, name):
    check_conv_gradients(conv_problem(rng, storage, GEOMETRIES[name], spread=5.0), cpu, gpu, tf32=tf32)


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0), (12, 0)], ids=lambda c: f"{c[0]}.{c[1]}")
@pytest.mark.parametrize("storage", ["float32", "float64", "float16"])
def test_windows_fit_every_device(emulated, rng, capability, storage):
    emulated.emulate(capability)
    for name in ("plain", "stride 2", "many taps"):
        problem = conv_problem(rng, storage, GEOMETRIES[name])
        # Windows are as large for products of float32 that are exact, and take the emulated device twice as long.
        check_conv_gradients(problem, emulated.processor(), emulated, tf32=True)


@pytest.mark.parametrize("storage", ["float32", "float64", "bfloat16"])
def test_whole_positions_and_edges_add_what_the_processor_adds(gpu, cpu, rng, storage):
    # Where a sample has less than four corners, and beside them.
    geometry = ConvGeometry((1, 21, 22, 32), (3, 3, 32, 8))
    problem = conv_problem(rng, storage, geometry)
    offset = np.round(2 * coordinates(rng, geometry.offset_shape, 1.5)) / 2
    problem.inputs = problem.inputs._replace(offset=offset)
    check_conv_gradients(problem, cpu, gpu)


def corners_on_the_map(geometry, offset):
    """How many pixels all samples of a convolution with padding 1 and stride 1 touch."""
    (rows, columns), (kh, kw) = geometry.out_size, geometry.kernel_shape[:2]
    row, column, tap_row, tap_column = np.ogrid[:rows, :columns, :kh, :kw]
    offset = offset.reshape(-1, rows, columns, kh, kw, 2)
    low = [
        np.floor(row + tap_row - 1 + offset[..., 0]),
        np.floor(column + tap_column - 1 + offset[..., 1]),
    ]
    on = [[(p + i >= 0) & (p + i < size) for i in (0, 1)] for p, size in zip(low, geometry.x_shape[1:3], strict=True)]
    return sum(int((on[0][i] & on[1][j]).sum()) for i in (0, 1) for j in (0, 1))


@pytest.mark.parametrize("storage, tf32", [("float32", True), ("float32", False), ("bfloat16", True)])
def test_the_input_gradient_reaches_memory_with_at_most_a_fifth_of_the_additions(emulated, rng, storage, tf32):
    # A part of ResNet-50's stage 3, with offsets of two pixels' deviation that are never whole.
    geometry = ConvGeometry((1, 40, 48, 64), (3, 3, 64, 16))
    problem = conv_problem(rng, storage, geometry)
    offset = coordinates(rng, geometry.offset_shape, 2.0) + 1 / 512
    problem.inputs = problem.inputs._replace(offset=offset, mask=np.full(geometry.mask_shape, 0.5))
    emulated.emulate(multiprocessors=1)
    emulated.launches()
    emulated.conv_backward(storage, geometry, *problem.stored(), allow_tf32=tf32, wanted=("x",))
    additions = sum(launch.additions for launch in emulated.launches())
    samples_add = geometry.x_shape[3] * corners_on_the_map(geometry, offset)
    assert 0 < additions <= samples_add / 5


def test_few_tiles_of_pixels_are_divided_by_taps(emulated, rng):
    geometry = ConvGeometry((1, 16, 16, 32), (3, 3, 32, 8))
    blocks = []
    for multiprocessors in (1, 132):
        emulated.emulate(multiprocessors=multiprocessors)
        problem = conv_problem(rng, "float32", geometry)
        emulated.launches()
        emulated.conv_backward("float32", geometry, *problem.stored(), wanted=("offset",))
        blocks += [launch.blocks for launch in emulated.launches()]
    assert blocks == [4, 36]


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "ordered"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_gradients_are_computed_alone_as_they_are_together(gpu, rng, storage, modulated, deterministic):
    geometry = ConvGeometry((2, 9, 8, 16), (3, 3, 16, 8), deformable_groups=2)
    problem = conv_problem(rng, storage, geometry, modulated=modulated)
    options = {"allow_tf32": False, "deterministic": deterministic}
    together = gpu.conv_backward(storage, geometry, *problem.stored(), **options)
    for wanted in [("x",), ("kernel",), ("offset",), ("x", "offset"), ("kernel", "offset")]:
        alone = gpu.conv_backward(storage, geometry, *problem.stored(), **options, wanted=wanted)
        check_wanted_alike(storage, wanted, alone, together, modulated, deterministic)


def check_wanted_alike(storage, wanted, alone, together, modulated, deterministic):
    """What is wanted is what is computed, and equals what is computed with all the rest."""
    for name in ConvArrays._fields:
        is_wanted = name in wanted or (name == "mask" and "offset" in wanted and modulated)
        gradient, expected = getattr(alone, name), getattr(together, name)
        assert (gradient is not None) == is_wanted, (name, wanted)
        if not is_wanted:
            continue
        if name == "x" and not deterministic:
            # Summed in another order.
            check_stored_alike(storage, gradient, expected)
        else:
            assert gradient.tobytes() == expected.tobytes(), (name, wanted)


def check_stored_alike(storage, received, expected):
    """Numbers differ by rounding only."""
    received, expected = widen(received, storage), widen(expected, storage)
    np.testing.assert_allclose(received, expected, rtol=2 * STORAGES[storage].rounding, atol=1e-4)


def test_no_gradient_is_no_launch(emulated, rng):
    geometry = ConvGeometry((1, 6, 5, 8), (3, 3, 8, 8))
    emulated.launches()
    gradients = emulated.conv_backward("float32", geometry, *conv_problem(rng, "float32", geometry).stored(), wanted=())
    assert all(gradient is None for gradient in gradients)
    assert emulated.launches() == []
