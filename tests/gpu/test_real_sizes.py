"""Problems of the size that detectors have, which would take hours on the emulated device."""

import pytest
from c_api import STORAGES, ConvGeometry, RoiGeometry
from problems import check_conv, check_roi, conv_problem, roi_problem

# The 3 x 3 convolutions of ResNet-50's stages 3 to 5 on an image of 800 x 1344, and ResNeXt's.
CONVOLUTIONS = {
    "stage 3": ConvGeometry((1, 100, 168, 128), (3, 3, 128, 128)),
    "stage 4": ConvGeometry((2, 50, 84, 256), (3, 3, 256, 256)),
    "stage 5": ConvGeometry((1, 50, 84, 512), (3, 3, 512, 512), dilation=(2, 2), padding=((2, 2), (2, 2))),
    "stage 4, 32 groups": ConvGeometry((1, 50, 84, 512), (3, 3, 16, 512), deformable_groups=4),
}
FPN = ((200, 336), (100, 168), (50, 84), (25, 42))
POOLINGS = {
    "one level": RoiGeometry(2, 256, 256, ((50, 84),), (1 / 16,), (7, 7)),
    "four levels": RoiGeometry(2, 256, 256, FPN, (1 / 4, 1 / 8, 1 / 16, 1 / 32), (7, 7)),
    "four levels, adaptive samples": RoiGeometry(1, 64, 64, FPN, (1 / 4, 1 / 8, 1 / 16, 1 / 32), (7, 7), 0),
}


@pytest.fixture
def real(gpu):
    if gpu.is_emulated:
        pytest.skip("for GPUs only")
    return gpu


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "ordered"])
@pytest.mark.parametrize("storage, tf32", [("float32", True), *((storage, False) for storage in STORAGES)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_detectors(real, cpu, rng, name, storage, tf32, deterministic):
    check_conv(conv_problem(rng, storage, CONVOLUTIONS[name]), cpu, real, tf32=tf32, deterministic=deterministic)


@pytest.mark.parametrize("deterministic", [False, True], ids=["atomic", "ordered"])
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_of_detectors(real, cpu, rng, name, storage, deterministic):
    check_roi(roi_problem(rng, storage, POOLINGS[name]), cpu, real, deterministic=deterministic)
