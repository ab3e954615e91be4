"""The forward pass that compute capability 9.0 has for itself, which takes channels in rows of 128 bytes."""

import itertools

import numpy as np
import pytest
from c_api import ConvGeometry
from kernels import ConvArrays, store, widen
from problems import check_conv_values, conv_problem

# In the order of GpuTuning.
TILES = {"narrow": 5, "wide": 6, "halved": 7}
# How a tensor is stored, and whether float32 may be rounded to TF32.
ARITHMETICS = {
    "float32": ("float32", False),
    "TF32": ("float32", True),
    "bfloat16": ("bfloat16", False),
    "float16": ("float16", False),
}


def combined_with_tiles(*choices):
    """All combinations of choices and tiles. A third are no slow tests: every choice, with one tile or another."""
    combinations = [(*choice, tile) for tile in TILES for choice in itertools.product(*choices)]
    return [
        combination if index % len(TILES) == 0 else pytest.param(*combination, marks=pytest.mark.slow)
        for index, combination in enumerate(combinations)
    ]


GEOMETRIES = {
    "more tiles than blocks": ConvGeometry((2, 17, 19, 128), (3, 3, 128, 264)),
    "groups": ConvGeometry((1, 5, 7, 256), (3, 1, 128, 48), padding=((1, 1), (0, 0))),
    "deformable groups": ConvGeometry((1, 5, 7, 256), (3, 3, 256, 40), deformable_groups=2),
    "far apart": ConvGeometry(
        (2, 9, 8, 128), (2, 3, 128, 128), strides=(2, 1), dilation=(1, 2), padding=((0, 1), (2, 2)), deformable_groups=2
    ),
    "one tap": ConvGeometry((3, 4, 5, 192), (1, 1, 192, 136), padding=((0, 0), (0, 0))),
}


@pytest.fixture(autouse=True)
def launches_its_kernels(gpu):
    """Each test does: one packs the kernel, the next multiplies."""
    if not gpu.is_emulated:
        yield
        return
    gpu.emulate()
    gpu.launches()
    yield
    assert any(launch.shared_bytes > 100_000 for launch in gpu.launches())


@pytest.mark.parametrize("name, arithmetic, tile", combined_with_tiles(GEOMETRIES, ARITHMETICS))
def test_values_equal_the_processors(gpu, cpu, rng, name, arithmetic, tile):
    storage, tf32 = ARITHMETICS[arithmetic]
    problem = conv_problem(rng, storage, GEOMETRIES[name])
    check_conv_values(problem, cpu, gpu, tf32=tf32, tuning=(TILES[tile], 0, 0))


@pytest.mark.parametrize("arithmetic, tile", combined_with_tiles(ARITHMETICS))
def test_samples_outside_are_zero(gpu, cpu, rng, arithmetic, tile):
    storage, tf32 = ARITHMETICS[arithmetic]
    problem = conv_problem(rng, storage, GEOMETRIES["groups"], modulated=False, spread=8.0)
    check_conv_values(problem, cpu, gpu, tf32=tf32, tuning=(TILES[tile], 0, 0))


@pytest.mark.parametrize("arithmetic, tile", combined_with_tiles(ARITHMETICS))
def test_what_is_not_finite_spreads_as_without_a_workspace(gpu, rng, arithmetic, tile):
    """Infinities and NaN of maps and kernels reach the same outputs as by the other kernels."""
    storage, tf32 = ARITHMETICS[arithmetic]
    geometry = ConvGeometry((1, 6, 7, 128), (3, 3, 128, 136))
    inputs = conv_problem(rng, storage, geometry, spread=0.4).inputs
    x, kernel = np.abs(inputs.x), inputs.kernel.copy()
    x[0, 1, 1, 5], x[0, 3, 4, 70], x[0, 5, 0, 90] = np.inf, -np.inf, np.nan
    kernel[0, 1, 3, 2], kernel[2, 2, 100, 130], kernel[1, 0, 7, 64] = np.inf, -np.inf, np.nan
    # Two infinities of one sum, and one that is multiplied by zero.
    kernel[1, 1, 40, 20], kernel[1, 1, 41, 20], kernel[1, 1, 70, 30] = np.inf, -np.inf, 0
    compute = np.float32
    stored = ConvArrays(
        store(x, storage), store(kernel, storage), inputs.offset.astype(compute), inputs.mask.astype(compute)
    )
    options = {"allow_tf32": tf32, "tuning": (TILES[tile], 0, 0)}
    received = widen(gpu.conv_forward(storage, geometry, stored, **options), storage)
    expected = widen(gpu.conv_forward(storage, geometry, stored, has_workspace=False, **options), storage)

    assert np.isfinite(expected).any() and np.isinf(expected).any() and np.isnan(expected).any()
    assert np.array_equal(np.isnan(received), np.isnan(expected))
    infinite = np.isinf(expected)
    assert np.array_equal(received[infinite], expected[infinite])
    assert np.array_equal(np.isinf(received), infinite)


@pytest.mark.parametrize("arithmetic, tile", combined_with_tiles(ARITHMETICS))
def test_results_are_the_same_to_the_bit(gpu, rng, arithmetic, tile):
    storage, tf32 = ARITHMETICS[arithmetic]
    geometry = GEOMETRIES["deformable groups"]
    inputs, _ = conv_problem(rng, storage, geometry).stored()
    runs = set()
    for seed in range(3):
        if gpu.is_emulated:
            gpu.emulate(seed=seed, multiprocessors=1 + seed)
        runs.add(gpu.conv_forward(storage, geometry, inputs, allow_tf32=tf32, tuning=(TILES[tile], 0, 0)).tobytes())
    assert len(runs) == 1
