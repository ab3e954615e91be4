"""The devices that the kernels run on, and what they are compared with."""

import functools
import os
import shutil

import numpy as np
import pytest
from kernels import Kernels
from lost_device import pytest_runtest_teardown  # noqa: F401, a hook

from tests.support.reference_vectors import deform_conv_vectors, psroi_vectors  # noqa: F401, fixtures

_kernels = functools.cache(Kernels)


def _cuda_is_available() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available() and shutil.which("nvcc") is not None


def _devices() -> list[str]:
    """DCNV2_TEST_DEVICES, such as "cuda" or "emulated-checked" (see kernels.py); or those that there are."""
    named = os.environ.get("DCNV2_TEST_DEVICES", "")
    return named.split(",") if named else ["emulated", *(["cuda"] if _cuda_is_available() else [])]


@pytest.fixture(params=_devices())
def gpu(request) -> Kernels:
    """A device that runs the CUDA kernels."""
    kernels = _kernels(request.param)
    if kernels.is_emulated:
        kernels.emulate()
    return kernels


@pytest.fixture
def emulated() -> Kernels:
    """The emulated device, for what a real one cannot be asked."""
    names = [name for name in _devices() if name.startswith("emulated")]
    if not names:
        pytest.skip("DCNV2_TEST_DEVICES leaves the emulated device out")
    kernels = _kernels(names[0])
    kernels.emulate()
    return kernels


@pytest.fixture
def cpu(gpu) -> Kernels:
    """The processor's own kernels."""
    return gpu.processor()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
