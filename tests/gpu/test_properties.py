"""Random problems of every kind: the GPU's results are the processor's."""

import numpy as np
import pytest
from c_api import STORAGES, ConvGeometry, RoiGeometry
from problems import check_conv, check_roi, conv_problem, roi_problem

CAPABILITIES = [(7, 5), (8, 0), (9, 0)]
# Multiples of the vectors of all types, of some, and of none.
CHANNELS = [1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 40, 48]


def divisors(number):
    return [d for d in range(1, number + 1) if number % d == 0]


def random_conv(rng):
    """A convolution with at least one output pixel, and offsets of any size."""
    while True:
        channels = rng.choice(CHANNELS)
        groups, deformable_groups = rng.choice(divisors(channels), 2)
        filters = groups * rng.integers(1, max(2, 49 // groups))
        geometry = ConvGeometry(
            (int(rng.integers(1, 4)), *map(int, rng.integers(1, 12, 2)), int(channels)),
            (*map(int, rng.integers(1, 5, 2)), int(channels // groups), int(filters)),
            tuple(map(int, rng.integers(1, 4, 2))),
            tuple(map(int, rng.integers(1, 4, 2))),
            tuple(tuple(map(int, sides)) for sides in rng.integers(0, 4, (2, 2))),
            int(deformable_groups),
        )
        if min(geometry.out_size) > 0:
            return geometry


def random_rois(rng):
    levels = int(rng.integers(1, 4))
    return RoiGeometry(
        int(rng.integers(1, 4)),
        int(rng.choice(CHANNELS)),
        int(rng.integers(1, 12)),
        tuple(tuple(map(int, size)) for size in rng.integers(1, 20, (levels, 2))),
        tuple(float(scale) for scale in rng.choice([1, 1 / 2, 1 / 4, 1 / 16, 0.3], levels)),
        tuple(map(int, rng.integers(1, 8, 2))),
        int(rng.integers(0, 4)),
        bool(rng.integers(2)),
        float(rng.choice([0.1, 1.0])),
    )


def choose_device(rng, gpu):
    if gpu.is_emulated:
        capability = CAPABILITIES[rng.integers(len(CAPABILITIES))]
        gpu.emulate(capability, int(rng.choice([1, 4, 132])), int(rng.integers(1 << 30)))


@pytest.mark.parametrize("seed", range(40))
def test_any_convolution_equals_the_processors(gpu, cpu, seed):
    check_any_convolution(gpu, cpu, seed)


@pytest.mark.parametrize("seed", range(40))
def test_any_roi_pooling_equals_the_processors(gpu, cpu, seed):
    check_any_roi_pooling(gpu, cpu, seed)


@pytest.mark.slow
def test_many_more_problems(gpu, cpu):
    for seed in range(1000, 2000):
        check_any_convolution(gpu, cpu, seed)
        check_any_roi_pooling(gpu, cpu, seed)


def check_any_convolution(gpu, cpu, seed):
    rng = np.random.default_rng(seed)
    choose_device(rng, gpu)
    storage, spread = str(rng.choice(list(STORAGES))), rng.choice([0.0, 1.5, 10.0])
    problem = conv_problem(rng, storage, random_conv(rng), modulated=bool(rng.integers(2)), spread=spread)
    options = {name: bool(rng.integers(2)) for name in ("tf32", "deterministic")}
    check_conv(problem, cpu, gpu, **options, shift=int(rng.choice([0, 0, 1])))


def check_any_roi_pooling(gpu, cpu, seed):
    rng = np.random.default_rng(seed)
    choose_device(rng, gpu)
    deformed, modulated, deterministic = map(bool, rng.integers(0, 2, 3))
    storage = str(rng.choice(list(STORAGES)))
    problem = roi_problem(rng, storage, random_rois(rng), deformed=deformed, modulated=modulated)
    check_roi(problem, cpu, gpu, deterministic=deterministic, shift=int(rng.choice([0, 0, 1])))
