"""mmdetection's deformable RoI pooling, with its branches on each level, against its formulas in float64."""

import numpy as np
import pytest
import tensorflow as tf

from tests.support import torch_files
from tests.support.torch_detectors import mmdetection_weights
from tf_dcnv2.models import FasterRCNN, load_preset
from tf_dcnv2.models.checkpoints import import_detector

PRESETS = {"v1": "mmdet/faster-rcnn_r50_fpn_dpool_1x_coco", "v2": "mmdet/faster-rcnn_r50_fpn_mdpool_1x_coco"}
CHANNELS, BINS = 16, 7


def interpolate(features, y, x):
    """The value of `(C, H, W)` at a point: zero more than a pixel outside, on the border's pixels before that."""
    _, height, width = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(features))
    y, x = (min(max(value, 0), size - 1) for value, size in ((y, height), (x, width)))
    top, left = (min(int(value), size - 2) for value, size in ((y, height), (x, width)))
    down, right = y - top, x - left
    square = features[:, top : top + 2, left : left + 2]
    return np.einsum("cij,i,j->c", square, [1 - down, down], [1 - right, right])


def pool_aligned(features, box, scale, offset):
    """mmcv's `deform_roi_pool` of one box (x1, y1, x2, y2); `offset` is ((x, y), row, column)."""
    x1, y1, x2, y2 = box * scale - 0.5
    bin_height, bin_width = (y2 - y1) / BINS, (x2 - x1) / BINS
    rows, columns = max(int(np.ceil(bin_height)), 1), max(int(np.ceil(bin_width)), 1)
    pooled = np.zeros([len(features), BINS, BINS])
    for row, column in np.ndindex(BINS, BINS):
        left = x1 + column * bin_width + 0.1 * (x2 - x1) * offset[0, row, column]
        top = y1 + row * bin_height + 0.1 * (y2 - y1) * offset[1, row, column]
        samples = [
            interpolate(features, top + (i + 0.5) * bin_height / rows, left + (j + 0.5) * bin_width / columns)
            for i, j in np.ndindex(rows, columns)
        ]
        pooled[:, row, column] = np.mean(samples, axis=0)
    return pooled


def pool_mxnet(features, box, scale, offset, samples=4):
    """`DeformRoIPooling` of mmdetection's first releases, with one group."""
    _, height, width = features.shape
    x1, y1 = np.round(box[:2]) * scale - 0.5
    x2, y2 = (np.round(box[2:]) + 1.0) * scale - 0.5
    roi_width, roi_height = max(x2 - x1, 0.1), max(y2 - y1, 0.1)
    pooled = np.zeros([len(features), BINS, BINS])
    for row, column in np.ndindex(BINS, BINS):
        left = x1 + column * roi_width / BINS + 0.1 * roi_width * offset[0, row, column]
        top = y1 + row * roi_height / BINS + 0.1 * roi_height * offset[1, row, column]
        values = []
        for i, j in np.ndindex(samples, samples):
            y, x = top + i * roi_height / BINS / samples, left + j * roi_width / BINS / samples
            if -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5:
                values.append(interpolate(features, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)))
        pooled[:, row, column] = np.mean(values, axis=0) if values else 0
    return pooled


def fully_connected(weights, name, x):
    return weights[f"{name}.weight"].astype(np.float64) @ x + weights[f"{name}.bias"]


def pool_by_branch(weights, features, box, level, pool):
    """The forward pass of mmcv's `(Modulated)DeformRoIPoolPack` for one box of a level."""
    layer, scale = f"roi_head.bbox_roi_extractor.roi_layers.{level}", 0.25 / 2**level
    plain = pool(features, box, scale, np.zeros([2, BINS, BINS])).reshape(-1)
    hidden = np.maximum(fully_connected(weights, f"{layer}.offset_fc.0", plain), 0)
    hidden = np.maximum(fully_connected(weights, f"{layer}.offset_fc.2", hidden), 0)
    offset = fully_connected(weights, f"{layer}.offset_fc.4", hidden).reshape(2, BINS, BINS)
    pooled = pool(features, box, scale, offset)
    if f"{layer}.mask_fc.0.weight" in weights:
        hidden = np.maximum(fully_connected(weights, f"{layer}.mask_fc.0", plain), 0)
        logits = fully_connected(weights, f"{layer}.mask_fc.2", hidden).reshape(BINS, BINS)
        pooled = pooled / (1 + np.exp(-logits))
    return pooled


@pytest.fixture
def levels(rng):
    """P2 to P5 of an image of 256 x 320 pixels, `(C, H, W)`."""
    return [rng.standard_normal((CHANNELS, 64 >> k, 80 >> k)) for k in range(4)]


# x1, y1, x2, y2: two of each level, some of them reaching over the image.
BOXES = np.array(
    [
        [3.3, 10.7, 61.2, 44.9], [250, 200, 330, 262], [20, 15, 141.6, 170.3], [-30, 90, 120, 200],
        [31.4, 5.1, 290.8, 255.5], [-20, -40, 330, 220], [-200, -180, 400, 420], [-60, -150, 560, 420],
    ]
)  # fmt: skip
LEVELS = np.array([0, 0, 1, 1, 2, 2, 3, 3])


@pytest.mark.parametrize("pooling", ["v1", "v2"])
@pytest.mark.parametrize("convention", ["aligned", "mxnet"])
def test_pooled_features_are_those_of_mmdetection(tmp_path, levels, pooling, convention):
    weights = mmdetection_weights(pooling=pooling)
    torch_files.save({"meta": {}, "state_dict": weights}, tmp_path / "model.pth")
    settings = {} if convention == "aligned" else {"pool_convention": "mxnet", "sampling_ratio": 4}
    detector = FasterRCNN.from_checkpoint(
        tmp_path / "model.pth",
        preset=PRESETS[pooling],
        **{f"box_head.{name}": value for name, value in settings.items()},
    )
    assert not detector.weight_report.skipped

    maps = [tf.constant(level.transpose(1, 2, 0)[None], tf.float32) for level in levels]
    boxes = BOXES[:, [1, 0, 3, 2]].astype(np.float32)
    found = detector.box_head.pool(maps, boxes, tf.zeros(len(boxes), tf.int32)).numpy()

    pool = pool_aligned if convention == "aligned" else pool_mxnet
    for value, box, level in zip(found, BOXES, LEVELS, strict=True):
        expected = pool_by_branch(weights, levels[level], box, level, pool)
        np.testing.assert_allclose(value.transpose(2, 0, 1), expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("pooling", ["v1", "v2"])
def test_branches_are_found_by_their_names(tmp_path, pooling):
    torch_files.save(mmdetection_weights(pooling=pooling), tmp_path / "model.pth")
    config = import_detector(tmp_path / "model.pth").config.box_head
    assert config.pooling == pooling and config.pool_branch_per_level and config.pool_branch_units == 24
    assert config.pool_mask_branch == (pooling == "v2") and config.pool_convention == "aligned"
    preset = load_preset(PRESETS[pooling]).box_head
    assert preset.replace(pool_branch_units=24, units=32) == config


LAYERS = {
    "ModulatedDeformRoIPoolPack": ("aligned", 0),
    "ModulatedDeformRoIPoolingPack": ("mxnet", 4),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_configuration_says_where_the_bins_are(tmp_path, kind):
    torch_files.save(mmdetection_weights(pooling="v2"), tmp_path / "model.pth")
    size = "output_size=7, output_channels=16" if LAYERS[kind][0] == "aligned" else "out_size=7, trans_std=0.1"
    (tmp_path / "config.py").write_text(
        f"model = dict(roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(type='{kind}', {size}))))\n"
    )
    config = import_detector(tmp_path / "model.pth", config=tmp_path / "config.py").config.box_head
    assert (config.pool_convention, config.sampling_ratio) == LAYERS[kind]
    (tmp_path / "config.py").write_text(
        "model = dict(roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(type='RoIPool', output_size=7))))\n"
    )
    with pytest.raises(ValueError, match=r"roi_layer.type must be \"RoIAlign\" or .*Received: 'RoIPool'"):
        import_detector(tmp_path / "model.pth", config=tmp_path / "config.py")
