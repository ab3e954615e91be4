import numpy as np
import pytest

from tf_dcnv2.data.coco.box_formats import BOX_FORMATS, BoxEvidence, other_format, outlines_disagree, to_coco


def written_as(xywh, name, sizes):
    """COCO's boxes as a tool with another convention writes them."""
    x, y, width, height = xywh.T
    layout, _, unit = name.partition("-")
    columns = {
        "xywh": (x, y, width, height),
        "xyxy": (x, y, x + width, y + height),
        "yxyx": (y, x, y + height, x + width),
        "cxcywh": (x + width / 2, y + height / 2, width, height),
    }[layout]
    whole = {"": None, "normalized": 1.0, "percent": 100.0}[unit]
    columns = np.stack(columns, axis=-1)
    if whole is None:
        return columns
    by = sizes if layout == "yxyx" else sizes[:, ::-1]
    return columns / np.tile(by, 2) * whole


def evidence(name, outlines=False, areas=False, count=60, sizes=(480, 640)):
    rng = np.random.default_rng(0)
    sizes = np.tile(np.float64([sizes]), [count, 1])
    sides = rng.uniform(0.05, 0.4, [count, 2]) * sizes[:, ::-1]
    corner = rng.uniform(0, 1, [count, 2]) * (sizes[:, ::-1] - sides)
    xywh = np.concatenate([corner, sides], axis=1)
    return BoxEvidence(
        written_as(xywh, name, sizes),
        sizes,
        xywh if outlines else np.full_like(xywh, np.nan),
        sides.prod(axis=1) if areas else np.full(count, np.nan),
        np.arange(count) // 4,
    )


@pytest.mark.parametrize("name", BOX_FORMATS)
def test_boxes_of_every_format_become_cocos(name):
    found = evidence(name)
    expected = evidence("xywh").boxes
    np.testing.assert_allclose(to_coco(found.boxes, name, found.sizes), expected, atol=1e-9)


@pytest.mark.parametrize("name", BOX_FORMATS[1:])
def test_segmentations_give_every_other_format_away(name):
    suspicion = other_format(evidence(name, outlines=True))
    assert suspicion.formats == (name,)
    assert suspicion.share == 1
    assert f"100% of them look like {name}" in str(suspicion)


@pytest.mark.parametrize("name", ["xyxy", "xyxy-normalized", "xywh-normalized", "cxcywh-normalized"])
@pytest.mark.parametrize("areas", [True, False])
def test_other_formats_are_noticed_without_segmentations(name, areas):
    assert name in other_format(evidence(name, areas=areas)).formats


def test_percent_of_large_images_are_noticed_without_segmentations():
    suspicion = other_format(evidence("xywh-percent"))
    assert (suspicion.formats, suspicion.share) == (("xywh-percent",), 1.0)


@pytest.mark.parametrize("outlines", [True, False])
@pytest.mark.parametrize("areas", [True, False])
def test_cocos_own_boxes_raise_no_suspicion(outlines, areas):
    found = evidence("xywh", outlines, areas)
    assert other_format(found) is None
    assert outlines_disagree(found) == 0


def test_boxes_past_the_border_and_boxes_of_whole_images_raise_no_suspicion():
    sizes = np.tile([[480.0, 640.0]], [4, 1])
    for boxes in ([[-20, -20, 700, 520]] * 4, [[0, 0, 640, 480]] * 4, [[0, 0, 0, 0]] * 4, [[600, 300, 60, 40]] * 4):
        unknown = np.full([4, 4], np.nan)
        assert other_format(BoxEvidence(np.float64(boxes), sizes, unknown, np.full(4, np.nan), np.arange(4))) is None


def test_real_coco_boxes_raise_no_suspicion(shared_dir):
    from tf_dcnv2.data.coco.annotations import read_coco_annotations

    for path in sorted((shared_dir / "data").glob("*/annotations/instances_*.json")):
        content = read_coco_annotations(path)
        assert (content.findings.warnings, content.skipped, content.findings.repaired) == ([], [], [])


def test_fractions_are_noticed_where_boxes_begin_at_the_border():
    boxes = np.tile([[0.0, 0.0, 0.5, 0.4], [0.0, 0.3, 1.0, 0.7]], [20, 1])
    unknown = np.full_like(boxes, np.nan)
    found = other_format(BoxEvidence(boxes, np.full([40, 2], 480.0), unknown, unknown[:, 0], np.arange(40)))
    assert found.formats and all(name.endswith("-normalized") for name in found.formats)
