"""The devices that the kernels run on, and what they are compared with."""

import functools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from kernels import Kernels

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TF_DCNV2_SHARED", REPOSITORY.parent / "shared"))

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


def _load(path: Path | None) -> dict[str, np.ndarray]:
    if path is None:
        pytest.skip(f"no reference vectors: {SHARED} does not exist (set TF_DCNV2_SHARED)")
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture
def mmcv_vectors(request) -> dict[str, np.ndarray]:
    """Inputs, results and gradients of mmcv's modulated deformable convolution."""
    return _load(request.param)


@pytest.fixture
def mxnet_vectors(request) -> dict[str, np.ndarray]:
    """Inputs, results and gradients of MXNet's deformable RoI pooling."""
    return _load(request.param)


def pytest_generate_tests(metafunc):
    """One test for each file of reference vectors; one that skips where there are none."""
    for fixture, pattern in {"mmcv_vectors": "deform_conv_*.npz", "mxnet_vectors": "psroi_*.npz"}.items():
        if fixture in metafunc.fixturenames:
            folders = [REPOSITORY / "tests" / "golden", SHARED / "golden"]
            paths = sorted(path for folder in folders for path in folder.glob(pattern))
            metafunc.parametrize(fixture, paths or [None], indirect=True, ids=[path.stem for path in paths] or ["none"])
