"""Where reference data lies, and fixtures that give each test one file of it after the other. Needs no TensorFlow."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("TF_DCNV2_SHARED", REPOSITORY.parent / "shared"))
FOLDERS = (REPOSITORY / "tests" / "golden", SHARED / "golden")


def _each_file(name: str, pattern: str) -> Callable:
    """A fixture of the arrays of each file; one that skips where there are none."""
    paths = sorted(path for folder in FOLDERS for path in folder.glob(pattern))

    @pytest.fixture(name=name, params=paths or [None], ids=[path.stem for path in paths] or ["none"])
    def vectors(request) -> dict[str, np.ndarray]:
        if request.param is None:
            pytest.skip(f"no reference vectors: {SHARED} does not exist (set TF_DCNV2_SHARED)")
        with np.load(request.param) as arrays:
            return dict(arrays)

    return vectors


# Inputs, results and gradients of mmcv's modulated deformable convolution, and of MXNet's deformable RoI pooling.
deform_conv_vectors = _each_file("deform_conv_vectors", "deform_conv_*.npz")
psroi_vectors = _each_file("psroi_vectors", "psroi_*.npz")
