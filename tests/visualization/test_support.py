"""Columns of spatial support, from a detector to pictures."""

import re

import numpy as np
import pytest

from tests.support.detectors import CATEGORY_IDS, tiny_config
from tf_dcnv2 import analysis
from tf_dcnv2.visualization import ROI_ROWS, SUPPORT_ROWS, roi_panels, support_panels

BOX = (10.0, 20.0, 50.0, 80.0)


@pytest.fixture(scope="module")
def detector():
    return tiny_config("fpn").build(CATEGORY_IDS)


@pytest.fixture
def image(rng) -> np.ndarray:
    return rng.uniform(0, 255, [64, 96, 3]).astype(np.float32)


def test_a_node_has_a_picture_for_every_row_and_captions_with_the_measures(detector, image):
    node = analysis.ConvNode("C4", 2, 3)
    panels = support_panels(detector, image, node, box=BOX, depth=2, saliency=False)
    assert len(panels) == len(SUPPORT_ROWS) - 1
    assert {panel.picture.shape for panel in panels} == {(480, 720, 3)}
    field = analysis.effective_receptive_field(detector, image, node)
    assert panels[0].caption == "C4, row 2, column 3"
    assert panels[2].caption == f"{100 * analysis.receptive_field_share(field, BOX):.0f} % inside the box"


def test_a_roi_has_a_picture_for_every_row_and_its_region_keeps_the_bound(detector, image):
    looks = []
    panels = roi_panels(
        detector, image, analysis.RoINode(BOX), bound=0.9, progress=lambda step, count: looks.append(count)
    )
    assert len(panels) == len(ROI_ROWS)
    assert all(re.fullmatch(r"\d+ % inside the box", panel.caption) for panel in panels[:2])
    assert re.fullmatch(r"error 0\.\d\d\d < 0\.9; [\d.e-]+ times the box", panels[2].caption)
    assert looks == sorted(looks) and looks
