"""Weights of PyTorch backbones. The reference networks below are written from PyTorch's definitions, NCHW and OIHW."""

import re
import warnings

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tests.support.reference_vectors import GOLDEN
from tf_dcnv2.layers import ModulatedDeformableConv2D
from tf_dcnv2.models import BackboneConfig, ResNetBackbone
from tf_dcnv2.models.weights import convert_pytorch_backbone, load_weights, read_checkpoint
from tf_dcnv2.ops import deform_conv2d

WIDTH, DEPTHS = 16, (1, 2, 1, 1)
BACKBONE = {
    "depths": DEPTHS,
    "widths": (WIDTH, WIDTH, WIDTH, WIDTH),
    "stem_width": 8,
    "stride_in": "3x3",
    "norm_epsilon": 1e-5,
    "preprocessing": "torch",
}


@pytest.fixture
def state_dict(rng):
    """A narrow ResNet as mmdetection would save it, with modulated deformable convolutions in layer3 and layer4."""
    weights = {}

    def convolution(name, out_channels, in_channels, size):
        scale = (2 / (in_channels * size * size)) ** 0.5
        weights[f"{name}.weight"] = rng.normal(0, scale, [out_channels, in_channels, size, size]).astype(np.float32)

    def norm(name, channels):
        weights[f"{name}.weight"] = rng.uniform(0.8, 1.2, channels).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.1, channels).astype(np.float32)
        weights[f"{name}.running_mean"] = rng.normal(0, 0.1, channels).astype(np.float32)
        weights[f"{name}.running_var"] = rng.uniform(0.8, 1.2, channels).astype(np.float32)
        weights[f"{name}.num_batches_tracked"] = np.array(7)

    convolution("conv1", 8, 3, 7)
    norm("bn1", 8)
    channels = 8
    for stage, depth in enumerate(DEPTHS, start=1):
        for block in range(depth):
            name = f"layer{stage}.{block}"
            if block == 0:
                convolution(f"{name}.downsample.0", 4 * WIDTH, channels, 1)
                norm(f"{name}.downsample.1", 4 * WIDTH)
            for number, (out_channels, in_channels, size) in enumerate(
                [(WIDTH, channels, 1), (WIDTH, WIDTH, 3), (4 * WIDTH, WIDTH, 1)], start=1
            ):
                convolution(f"{name}.conv{number}", out_channels, in_channels, size)
                norm(f"{name}.bn{number}", out_channels)
            if stage >= 3:
                convolution(f"{name}.conv2.conv_offset", 27, WIDTH, 3)
                weights[f"{name}.conv2.conv_offset.bias"] = rng.normal(0, 0.3, 27).astype(np.float32)
            channels = 4 * WIDTH
    weights["fc.weight"] = np.zeros([10, channels], np.float32)
    return weights


class TorchResNet:
    """The forward pass of a state dict, NCHW, with the stride in the 3x3 convolutions."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, images):
        x = tf.nn.relu(self.norm(self.convolve(images, "conv1", stride=2), "bn1"))
        # Features after a ReLU are not negative: padding with zeros is padding with nothing.
        x = nchw(tf.nn.max_pool2d(tf.pad(nhwc(x), [[0, 0], [1, 1], [1, 1], [0, 0]]), 3, 2, "VALID"))
        features = []
        for stage, depth in enumerate(DEPTHS, start=1):
            for block in range(depth):
                x = self.block(x, f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1)
            features.append(x)
        return features

    def block(self, x, name, stride):
        shortcut = x
        if f"{name}.downsample.0.weight" in self.weights:
            shortcut = self.norm(self.convolve(x, f"{name}.downsample.0", stride), f"{name}.downsample.1")
        x = tf.nn.relu(self.norm(self.convolve(x, f"{name}.conv1"), f"{name}.bn1"))
        x = tf.nn.relu(self.norm(self.convolve(x, f"{name}.conv2", stride), f"{name}.bn2"))
        x = self.norm(self.convolve(x, f"{name}.conv3"), f"{name}.bn3")
        return tf.nn.relu(x + shortcut)

    def convolve(self, x, name, stride=1):
        kernel = tf.transpose(self.weights[f"{name}.weight"], [2, 3, 1, 0])
        side = kernel.shape[0] // 2
        if f"{name}.conv_offset.weight" not in self.weights:
            return nchw(tf.nn.conv2d(nhwc(x), kernel, stride, [[0, 0], [side, side], [side, side], [0, 0]]))
        # mmcv: the branch's channels in three parts, of which the first two are the offsets.
        branch = (
            self.convolve(x, f"{name}.conv_offset", stride) + self.weights[f"{name}.conv_offset.bias"][:, None, None]
        )
        first, second, logits = tf.split(branch, 3, axis=1)
        offset = nhwc(tf.concat([first, second], axis=1))
        return nchw(deform_conv2d(nhwc(x), kernel, offset, nhwc(tf.sigmoid(logits)), strides=stride, padding=side))

    def norm(self, x, name):
        scale, shift, mean, variance = (
            self.weights[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / tf.sqrt(variance + 1e-5) * scale + shift


def nhwc(x):
    return tf.transpose(x, [0, 2, 3, 1])


def nchw(x):
    return tf.transpose(x, [0, 3, 1, 2])


def load(backbone, state_dict, tmp_path):
    path = tmp_path / "backbone.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in state_dict.items()}, path)
    return load_weights(backbone, str(path))


def test_a_converted_backbone_gives_the_features_of_the_original(state_dict, rng):
    backbone = ResNetBackbone(BackboneConfig(**BACKBONE, dcn="v2", dcn_stages=(4, 5)))
    values, unused = convert_pytorch_backbone(state_dict)
    assert unused == ("fc.weight",)
    weights = {f"{layer.name}/{weight.name}": weight for layer in backbone.layers for weight in layer.weights}
    assert set(values) == set(weights)
    for name, weight in weights.items():
        weight.assign(values[name])
    images = rng.normal(size=[2, 65, 97, 3]).astype(np.float32)
    features = backbone(images)
    for stage, expected in enumerate(TorchResNet(state_dict)(nchw(images)), start=2):
        error = np.abs(features[f"C{stage}"] - nhwc(expected)).max() / np.abs(expected).max()
        assert error < 1e-4, f"C{stage}: {error}"


@pytest.mark.parametrize("vectors", ["deform_conv_plain3x3", "deform_conv_dg4"])
@pytest.mark.parametrize("branch", ["conv2.conv_offset", "conv2_offset"])
def test_a_converted_layer_gives_the_values_of_mmcv(vectors, branch):
    golden = np.load(GOLDEN / f"{vectors}.npz")
    groups = int(golden["deformable_groups"])
    x, offset, mask = golden["x"], golden["offset"], golden["mask"]
    # Features that carry their own offsets: each deformable group gets the 27 numbers of its taps as further channels,
    # which the branch passes on and the kernel ignores.
    taps = np.concatenate([offset.reshape(*x.shape[:3], groups, 18), logit(mask).reshape(*x.shape[:3], groups, 9)], -1)
    channels = x.shape[-1] // groups
    features = np.concatenate([x.reshape(*x.shape[:3], groups, channels), taps], -1).reshape(*x.shape[:3], -1)
    filters = golden["kernel"].shape[-1]
    kernel = np.zeros([filters, groups, channels + 27, 3, 3])
    kernel[:, :, :channels] = golden["kernel"].transpose(3, 2, 0, 1).reshape(filters, groups, channels, 3, 3)
    offset_kernel = np.zeros([groups * 27, groups, channels + 27, 3, 3])
    for group in range(groups):
        for i in range(18):
            offset_kernel[18 * group + i, group, channels + i, 1, 1] = 1
        for i in range(9):
            offset_kernel[18 * groups + 9 * group + i, group, channels + 18 + i, 1, 1] = 1
    state_dict = {
        "backbone.layer1.0.conv1.weight": np.zeros([1, 1, 1, 1]),
        "backbone.layer1.0.conv2.weight": kernel.reshape(filters, -1, 3, 3),
        "backbone.layer1.0.conv2.bias": golden["bias"],
        f"backbone.layer1.0.{branch}.weight": offset_kernel.reshape(groups * 27, -1, 3, 3),
        f"backbone.layer1.0.{branch}.bias": np.zeros(groups * 27),
    }
    values, _ = convert_pytorch_backbone(state_dict)
    layer = ModulatedDeformableConv2D(filters, 3, padding=1, deformable_groups=groups, dtype="float64")
    layer.build(features.shape)
    for weight in layer.weights:
        weight.assign(values[f"conv2_block1_2_conv/{weight.name}"])
    np.testing.assert_allclose(layer(features), golden["y"], atol=1e-9)


def logit(p):
    assert (p > 0).all() and (p < 1).all()
    return np.log(p / (1 - p))


def test_grouped_convolutions_keep_their_order(rng):
    weight = rng.normal(size=[8, 2, 3, 3])
    values, _ = convert_pytorch_backbone(
        {"layer1.0.conv1.weight": np.zeros([8, 8, 1, 1]), "layer1.0.conv2.weight": weight}
    )
    kernel = values["conv2_block1_2_conv/kernel"]
    assert kernel.shape == (3, 3, 2, 8)
    np.testing.assert_array_equal(kernel[1, 2, 0, 5], weight[5, 0, 1, 2])


def test_loading_a_checkpoint_reports_what_it_did(state_dict, tmp_path):
    state_dict = {f"backbone.{name}": value for name, value in state_dict.items()}
    backbone = ResNetBackbone(BackboneConfig(**BACKBONE, dcn="v2", dcn_stages=(3, 4, 5)))
    report = load(backbone, state_dict, tmp_path)
    assert len(report.loaded) + len(report.new) == len(backbone.weights)
    assert all("conv3_" in name and "/offset_" in name for name in report.new)
    assert report.skipped == {"backbone.fc.weight": "not of the backbone"}


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, None),
    ({"preprocessing": "caffe"}, "a backbone with preprocessing='caffe'. .* want preprocessing='torch', unless"),
    ({"stride_in": "1x1"}, "a backbone with stride_in='1x1'. .* want stride_in='3x3', unless"),
])  # fmt: skip
def test_another_layout_than_pytorchs_is_warned_of(state_dict, tmp_path, changes, expected):
    backbone = ResNetBackbone(BackboneConfig(**{**BACKBONE, **changes}, dcn="v2", dcn_stages=(4, 5)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(backbone, state_dict, tmp_path)
    messages = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert (len(messages) == 1 and re.search(expected, messages[0])) if expected else messages == []


def test_a_backbone_of_another_width_is_refused_by_name(state_dict, tmp_path):
    backbone = ResNetBackbone(BackboneConfig(**{**BACKBONE, "stem_width": 16}))
    with pytest.raises(ValueError, match=r"conv1_conv/kernel has shape \(7, 7, 3, 8\)"):
        load(backbone, state_dict, tmp_path)


def test_a_checkpoint_without_a_resnet_is_refused():
    with pytest.raises(ValueError, match=r"must hold one ResNet.*patch_embed"):
        convert_pytorch_backbone({"patch_embed.weight": np.zeros([1])})


def test_a_checkpoint_with_two_resnets_is_refused():
    weight = np.zeros([1, 1, 1, 1])
    state_dict = {"student.layer1.0.conv1.weight": weight, "teacher.layer1.0.conv1.weight": weight}
    with pytest.raises(ValueError, match="student.*teacher"):
        convert_pytorch_backbone(state_dict)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="r50.pth"):
        read_checkpoint(tmp_path / "r50.pth")
