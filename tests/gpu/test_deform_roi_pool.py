"""Deformable RoI pooling on GPUs: values and all gradients, of every storage type, in both conventions."""

import dataclasses

import numpy as np
import pytest
from c_api import STORAGES, RoiGeometry
from kernels import RoiArrays, widen
from problems import check_roi, check_within, roi_problem


def geometry(channels=8, *, rois=9, sizes=((12, 10),), scales=(1 / 8,), pooled=(3, 2), **options):
    return RoiGeometry(2, channels, rois, sizes, scales, pooled, **options)


THREE_LEVELS = {"sizes": ((24, 20), (12, 10), (6, 5)), "scales": (1 / 4, 1 / 8, 1 / 16)}

GEOMETRIES = {
    "plain": geometry(),
    "7 x 7 bins": geometry(16, rois=3, pooled=(7, 7)),
    "many channels": geometry(200, rois=4),
    "vectors of 32 bits only": geometry(12),
    "odd channels": geometry(5),
    "one channel": geometry(1),
    "one sample": geometry(sampling_ratio=1),
    "many samples": geometry(sampling_ratio=5),
    "adaptive samples": geometry(sampling_ratio=0),
    "large displacements": geometry(gamma=1.0),
    "three levels": geometry(**THREE_LEVELS),
    "three levels, adaptive samples": geometry(12, sampling_ratio=0, **THREE_LEVELS),
    "one bin": geometry(pooled=(1, 1)),
    "map of one pixel": geometry(sizes=((1, 1),)),
}


@pytest.mark.parametrize("mxnet", [False, True], ids=["aligned", "mxnet"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", GEOMETRIES)
def test_values_and_gradients_equal_the_processors(gpu, cpu, rng, storage, name, mxnet):
    shape = dataclasses.replace(GEOMETRIES[name], mxnet=mxnet)
    check_roi(roi_problem(rng, storage, shape), cpu, gpu)


@pytest.mark.parametrize("mxnet", [False, True], ids=["aligned", "mxnet"])
@pytest.mark.parametrize("deformed, modulated", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", ["plain", "odd channels"])
def test_offsets_and_masks_may_be_left_out(gpu, cpu, rng, name, deformed, modulated, mxnet):
    shape = dataclasses.replace(GEOMETRIES[name], mxnet=mxnet)
    check_roi(roi_problem(rng, "float32", shape, deformed=deformed, modulated=modulated), cpu, gpu)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shift", [1, 2])
def test_arrays_need_no_alignment_beyond_their_elements(gpu, cpu, rng, storage, shift):
    check_roi(roi_problem(rng, storage, GEOMETRIES["plain"]), cpu, gpu, shift=shift)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["plain", "odd channels", "three levels, adaptive samples", "map of one pixel"])
def test_ordered_gradients_equal_the_processors(gpu, cpu, rng, storage, name):
    check_roi(roi_problem(rng, storage, GEOMETRIES[name]), cpu, gpu, deterministic=True)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("storage", ["float32", "float64"])
@pytest.mark.parametrize("times", [10, 3000])
def test_bins_larger_than_the_map_have_a_sample_for_each_of_their_pixels(gpu, cpu, rng, storage, deterministic, times):
    problem = roi_problem(rng, storage, geometry(sampling_ratio=0))
    centres = (problem.inputs.boxes[:, :2] + problem.inputs.boxes[:, 2:]) / 2
    sizes = times * (problem.inputs.boxes[:, 2:] - problem.inputs.boxes[:, :2])
    problem.inputs.boxes[:] = np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
    problem.inputs.offset[:] /= 4 * times
    check_roi(problem, cpu, gpu, deterministic=deterministic)


@pytest.mark.parametrize("deterministic", [False, True])
def test_features_that_no_roi_sees_have_zero_gradients(gpu, rng, deterministic):
    problem = roi_problem(rng, "float32", geometry(rois=0, **THREE_LEVELS))
    inputs, dy = problem.stored()
    assert gpu.roi_forward("float32", problem.geometry, inputs).shape == (0, 3, 2, 8)
    gradients = gpu.roi_backward("float32", problem.geometry, inputs, dy, deterministic=deterministic)
    assert not any(level.any() for level in gradients.features)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("storage", STORAGES)
def test_rois_of_no_image_or_level_are_nan_and_touch_nothing(gpu, cpu, rng, storage, deterministic):
    problem = roi_problem(rng, storage, geometry(rois=7, **THREE_LEVELS))
    wrong = {0: (-1, 0), 2: (2, 0), 3: (0, -1), 5: (1, 3), 6: (2**31 - 1, -(2**31))}
    right = [1, 4]
    for roi, indices in wrong.items():
        problem.inputs.box_indices[roi], problem.inputs.levels[roi] = indices
    inputs, dy = problem.stored()

    y = widen(gpu.roi_forward(storage, problem.geometry, inputs), storage)
    gradients = gpu.roi_backward(storage, problem.geometry, inputs, dy, deterministic=deterministic)

    for array in (y, gradients.offset, gradients.mask):
        assert np.isnan(array[list(wrong)]).all() and not np.isnan(array[right]).any()
    # The features' gradients are those of the other RoIs alone.
    alone = dataclasses.replace(problem.geometry, rois=len(right))
    parts = [array[right] for array in (inputs.boxes, inputs.box_indices, inputs.levels, inputs.offset, inputs.mask)]
    expected = cpu.roi_backward(storage, alone, RoiArrays(inputs.features, *parts), dy[right])
    for level, exact in zip(gradients.features, expected.features, strict=True):
        np.testing.assert_allclose(widen(level, storage), widen(exact, storage), rtol=0.01, atol=1e-4)


@pytest.mark.parametrize("deterministic", [False, True])
def test_mxnet_convention_equals_mxnet(gpu, psroi_vectors, deterministic):
    vectors = psroi_vectors
    bins = int(vectors["pooled_size"])
    parts = int(vectors["part_size"]) or bins
    part_of_bin = np.arange(bins) * parts // bins
    rois, data = vectors["rois"], vectors["data"]
    offset = None
    if not vectors["no_trans"]:
        # (N, (x, y), part, part) -> (N, bin, bin, (y, x)), each bin with the offset of its part.
        trans = vectors["trans"][:, ::-1][:, :, part_of_bin][:, :, :, part_of_bin]
        offset = np.ascontiguousarray(trans.transpose(0, 2, 3, 1))
    shape = RoiGeometry(
        *(data.shape[0], data.shape[1], len(rois), (data.shape[2:],), (float(vectors["spatial_scale"]),)),
        (bins, bins),
        sampling_ratio=int(vectors["sample_per_part"]),
        mxnet=True,
        gamma=float(vectors["trans_std"]),
    )
    indices = rois[:, 0].astype(np.int32)
    boxes = np.ascontiguousarray(rois[:, [2, 1, 4, 3]])
    inputs = RoiArrays(
        [np.ascontiguousarray(data.transpose(0, 2, 3, 1))], boxes, indices, np.zeros_like(indices), offset, None
    )

    y = gpu.roi_forward("float32", shape, inputs)
    dy = np.ascontiguousarray(vectors["dy"].transpose(0, 2, 3, 1))
    gradients = gpu.roi_backward("float32", shape, inputs, dy, deterministic=deterministic)

    # Both sides are float32. Gradients by offsets reach 30, and scale with it.
    y_expected, dx_expected = (vectors[name].transpose(0, 2, 3, 1) for name in ("y", "ddata"))
    check_within("y", y, y_expected, 1e-4 + 1e-5 * np.abs(y_expected))
    check_within("ddata", gradients.features[0], dx_expected, 1e-4 + 1e-5 * np.abs(dx_expected))
    if offset is not None:
        dtrans = np.zeros_like(vectors["dtrans"])
        rows, columns = np.meshgrid(part_of_bin, part_of_bin, indexing="ij")
        np.add.at(dtrans, (..., rows, columns), gradients.offset.transpose(0, 3, 1, 2)[:, ::-1])
        check_within("dtrans", dtrans, vectors["dtrans"], 1e-4 + 1e-5 * np.abs(vectors["dtrans"]))
