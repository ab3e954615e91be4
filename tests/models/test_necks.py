"""The feature pyramid."""

import numpy as np
import pytest

from tf_dcnv2.models.necks import add_enlarged


@pytest.mark.parametrize("size", [(4, 6), (3, 6), (4, 5), (3, 5)])
def test_every_cell_of_a_level_gets_the_coarser_cell_above_it_for_odd_sizes_too(size, rng):
    fine = rng.standard_normal((2, *size, 3)).astype(np.float32)
    coarse = rng.standard_normal((2, *(-(-side // 2) for side in size), 3)).astype(np.float32)
    merged = add_enlarged(fine, coarse).numpy()
    assert merged.shape == fine.shape
    for row, column in np.ndindex(size):
        np.testing.assert_allclose(
            merged[:, row, column], fine[:, row, column] + coarse[:, row // 2, column // 2], rtol=1e-6
        )
