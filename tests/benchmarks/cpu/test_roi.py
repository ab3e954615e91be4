import sys

import numpy as np
import pytest

from benchmarks.agreement import Disagreement
from benchmarks.cpu import roi, roi_functions
from benchmarks.cpu.roi_functions import MODEL_GARDEN, MODULATED, ONE_SAMPLE, ROI_ALIGN
from benchmarks.cpu.sizes import FULL

pytestmark = pytest.mark.usefixtures("native_ops")


def run(sizes, log):
    return roi.run(sizes, threads=1, repetitions=1, log=log)


def test_pooling_is_measured_forward_and_backward(sizes, log):
    section = run(sizes, log)
    assert [group.work for group in section.groups] == ["forward", "forward + backward"]
    assert all(set(group.series) == {ROI_ALIGN, MODULATED, ONE_SAMPLE, MODEL_GARDEN} for group in section.groups)
    assert len(section.goals) == 4


def test_without_model_garden_ours_are_measured_alone(sizes, log, monkeypatch):
    monkeypatch.setitem(sys.modules, "official.vision.ops.spatial_transform_ops", None)
    section = run(sizes, log)
    assert section.groups[0].absent == {MODEL_GARDEN: "not installed"}
    assert set(section.groups[0].series) == {ROI_ALIGN, MODULATED, ONE_SAMPLE}
    assert section.goals == []


@pytest.mark.parametrize("contender", [ROI_ALIGN, MODULATED, MODEL_GARDEN])
def test_a_wrong_contender_fails_by_its_name(contender, sizes, log, monkeypatch):
    forward = roi_functions.forward

    def wrong(name, data):
        function = forward(name, data)
        return (lambda: [function()[0] + 0.1]) if name == contender else function

    monkeypatch.setattr(roi_functions, "forward", wrong)
    monkeypatch.setitem(roi._WORKS, "forward", wrong)
    with pytest.raises(Disagreement, match=f"^{contender} disagrees"):
        run(sizes, log)


def test_boxes_lie_in_the_image_and_are_spread_over_the_pyramid():
    boxes = roi_functions.make_data(FULL.roi).boxes.numpy()
    height, width = FULL.roi.image_size
    assert (boxes >= 0).all() and (boxes[:, 2] <= height).all() and (boxes[:, 3] <= width).all()
    sizes = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    assert (sizes > 1).all()
    shares = np.histogram(sizes, [0, 112, 224, 448, np.inf])[0] / len(boxes)
    assert (shares > 0.05).all() and shares[0] < 0.65
