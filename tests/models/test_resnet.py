import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.models import BackboneConfig, ResNetBackbone
from tf_dcnv2.models.weights import copy_weights


@pytest.fixture(scope="module")
def keras_resnet() -> keras.Model:
    """keras.applications' ResNet-50 with random weights, moving averages and biases included."""
    keras.utils.set_random_seed(0)
    model = keras.applications.ResNet50(include_top=False, weights=None, input_shape=(None, None, 3))
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.8, 1.2, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))
    return model


@pytest.mark.parametrize(
    ("dcn", "stages"), [("none", ()), ("v1", (5,)), ("v1", (3, 4, 5))], ids=["regular", "dcnv1-c5", "dcnv1-c3-c5"]
)
def test_features_equal_those_of_keras_applications(keras_resnet, dcn, stages):
    backbone = ResNetBackbone(BackboneConfig(dcn=dcn, dcn_stages=stages))
    report = copy_weights(keras_resnet, backbone)
    assert not report.unused
    assert all("/offset_" in name for name in report.new)
    images = tf.constant(np.random.default_rng(1).uniform(-120, 120, [2, 75, 96, 3]), tf.float32)
    names = {"C2": "conv2_block3_out", "C3": "conv3_block4_out", "C4": "conv4_block6_out", "C5": "conv5_block3_out"}
    outputs = {key: keras_resnet.get_layer(name).output for key, name in names.items()}
    expected = keras.Model(keras_resnet.input, outputs)(images)
    features = backbone(images)
    for key, value in expected.items():
        error = np.abs(features[key] - value).max() / np.abs(value).max()
        assert error < 1e-4, f"{key}: {error}"


def test_dcnv2_replaces_thirteen_convolutions_and_nothing_else():
    regular = ResNetBackbone()
    deformable = ResNetBackbone.from_preset("faster_rcnn_r50_dcnv2")
    assert len(deformable.deformable_layers()) == 13
    report = copy_weights(regular, deformable)
    assert not report.unused
    assert len(report.new) == 2 * 13


def test_dilated_stage_five_keeps_stride_sixteen():
    backbone = ResNetBackbone(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), dilated_c5=True)
    assert backbone(tf.zeros([1, 224, 224, 3]))["C5"].shape == (1, 14, 14, 16)


def test_frozen_stages_and_frozen_normalisation_do_not_train():
    backbone = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), frozen_stages=2))
    names = {variable.path for variable in backbone.trainable_variables}
    assert names
    assert not any("conv1_" in name or "conv2_" in name or "_bn/" in name for name in names)


def test_weights_of_another_width_are_refused_by_name():
    source = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(8, 8, 8, 8)))
    backbone = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4)))
    with pytest.raises(ValueError, match=r"conv2_block1_1_conv/kernel has shape \(1, 1, 64, 8\) in 'backbone'"):
        copy_weights(source, backbone)


def test_a_backbone_survives_saving_and_loading(tmp_path):
    backbone = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), dcn="v2", dcn_stages=(5,)))
    images = tf.random.uniform([1, 64, 64, 3])
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(loaded(images)["C5"], backbone(images)["C5"])
