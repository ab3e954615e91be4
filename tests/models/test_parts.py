"""Every part of a detector is a Keras object of its own."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, make_batch, make_mask_batch, tiny_config
from tf_dcnv2.models import RPN, BoxHead, C5Neck, FasterRCNN, FeaturePyramid, MaskHead, MaskRCNN, Neck, ResNetBackbone

SMALL = {"pooling": "v2", "pool_size": 3, "pool_branch_units": 8}
STRIDES = {"C2": 4, "C3": 8, "C4": 16, "C5": 32}
CHANNELS = {"C2": 4, "C3": 8, "C4": 16, "C5": 16}


def features(batch: int = 2) -> dict[str, tf.Tensor]:
    """What a backbone gives for images of 128 x 96 pixels."""
    return {
        name: tf.random.stateless_normal([batch, 128 // stride, 96 // stride, CHANNELS[name]], [stride, 0])
        for name, stride in STRIDES.items()
    }


BOXES = tf.constant([[[0.0, 0, 40, 40], [10, 20, 100, 90]]] * 2)
PARTS = {
    "resnet": (
        lambda: ResNetBackbone(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=4, dcn="v2", norm="batch"),
        lambda part: part(tf.reshape(tf.range(2 * 64 * 64 * 3, dtype=tf.float32), [2, 64, 64, 3]) / 1e4),
    ),
    "c5": (lambda: C5Neck(STRIDES, CHANNELS, channels=8, kernel_regularizer="l2"), lambda part: part(features())),
    "pyramid": (lambda: FeaturePyramid(STRIDES, CHANNELS, channels=8), lambda part: part(features())),
    "rpn": (
        lambda: RPN((8, 16), 8, anchor_sizes=(32, 64), channels=8, kernel_regularizer="l2"),
        lambda part: part([features()["C3"], tf.random.stateless_normal([2, 4, 3, 8], [1, 1])]),
    ),
    "box head": (
        lambda: BoxHead(3, (16,), 16, units=8, canonical_size=64.0, **SMALL),
        lambda part: part([features()["C4"]], BOXES),
    ),
    "mask head": (
        lambda: MaskHead(3, (16,), 16, convolutions=1, channels=4, kernel_regularizer="l2", **SMALL),
        lambda part: part([features()["C4"]], BOXES[0], tf.constant([0, 1])),
    ),
}


@pytest.mark.parametrize(("make", "call"), PARTS.values(), ids=PARTS)
def test_a_part_can_be_made_again_from_its_configuration_and_computes_the_same(make, call):
    keras.utils.set_random_seed(0)
    part = make()
    expected = call(part)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(part)))
    copy = keras.saving.deserialize_keras_object(config)
    call(copy)  # which builds it
    copy.set_weights(part.get_weights())
    assert [variable.path for variable in copy.variables] == [variable.path for variable in part.variables]
    tf.nest.map_structure(lambda a, b: np.testing.assert_array_equal(a, b), call(copy), expected)
    regularized = [[v.path for v in model.variables if v.regularizer is not None] for model in (part, copy)]
    assert regularized[0] == regularized[1]


@pytest.mark.parametrize(("make", "call"), PARTS.values(), ids=PARTS)
def test_a_part_keeps_its_precision_whatever_the_global_policy(make, call):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        config = keras.saving.serialize_keras_object(make())
    finally:
        keras.config.set_dtype_policy("float32")
    part = keras.saving.deserialize_keras_object(config)
    call(part)
    kernels = [layer for layer in part._flatten_layers() if getattr(layer, "kernel", None) is not None]
    assert {layer.compute_dtype for layer in kernels} >= {"bfloat16"}


def put_together(**changes):
    parts = {
        "backbone": ResNetBackbone(depths=(1, 1, 1, 1), widths=(4, 4, 8, 8), stem_width=4, norm="batch"),
    }
    neck = FeaturePyramid(parts["backbone"].strides, parts["backbone"].channels, channels=8, levels=(3, 4, 5))
    roi = {"strides": neck.strides["roi"], "in_channels": neck.channels["roi"]}
    parts |= {
        "neck": neck,
        "rpn": RPN(neck.strides["rpn"], 8, anchor_sizes=(16, 32, 64), channels=8),
        "box_head": BoxHead(len(CATEGORY_IDS), units=16, **roi, **SMALL),
        "mask_head": MaskHead(len(CATEGORY_IDS), convolutions=0, channels=4, **roi, **{**SMALL, "pool_size": 4}),
    }
    return MaskRCNN(**{**parts, **changes}, category_ids=CATEGORY_IDS, short_side=96, max_side=128)


@pytest.mark.usefixtures("eagerly")
def test_a_detector_put_together_by_hand_trains_and_survives_saving(tmp_path):
    keras.utils.set_random_seed(0)
    detector = put_together()
    batch = make_mask_batch()
    detector.compile(keras.optimizers.Adam(1e-3))
    losses = detector.fit(tf.data.Dataset.from_tensors(batch).repeat(), epochs=2, steps_per_epoch=2, verbose=0).history
    assert losses["loss"][-1] < losses["loss"][0]
    detector.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    assert (loaded.short_side, loaded.max_side, loaded.category_ids) == (96, 128, CATEGORY_IDS)
    for name, value in detector(batch[0]).items():
        np.testing.assert_allclose(loaded(batch[0])[name], value, rtol=1e-5, atol=1e-5)


def test_a_configuration_builds_what_can_be_put_together_by_hand():
    built = tiny_config(mask_head=MASK_HEAD).build(CATEGORY_IDS)
    by_hand = MaskRCNN(
        built.backbone, built.neck, built.rpn, built.box_head, built.mask_head, category_ids=CATEGORY_IDS
    )
    inputs, _ = make_mask_batch()
    for name, value in built(inputs).items():
        np.testing.assert_array_equal(by_hand(inputs)[name], value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"rpn": lambda: RPN((16,), 8)},
            r"rpn must be made for the levels of the neck, with strides=\(8, 16, 32\) and in_channels=8. Received: rpn "
            r"with strides=\(16,\)",
        ),
        ({"box_head": lambda: BoxHead(3, (8, 16, 32), 9)}, "box_head must be made for .* Received: .* in_channels=9"),
        (
            {"box_head": lambda: BoxHead(2, (8, 16, 32), 8)},
            r"box_head must have as many classes as there are category ids. Received: box_head.num_classes=2, "
            r"category_ids=\(3, 7, 90\)",
        ),
        ({"mask_head": lambda: MaskHead(4, (8, 16, 32), 8)}, "mask_head must have as many classes"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        put_together(**{name: make() for name, make in changes.items()})


def test_a_neck_refuses_a_backbone_without_the_levels_it_needs():
    with pytest.raises(ValueError, match="C5Neck needs the levels C4, C5 of the backbone. Received: .*'C5': 32"):
        C5Neck({"C5": 32}, {"C5": 8})
    with pytest.raises(ValueError, match=r"level C\{l\} has a stride of 2\*\*l pixels.* Received: \{'C5': 16\}"):
        FeaturePyramid({**STRIDES, "C5": 16}, CHANNELS)
    with pytest.raises(ValueError, match=r"levels must be consecutive levels. Received: \(2, 4\)"):
        FeaturePyramid(STRIDES, CHANNELS, levels=(2, 4))


def test_an_anchor_size_for_every_level_is_asked_for():
    with pytest.raises(ValueError, match="anchor_sizes must hold one size for each of the 2 levels. Received: .*32"):
        RPN((8, 16), 8, anchor_sizes=(32,))


def test_settings_come_as_one_object_or_field_by_field():
    from tf_dcnv2.models import BoxHeadConfig

    config = BoxHeadConfig(pool_size=3)
    assert BoxHead(3, (16,), 8, config).config == BoxHead(3, (16,), 8, pool_size=3).config == config
    with pytest.raises(ValueError, match="Give either config or its fields. Received: .*, and units"):
        BoxHead(3, (16,), 8, config, units=8)
    with pytest.raises(ValueError, match="config must be a BoxHeadConfig. Received: {'units': 8}"):
        BoxHead(3, (16,), 8, {"units": 8})
    with pytest.raises(ValueError, match="BoxHeadConfig.units must be at least 1. Received: 0"):
        BoxHead(3, (16,), 8, units=0)


@keras.saving.register_keras_serializable(package="tests")
class StridedBackbone(keras.layers.Layer):
    """A `Backbone` of one convolution with stride 16."""

    strides, channels = {"C4": 16}, {"C4": 6}

    def build(self, input_shape):
        self.convolution = keras.layers.Conv2D(6, 16, strides=16, padding="same", name="convolution")
        self.convolution.build(input_shape)

    def preprocess(self, images):
        return images / 255.0

    def call(self, images, training=False):
        return {"C4": self.convolution(images)}


@keras.saving.register_keras_serializable(package="tests")
class SharedNeck(Neck):
    """The RPN and the heads look at the same convolution of C4."""

    strides, channels = {"rpn": (16,), "roi": (16,)}, {"rpn": 8, "roi": 8}

    def build(self, input_shape):
        self.convolution = keras.layers.Conv2D(8, 3, padding="same", name="convolution")
        self.convolution.build(input_shape["C4"])

    def call(self, features):
        level = self.convolution(features["C4"])
        return {"rpn": [level], "roi": [level]}


@pytest.mark.usefixtures("eagerly")
def test_a_backbone_and_a_neck_of_ones_own_train_detect_and_survive_saving(tmp_path):
    keras.utils.set_random_seed(0)
    backbone = StridedBackbone(name="backbone")
    neck = SharedNeck(backbone.strides, backbone.channels, name="neck")
    rpn = RPN(neck.strides["rpn"], neck.channels["rpn"], anchor_sizes=(32,), channels=8)
    head = BoxHead(len(CATEGORY_IDS), neck.strides["roi"], neck.channels["roi"], units=16, **SMALL)
    detector = FasterRCNN(backbone, neck, rpn, head, category_ids=CATEGORY_IDS)
    inputs, targets = make_batch()
    before = backbone.convolution.kernel.numpy()
    detector.compile(keras.optimizers.Adam(1e-3))
    detector.fit(tf.data.Dataset.from_tensors((inputs, targets)), verbose=0)
    assert not np.array_equal(backbone.convolution.kernel, before)
    detector.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    for name, value in detector(inputs).items():
        np.testing.assert_allclose(loaded(inputs)[name], value, rtol=1e-5, atol=1e-5)


def test_a_graph_for_any_batch_knows_the_number_of_classes():
    head = BoxHead(3, (16,), 16, units=8, **SMALL)
    head.build()
    graph = tf.function(head.predict).get_concrete_function(tf.TensorSpec([None, None, 8]))
    _, deltas = graph.structured_outputs
    assert deltas.shape.as_list() == [None, None, 3, 4]
