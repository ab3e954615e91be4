"""torchvision's second versions, with more convolutions and normalisations, against their formulas in float64.

The reference is written here from torchvision's definition, in its layout (N, C, H, W) and by its names.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support import torch_files
from tests.support.detectors import assert_detects_the_same_when_loaded, make_batch
from tests.support.torch_detectors import torchvision_v2_weights, torchvision_weights
from tf_dcnv2.models import MaskRCNN, load_preset
from tf_dcnv2.models.checkpoints import import_detector

PRESET = "torchvision/maskrcnn_resnet50_fpn_v2"


@pytest.fixture(scope="module")
def weights():
    return torchvision_v2_weights()


@pytest.fixture(scope="module")
def path(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("v2") / "model.pth"
    torch_files.save(weights, path)
    return path


@pytest.fixture(scope="module")
def detector(path):
    # All RoIs come from P2, so that the tests can say what is pooled.
    return MaskRCNN.from_checkpoint(path, short_side=96, **{"neck.canonical_size": 1e6})


class Reference:
    """torchvision's layers on maps `(N, C, H, W)`, float64."""

    def __init__(self, weights):
        self._weights = weights

    def conv(self, name, x):
        weight = self._weights[f"{name}.weight"].astype(np.float64)
        side = weight.shape[2]
        padded = np.pad(x, [(0, 0), (0, 0), (side // 2, side // 2), (side // 2, side // 2)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True)
        return y + self._weights[f"{name}.bias"][:, None, None] if f"{name}.bias" in self._weights else y

    def norm(self, name, x):
        mean, variance, scale, shift = (
            self._weights[f"{name}.{parameter}"].astype(np.float64)[:, None, None]
            for parameter in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def conv_norm(self, name, x):
        return self.norm(f"{name}.1", self.conv(f"{name}.0", x))

    def linear(self, name, x):
        return x @ self._weights[f"{name}.weight"].astype(np.float64).T + self._weights[f"{name}.bias"]

    def upsample(self, name, x):
        weight = self._weights[f"{name}.weight"].astype(np.float64)  # (in, out, 2, 2), stride 2
        n, _, height, width = x.shape
        y = np.einsum("nchw,coij->nohiwj", x, weight, optimize=True).reshape(n, -1, 2 * height, 2 * width)
        return y + self._weights[f"{name}.bias"][:, None, None]


def relu(x):
    return np.maximum(x, 0)


def to_tf(x):
    return tf.constant(x.transpose(0, 2, 3, 1), tf.float32)


def assert_close(value, expected):
    np.testing.assert_allclose(value, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_shapes_and_names_tell_the_second_version(path):
    config = import_detector(path).config
    assert config.rpn.convolutions == 2
    assert (config.box_head.convolutions, config.box_head.conv_channels) == (4, 24)
    assert (config.box_head.fully_connected, config.box_head.units, config.box_head.pool_size) == (1, 32, 7)
    assert (config.mask_head.convolutions, config.mask_head.channels) == (4, 20)
    assert {config.neck.norm, config.box_head.norm, config.mask_head.norm} == {"frozen_batch"}
    # Normalisations that were trained have counters, and the usual epsilon.
    assert config.backbone.norm_epsilon == config.neck.norm_epsilon == config.box_head.norm_epsilon == 1e-5
    assert import_detector(path, preset=PRESET).config == config


def test_the_preset_describes_the_second_version(path):
    narrow = {
        "backbone.depths": (1, 1, 1, 1),
        "backbone.widths": (8, 8, 8, 8),
        "backbone.stem_width": 8,
        "neck.channels": 16,
        "rpn.channels": 16,
        "box_head.conv_channels": 24,
        "box_head.units": 32,
        "mask_head.channels": 20,
    }
    assert load_preset(PRESET).replace(**narrow, **{"backbone.width_per_group": 64}) == import_detector(path).config


def test_the_pyramid_normalises_each_convolution(detector, weights, rng):
    reference = Reference(weights)
    features = [rng.standard_normal((1, 32, 24 >> k, 32 >> k)) for k in range(4)]
    merged = [reference.conv_norm(f"backbone.fpn.inner_blocks.{k}", x) for k, x in enumerate(features)]
    for k in reversed(range(3)):
        merged[k] = merged[k] + merged[k + 1].repeat(2, axis=2).repeat(2, axis=3)
    levels = detector.neck({f"C{k + 2}": to_tf(x) for k, x in enumerate(features)})
    for k, level in enumerate(levels["roi"]):
        assert_close(level, reference.conv_norm(f"backbone.fpn.layer_blocks.{k}", merged[k]).transpose(0, 2, 3, 1))


def test_the_rpn_has_two_convolutions(detector, weights, rng):
    reference, level = Reference(weights), rng.standard_normal((1, 16, 6, 8))
    hidden = relu(reference.conv("rpn.head.conv.1.0", relu(reference.conv("rpn.head.conv.0.0", level))))
    logits, _ = detector.rpn([to_tf(level)] * 5)
    assert_close(logits[0], reference.conv("rpn.head.cls_logits", hidden).transpose(0, 2, 3, 1).reshape(1, -1))


def test_the_box_head_has_four_convolutions_and_one_fully_connected_layer(detector, weights, rng):
    reference, pooled = Reference(weights), rng.standard_normal((5, 16, 7, 7))
    hidden = pooled
    for number in range(4):
        hidden = relu(reference.conv_norm(f"roi_heads.box_head.{number}", hidden))
    hidden = relu(reference.linear("roi_heads.box_head.5", hidden.reshape(5, -1)))
    logits = reference.linear("roi_heads.box_predictor.cls_score", hidden)
    deltas = reference.linear("roi_heads.box_predictor.bbox_pred", hidden).reshape(5, 4, 4)[:, 1:, [1, 0, 3, 2]]
    levels, boxes = as_rois(pooled)
    found_logits, found_deltas = detector.box_head(levels, boxes)
    assert_close(found_logits[0], logits)
    assert_close(found_deltas[0], deltas)


def as_rois(pooled):
    """Levels and boxes whose RoI features are `pooled`: each cell's four samples lie in a square of equal pixels."""
    count, _, side, _ = pooled.shape
    pixels = pooled.repeat(3, axis=2).repeat(3, axis=3)  # 3 x 3 pixels a cell, sampled half a pixel from its middle
    level = np.concatenate(list(pixels), axis=1)[None]
    size = 3 * side
    boxes = [[size * k * 4, 0, size * (k + 1) * 4, size * 4] for k in range(count)]
    boxes = np.array(boxes, np.float32) - 4 * 0.5  # not aligned: position 0 is the middle of the first pixel
    others = [np.zeros((1, level.shape[1], 8, 8))] * 3
    return [to_tf(level), *map(to_tf, others)], tf.constant(boxes[None])


def test_the_mask_head_normalises_each_convolution(detector, weights, rng):
    reference, pooled = Reference(weights), rng.standard_normal((2, 16, 14, 14))
    hidden = pooled
    for number in range(4):
        hidden = relu(reference.conv_norm(f"roi_heads.mask_head.{number}", hidden))
    hidden = relu(reference.upsample("roi_heads.mask_predictor.conv5_mask", hidden))
    masks = reference.conv("roi_heads.mask_predictor.mask_fcn_logits", hidden)[:, 1:]
    levels, boxes = as_rois(pooled)
    assert_close(detector.mask_head(levels, boxes[0], tf.zeros(2, tf.int32)), masks.transpose(0, 2, 3, 1))


def test_it_is_an_ordinary_detector(detector, tmp_path, rng):
    assert all("counter" in reason for reason in detector.weight_report.skipped.values())
    assert_detects_the_same_when_loaded(detector, tmp_path, rng)


def test_its_normalisations_do_not_train(path):
    detector = import_detector(path).config.replace(**{"mask_head": None}).build((3, 7, 90))
    detector.compile(keras.optimizers.SGD(0.01))
    norms = [variable for variable in detector.weights if "_norm/" in variable.path]
    before = [variable.numpy() for variable in norms]
    inputs, targets = make_batch()
    detector.train_on_batch(inputs, targets)
    assert len(norms) == 4 * (2 * 4 + 4)
    for variable, value in zip(norms, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_two_weights_for_one_place_are_refused(tmp_path):
    weights = torchvision_weights(masks=False) | {"roi_heads.box_head.5.weight": np.zeros([32, 784], np.float32)}
    torch_files.save(weights, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"1 weights belong to no part .* roi_heads.box_head.5.weight"):
        import_detector(tmp_path / "model.pth")
