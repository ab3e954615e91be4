"""Where reference data lies, and fixtures that give each test one file of it after the other. Needs no TensorFlow."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Photographs of data sets whose licences do not allow copies here.
SHARED = Path(os.environ.get("TF_DCNV2_SHARED", REPOSITORY.parent / "shared"))
GOLDEN = REPOSITORY / "tests" / "golden"


def _each_file(name: str, pattern: str) -> Callable:
    """A fixture of the arrays of each file."""
    paths = sorted(GOLDEN.glob(pattern))

    @pytest.fixture(name=name, params=paths, ids=[path.stem for path in paths])
    def vectors(request) -> dict[str, np.ndarray]:
        with np.load(request.param) as arrays:
            return dict(arrays)

    return vectors


# Inputs, results and gradients of mmcv's modulated deformable convolution, and of MXNet's deformable RoI pooling.
deform_conv_vectors = _each_file("deform_conv_vectors", "deform_conv_*.npz")
psroi_vectors = _each_file("psroi_vectors", "psroi_*.npz")
