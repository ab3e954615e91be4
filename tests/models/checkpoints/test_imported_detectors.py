"""Detectors of other projects compute here what they compute there: networks with random weights, stage by stage."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.data import prepare_image
from tf_dcnv2.evaluation import paste_mask
from tf_dcnv2.models import FasterRCNN, MaskRCNN

LEVELS = ("p2", "p3", "p4", "p5", "p6")
# Case -> checkpoint, and the configuration to read it with; mmdetection's files hold theirs.
CASES = {
    "tv_faster": ("model.pth", "config.json"),
    "tv_mask": ("model.pth", "config.json"),
    "d2_mask": ("model_final.pkl", "config.yaml"),
    "mm_faster_dconv": ("model.pth", None),
    "mm_faster_mdconv_group4": ("model.pth", "config.py"),
    "mm_mask_mdconv": ("model.pth", None),
    "mm_mask_regular": ("epoch_12.pth", "config.json"),
}


class Case:
    """A golden network, its detector here, and the reference values in this package's layout."""

    def __init__(self, folder: Path):
        self.name = folder.name
        checkpoint, config = CASES[self.name]
        kind = MaskRCNN if "mask" in self.name else FasterRCNN
        path = None if config is None else folder / config
        self.detector = kind.from_checkpoint(folder / checkpoint, config=path)
        self.values = np.load(folder / "image_a.npz")
        self.batch = np.load(folder / "images_bc.npz")
        self.images = np.load(folder.parent / "images.npz")

    def map(self, name: str) -> np.ndarray:
        return self.values[name].transpose(0, 2, 3, 1)

    def deltas(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(*values.shape[:-1], -1, 4)[..., [1, 0, 3, 2]]

    def category_ids(self, labels: np.ndarray) -> np.ndarray:
        return labels if self.name.startswith("tv") else np.array(self.detector.category_ids)[labels]

    def original(self, image: str, values, prefix: str = "") -> np.ndarray:
        """The photograph: the large one where it has to be resized."""
        is_resized = tuple(values[f"{prefix}original_size"]) != tuple(values[f"{prefix}resized_size"])
        return self.images[f"{image}_large" if is_resized else image]


# One of each project with masks, and the deformable one whose RoIs come from all levels.
QUICK = ("tv_mask", "d2_mask", "mm_mask_mdconv")


@pytest.fixture(scope="module", params=CASES)
def case(request, shared_dir) -> Case:
    return Case(shared_dir / "golden" / "detectors" / request.param)


def assert_close(value, expected, tolerance=1e-3):
    """Within a share of the largest value."""
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_every_stage_computes_what_the_project_computes(case):
    detector, values = case.detector, case.values
    features = detector.backbone(case.map("input"))
    for name in ("c3", "c4", "c5"):
        assert_close(features[name.upper()], case.map(name))
    levels = detector.neck(features)
    for name, level in zip(LEVELS, levels["rpn"], strict=True):
        assert_close(level, case.map(name))

    logits, deltas = detector.rpn(levels["rpn"])
    anchors = detector.rpn.anchors(levels["rpn"], tf.constant(case.map("input").shape[1:3]))
    for index, name in enumerate(LEVELS):
        assert_close(logits[index], case.map(f"rpn_logits_{name}").reshape(1, -1))
        assert_close(deltas[index], case.deltas(case.map(f"rpn_deltas_{name}")).reshape(1, -1, 4))
        np.testing.assert_allclose(anchors[index], values[f"anchors_{name}"][:, [1, 0, 3, 2]], atol=1e-4)
    size = tf.constant([values["resized_size"]], tf.float32)
    proposals, scores = detector.rpn.propose(logits, deltas, anchors, size, training=False)
    expected = values["proposals"][:, [1, 0, 3, 2]]
    found = proposals[0].numpy()[scores[0].numpy() > 0]
    assert len(found) == len(expected)
    nearest = [np.abs(found - box).max(axis=1).min() for box in expected]
    assert np.mean(np.array(nearest) < 0.05) >= 0.99

    chosen = expected[values["roi_index"]].astype(np.float32)
    images = tf.zeros(len(chosen), tf.int32)
    assert_close(detector.box_head.pool(levels["roi"], chosen, images), case.map("roi_features"))
    class_logits, class_deltas = detector.box_head(levels["roi"], chosen[None])
    background_first = values["class_logits"]
    boxes = case.deltas(values["box_deltas"])
    if case.name.startswith("tv"):
        boxes = boxes[:, 1:]
    else:
        background_first = np.roll(background_first, 1, axis=-1)
    assert_close(class_logits[0], background_first)
    assert_close(class_deltas[0], boxes)
    if detector.has_mask_head:
        rois = values["mask_rois"][:, [1, 0, 3, 2]].astype(np.float32)
        pooled = detector.mask_head.pool(levels["roi"], rois[:2], tf.zeros(2, tf.int32))
        assert_close(pooled, case.map("mask_roi_features"))
        count = len(values["mask_logits"])
        masks = detector.mask_head(levels["roi"], rois[:count], tf.zeros(count, tf.int32))
        classes = [detector.category_ids.index(i) for i in case.category_ids(values["labels"][:count])]
        assert_close(masks.numpy()[np.arange(count), :, :, classes], values["mask_logits"])


def assert_detected(case: Case, found: dict, values, prefix: str = ""):
    """Every detection is there: class, box within 0.05 pixels, score within 0.001."""
    boxes = values[f"{prefix}boxes"][:, [1, 0, 3, 2]]
    classes, scores = case.category_ids(values[f"{prefix}labels"]), values[f"{prefix}scores"]
    assert len(found["boxes"]) == len(boxes)
    free = np.ones(len(boxes), bool)
    matches = []
    for box, category, score in zip(boxes, classes, scores, strict=True):
        fits = free & (found["classes"] == category) & (np.abs(found["scores"] - score) < 1e-3)
        fits &= np.abs(found["boxes"] - box).max(axis=1) < 0.05
        assert fits.any(), f"no detection of {category} at {box}"
        matches.append(int(np.flatnonzero(fits)[0]))
        free[matches[-1]] = False
    return matches


def check_detections(case):
    image = case.original("a", case.values)
    found = case.detector.detect(image)
    matches = assert_detected(case, found, case.values)
    if case.detector.has_mask_head:
        whole_pixels = case.detector.whole_pixel_masks
        for index, expected in zip(matches, case.values["masks"], strict=True):
            mask = paste_mask(
                found["masks"][index], found["boxes"][index], *image.shape[:2], whole_pixels=whole_pixels
            ).astype(bool)
            union = (mask | expected).sum()
            assert union == 0 or (mask & expected).sum() / union >= 0.99


@pytest.mark.parametrize(
    "case", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CASES], indirect=True
)
def test_the_detections_of_a_photograph_are_those_of_the_project(case):
    check_detections(case)


@pytest.mark.slow
def test_the_detections_of_a_padded_batch_are_those_of_the_project(case):
    values, images = case.batch, []
    for image in ("b", "c"):
        detector = case.detector
        inputs = prepare_image(
            case.original(image, values, f"{image}."),
            short_side=detector.short_side,
            max_side=detector.max_side,
            size_multiple=1,
            resizing=detector.resizing,
        )
        np.testing.assert_array_equal(inputs["image_sizes"][0], values[f"{image}.resized_size"])
        images.append(inputs["images"][0].numpy())
    height, width = values["b.padded_size"]
    padded = np.stack([np.pad(i, [(0, height - i.shape[0]), (0, width - i.shape[1]), (0, 0)]) for i in images])
    sizes = np.array([i.shape[:2] for i in images], np.float32)
    found = case.detector(padded, sizes)
    for index, image in enumerate("bc"):
        count = int(found["num_detections"][index])
        own = {name: found[name][index, :count].numpy() for name in ("boxes", "scores", "classes")}
        scale = values[f"{image}.original_size"] / values[f"{image}.resized_size"]
        own["boxes"] = own["boxes"] * np.tile(scale, 2)
        assert_detected(case, own, values, f"{image}.")


def test_no_weight_is_unexplained(case):
    report = case.detector.weight_report
    assert all("counter" in reason for reason in report.skipped.values())
    assert all(name.endswith("_conv/bias") for name in report.new)
    assert len(report.loaded) + len(report.new) == len(case.detector.weights)
