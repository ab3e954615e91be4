"""Results do not depend on the order in which threads run, and every device has kernels that are right."""

import numpy as np
import pytest
from c_api import STORAGES, ConvGeometry, RoiGeometry
from problems import check_conv, check_conv_gradients, check_conv_values, check_roi, conv_problem, roi_problem

# Two groups of each kind; vectors of all types. And the same for single elements.
CONV = {
    "vectors": ConvGeometry((2, 6, 5, 32), (3, 3, 16, 32), deformable_groups=2),
    "elements": ConvGeometry((2, 6, 5, 6), (3, 3, 3, 10), deformable_groups=2),
}
ROI = {
    "vectors": RoiGeometry(2, 16, 9, ((8, 7), (4, 4)), (1 / 4, 1 / 8), (3, 2)),
    "elements": RoiGeometry(2, 5, 9, ((8, 7), (4, 4)), (1 / 4, 1 / 8), (3, 2), sampling_ratio=0),
}


def results(gpu, storage, kind, deterministic):
    """Bytes of the values of both operators and of all their gradients, by name."""
    rng = np.random.default_rng(1)
    inputs, dy = conv_problem(rng, storage, CONV[kind]).stored()
    conv = gpu.conv_backward(storage, CONV[kind], inputs, dy, deterministic=deterministic)
    found = {"y": gpu.conv_forward(storage, CONV[kind], inputs), **conv._asdict()}
    inputs, dy = roi_problem(rng, storage, ROI[kind]).stored()
    roi = gpu.roi_backward(storage, ROI[kind], inputs, dy, deterministic=deterministic)
    found |= {"pooled": gpu.roi_forward(storage, ROI[kind], inputs), "roi offset": roi.offset, "roi mask": roi.mask}
    found |= {f"features {level}": gradient for level, gradient in enumerate(roi.features)}
    return {name: array.tobytes() for name, array in found.items()}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", CONV)
def test_deterministic_results_are_the_same_to_the_bit(gpu, storage, kind):
    runs = []
    for seed in range(5):
        if gpu.is_emulated:
            gpu.emulate(seed=seed)
        runs.append(results(gpu, storage, kind, deterministic=True))
    for name, first in runs[0].items():
        assert all(run[name] == first for run in runs), name


@pytest.mark.parametrize("storage, tf32", [("float32", False), ("float32", True), ("bfloat16", False)])
@pytest.mark.parametrize("deterministic", [False, True])
def test_deterministic_results_do_not_depend_on_the_number_of_multiprocessors(emulated, storage, tf32, deterministic):
    geometry = ConvGeometry((2, 15, 17, 40), (3, 1, 40, 136), padding=((1, 1), (0, 0)))
    inputs, dy = conv_problem(np.random.default_rng(1), storage, geometry).stored()
    options = {"allow_tf32": tf32, "deterministic": deterministic}
    runs = set()
    for multiprocessors in (1, 4, 114, 132) if deterministic else (1, 132):
        emulated.emulate(multiprocessors=multiprocessors)
        gradients = emulated.conv_backward(storage, geometry, inputs, dy, **options)
        y = emulated.conv_forward(storage, geometry, inputs, **options)
        runs.add((y.tobytes(), *(gradient.tobytes() for gradient in gradients)))
    # Without the option the kernel's gradient is summed in as many slices as occupy the device.
    assert (len(runs) == 1) == deterministic


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", CONV)
def test_only_gradients_of_maps_depend_on_the_order(gpu, storage, kind):
    runs = []
    for seed in range(5):
        if gpu.is_emulated:
            gpu.emulate(seed=seed)
        runs.append(results(gpu, storage, kind, deterministic=False))
    for name, first in runs[0].items():
        if name != "x" and not name.startswith("features"):
            assert all(run[name] == first for run in runs), name


def test_the_emulated_order_matters_to_atomic_additions(emulated):
    # What the test above relies on: the emulated device does run things in another order.
    runs = []
    for seed in range(5):
        emulated.emulate(seed=seed)
        runs.append(results(emulated, "float32", "vectors", deterministic=False))
    assert len({run["x"] for run in runs}) > 1
    assert len({run["features 0"] for run in runs}) > 1


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 6), (9, 0), (12, 0)], ids=lambda c: f"{c[0]}.{c[1]}")
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("tf32", [False, True], ids=["exact", "tf32"])
def test_every_device_has_kernels_that_are_right(emulated, rng, capability, storage, tf32):
    emulated.emulate(capability)
    cpu = emulated.processor()
    # TensorFlow's switch says nothing about types other than float32, and nothing to devices without TF32.
    check_conv(conv_problem(rng, storage, CONV["vectors"]), cpu, emulated, tf32=tf32)
    check_roi(roi_problem(rng, storage, ROI["vectors"]), cpu, emulated)


# Neither pixels nor channels fill the last tile.
WIDE = [
    ConvGeometry((1, 15, 17, 40), (1, 2, 40, 248), padding=((0, 0), (0, 1))),
    ConvGeometry((1, 15, 17, 136), (1, 1, 136, 120), padding=((0, 0), (0, 0))),
]


@pytest.mark.parametrize(
    "storage, capability, tf32, kinds",
    [("float32", (9, 0), False, 3), ("float32", (9, 0), True, 3), ("bfloat16", (9, 0), True, 4)],
    ids=["float32", "tf32", "bfloat16"],
)
def test_tiles_of_all_sizes_are_right(emulated, rng, storage, capability, tf32, kinds):
    cpu = emulated.processor()
    tiles = set()
    for shape in WIDE:
        problem = conv_problem(rng, storage, shape)
        for multiprocessors in (1, 2, 4):
            emulated.emulate(capability, multiprocessors)
            emulated.launches()
            check_conv_values(problem, cpu, emulated, tf32=tf32)
            tiles |= {(launch.threads, launch.shared_bytes) for launch in emulated.launches()}
            check_conv_gradients(problem, cpu, emulated, tf32=tf32)
    # Few multiprocessors are best used by large tiles, many by small ones.
    assert len(tiles) == kinds
