"""Networks of keras.applications, and others, as backbones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, make_batch
from tf_dcnv2.models import RPN, BoxHead, FasterRCNN, FeaturePyramid, KerasBackbone

ANY_SIZE = (None, None, 3)


def small_network(**arguments) -> keras.Model:
    images = keras.Input(ANY_SIZE)
    x = images
    for number, filters in enumerate((4, 8, 8, 16, 16), start=1):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu", name=f"conv{number}")(x)
    top = keras.layers.Dense(2, name="top")(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, top, **arguments)


def detector_on(backbone: KerasBackbone) -> FasterRCNN:
    neck = FeaturePyramid(backbone.strides, backbone.channels, channels=16, levels=(3, 4, 5))
    rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], anchor_sizes=(16, 32, 64), channels=16, samples=64)
    head = BoxHead(len(CATEGORY_IDS), neck.strides["roi"], neck.channels["roi"], units=32, pool_size=3, samples=24)
    return FasterRCNN(backbone, neck, rpn, head, category_ids=CATEGORY_IDS)


@pytest.mark.usefixtures("eagerly")
def test_a_network_of_keras_applications_trains_a_detector_that_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=ANY_SIZE)
    layers = {"C3": "expanded_conv_2_add", "C4": "expanded_conv_7_add", "C5": "activation_17"}
    backbone = KerasBackbone(network, layers)
    assert backbone.strides == {"C3": 8, "C4": 16, "C5": 32}
    detector = detector_on(backbone)
    inputs, targets = make_batch()
    before = {variable.path: variable.numpy() for variable in backbone.trainable_variables}
    detector.compile(keras.optimizers.Adam(2e-3))
    batches = tf.data.Dataset.from_tensors((inputs, targets)).repeat()
    history = detector.fit(batches, epochs=2, steps_per_epoch=2, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    moved = [not np.array_equal(variable, before[variable.path]) for variable in backbone.trainable_variables]
    assert np.mean(moved) > 0.9
    detector.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    for name, value in detector(inputs).items():
        np.testing.assert_allclose(loaded(inputs)[name], value, rtol=1e-4, atol=1e-4)


def test_feature_maps_are_those_of_the_layers_and_the_layers_behind_them_are_left_out(rng):
    network = small_network()
    backbone = KerasBackbone(network, {"C3": "conv3", "C5": "conv5"}, preprocessing="unit")
    images = rng.uniform(0, 255, [2, 70, 50, 3]).astype(np.float32)
    prepared = backbone.preprocess(images)
    np.testing.assert_allclose(prepared, images / 127.5 - 1, rtol=1e-6)
    features = backbone(prepared)
    for level, name in {"C3": "conv3", "C5": "conv5"}.items():
        expected = keras.Model(network.input, network.get_layer(name).output)(prepared)
        np.testing.assert_array_equal(features[level], expected)
    assert backbone.channels == {"C3": 8, "C5": 16}
    assert not [variable for variable in backbone.variables if "top" in variable.path]


def test_weights_of_the_network_are_the_backbones_own():
    network = small_network()
    backbone = KerasBackbone(network, {"C5": "conv5"})
    network.get_layer("conv1").trainable = False
    assert len(backbone.trainable_variables) == 8
    assert backbone.variables[0] is network.get_layer("conv1").kernel


class Subclassed(keras.Model):
    def call(self, images):
        return images


@pytest.mark.parametrize(
    ("network", "features", "message"),
    [
        (Subclassed, {"C5": "conv5"}, "model must be a functional or Sequential Keras model.* Received: Subclassed"),
        (small_network, {}, "features must name at least one layer"),
        (
            small_network,
            {"C5": "conv6"},
            r"features\['C5'\] must be the name of a layer.* Received: 'conv6'\. Did you mean 'conv5'",
        ),
        (
            lambda: keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Conv2D(4, 3, name="conv")]),
            {"C2": "conv"},
            r"model must take images of any size.* Received: inputs of shape \[\(None, 64, 64, 3\)\]",
        ),
    ],
)
def test_a_network_that_cannot_be_a_backbone_is_refused(network, features, message):
    with pytest.raises(ValueError, match=message):
        KerasBackbone(network(), features)


def test_starting_weights_of_resnets_are_refused():
    from tf_dcnv2.models import load_weights

    detector = detector_on(KerasBackbone(small_network(), {"C3": "conv3", "C4": "conv4", "C5": "conv5"}))
    with pytest.raises(ValueError, match="weights='imagenet' are those of a ResNet.* Received: a KerasBackbone"):
        load_weights(detector, "imagenet")
