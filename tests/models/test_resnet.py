import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import GroupedConv2D
from tf_dcnv2.models import BackboneConfig, ResNetBackbone
from tf_dcnv2.models.backbones.preprocessing import preprocess
from tf_dcnv2.models.parts import deformable_convolutions
from tf_dcnv2.models.weights import copy_weights

DEPTHS = {"ResNet50": (3, 4, 6, 3), "ResNet101": (3, 4, 23, 3)}


def randomize(model: keras.Model) -> None:
    """Random moving averages, scales and biases: at their initialisation mistakes in them would not show."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(random.uniform(0.8, 1.2, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(random.normal(0, 0.1, variable.shape))


@pytest.fixture(scope="module")
def keras_resnet(request) -> keras.Model:
    """keras.applications' ResNet of the given name with random weights."""
    keras.utils.set_random_seed(0)
    application = getattr(keras.applications, request.param)
    model = application(include_top=False, weights=None, input_shape=(None, None, 3))
    randomize(model)
    return model


@pytest.mark.parametrize(
    ("keras_resnet", "dcn", "stages"),
    [
        ("ResNet50", "none", ()),
        pytest.param("ResNet50", "v1", (5,), marks=pytest.mark.slow),
        ("ResNet50", "v1", (3, 4, 5)),
        pytest.param("ResNet101", "none", (), marks=pytest.mark.slow),  # more blocks of the same kind
    ],
    indirect=["keras_resnet"],
)
def test_features_equal_those_of_keras_applications(keras_resnet, dcn, stages):
    depths = DEPTHS[keras_resnet.name.replace("resnet", "ResNet")]
    backbone = ResNetBackbone(BackboneConfig(depths=depths, dcn=dcn, dcn_stages=stages))
    report = copy_weights(keras_resnet, backbone)
    assert not report.skipped
    assert all("/offset_" in name for name in report.new)
    images = tf.constant(np.random.default_rng(1).uniform(-120, 120, [2, 75, 96, 3]), tf.float32)
    names = {f"C{stage}": f"conv{stage}_block{depth}_out" for stage, depth in enumerate(depths, start=2)}
    outputs = {key: keras_resnet.get_layer(name).output for key, name in names.items()}
    expected = keras.Model(keras_resnet.input, outputs)(images)
    features = backbone(images)
    for key, value in expected.items():
        error = np.abs(features[key] - value).max() / np.abs(value).max()
        assert error < 1e-4, f"{key}: {error}"


NARROW = {"depths": (1, 2, 1, 1), "widths": (16, 16, 32, 32), "stem_width": 8}


@pytest.mark.parametrize("dilated_c5", [False, True])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_a_resnext_is_a_resnet_whose_kernels_are_zero_between_groups(stride_in, dilated_c5):
    keras.utils.set_random_seed(0)
    common = {**NARROW, "stride_in": stride_in, "dilated_c5": dilated_c5}
    grouped = ResNetBackbone(BackboneConfig(groups=4, width_per_group=16, **common))
    randomize(grouped)
    dense = ResNetBackbone(BackboneConfig(**common))
    for layer in dense.layers:
        weights = grouped.get_layer(layer.name).get_weights()
        if layer.name.endswith("_2_conv"):
            blocks = np.split(weights[0], 4, axis=-1)
            weights[0] = np.zeros(layer.kernel.shape, "float32")
            size = blocks[0].shape[-1]
            for group, block in enumerate(blocks):
                span = slice(group * size, (group + 1) * size)
                weights[0][:, :, span, span] = block
        layer.set_weights(weights)
    images = tf.random.normal([2, 61, 70, 3])
    expected = dense(images)
    for key, value in grouped(images).items():
        np.testing.assert_allclose(value, expected[key], atol=1e-4 * np.abs(expected[key]).max(), err_msg=key)


@pytest.mark.parametrize("size", [(64, 96), (61, 70)])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_resnexts_with_dcnv1_at_initialisation_have_the_features_of_regular_ones(stride_in, size):
    keras.utils.set_random_seed(0)
    common = {**NARROW, "groups": 4, "width_per_group": 16, "stride_in": stride_in}
    regular = ResNetBackbone(BackboneConfig(**common))
    deformable = ResNetBackbone(BackboneConfig(dcn="v1", dcn_stages=(3, 4, 5), **common))
    copy_weights(regular, deformable)
    images = tf.random.normal([1, *size, 3])
    expected = regular(images)
    for key, value in deformable(images).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-4, atol=1e-5, err_msg=key)


@pytest.mark.parametrize(("preset", "channels"), [("x101_32x4d", 128), ("x101_64x4d", 256)])
def test_resnexts_of_101_layers_have_the_published_widths(preset, channels):
    backbone = ResNetBackbone.from_preset(f"mask_rcnn_{preset}_regular")
    first, last = (backbone.get_layer(f"{block}_2_conv") for block in ("conv2_block1", "conv5_block3"))
    assert (first.filters, last.filters) == (channels, 8 * channels)
    assert first.kernel.shape == (3, 3, 4, channels)
    assert backbone.channels == {"C2": 256, "C3": 512, "C4": 1024, "C5": 2048}


def test_strides_are_where_the_configuration_says_with_symmetric_padding():
    caffe, torch = (
        ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), stride_in=place))
        for place in ("1x1", "3x3")
    )
    strides = [
        [backbone.get_layer(f"conv3_block1_{number}_conv").strides[0] for number in (1, 2)]
        for backbone in (caffe, torch)
    ]
    assert strides == [[2, 1], [1, 2]]
    assert torch.get_layer("conv3_block1_2_pad").padding == ((1, 1), (1, 1))
    for size in (64, 61):
        shapes = [backbone(tf.zeros([1, size, size, 3]))["C5"].shape for backbone in (caffe, torch)]
        assert shapes[0] == shapes[1]


def test_a_grouped_convolution_has_the_gradients_of_its_groups():
    keras.utils.set_random_seed(0)
    layer = GroupedConv2D(6, 3, groups=3, padding="same", dilation_rate=2)
    x = tf.random.normal([2, 9, 8, 12])

    def gradients(convolve):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(convolve() ** 2)
        return tape.gradient(loss, [x, layer.kernel.value])

    layer.build(x.shape)

    def group_by_group():
        parts = zip(tf.split(x, 3, axis=-1), tf.split(layer.kernel.value, 3, axis=-1), strict=True)
        return tf.concat([tf.nn.convolution(*part, padding="SAME", dilations=2) for part in parts], axis=-1)

    for received, expected in zip(gradients(lambda: layer(x)), gradients(group_by_group), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_images_are_normalised_as_torchvision_does():
    images = tf.constant([[[[255.0, 0.0, 127.5]]]])
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    prepared = preprocess(images, "torch")
    np.testing.assert_allclose(prepared[0, 0, 0], expected, rtol=1e-5)


def test_the_epsilon_of_the_normalisation_is_configurable():
    backbone = ResNetBackbone(BackboneConfig(**NARROW, norm_epsilon=1e-5))
    epsilons = {layer.epsilon for layer in backbone.layers if layer.name.endswith("_bn")}
    assert epsilons == {1e-5}


def test_dcnv2_replaces_thirteen_convolutions_and_nothing_else():
    regular = ResNetBackbone()
    deformable = ResNetBackbone.from_preset("faster_rcnn_r50_dcnv2")
    assert len(deformable_convolutions(deformable)) == 13
    report = copy_weights(regular, deformable)
    assert not report.skipped
    assert len(report.new) == 2 * 13


def test_limits_and_learning_rates_of_offsets_are_settings():
    small = BackboneConfig(depths=(1, 1, 1, 1), widths=(8, 8, 8, 8), dcn="v2")
    for config, clip, multiplier in (
        (small, None, 0.1),
        (dataclasses.replace(small, offset_clip=4.0, offset_learning_rate_multiplier=0.5), 4.0, 0.5),
    ):
        for layer in deformable_convolutions(ResNetBackbone(config)):
            assert (layer.offset_clip, layer.offset_kernel.learning_rate_multiplier) == (clip, multiplier)


def test_dilated_stage_five_keeps_stride_sixteen():
    backbone = ResNetBackbone(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), dilated_c5=True)
    assert backbone(tf.zeros([1, 224, 224, 3]))["C5"].shape == (1, 14, 14, 16)


def test_frozen_stages_and_frozen_normalisation_do_not_train():
    backbone = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), frozen_stages=2))
    names = {variable.path for variable in backbone.trainable_variables}
    assert names
    assert not any("conv1_" in name or "conv2_" in name or "_bn/" in name for name in names)


def test_a_backbone_survives_saving_and_loading(tmp_path):
    backbone = ResNetBackbone(BackboneConfig(depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), dcn="v2", dcn_stages=(5,)))
    images = tf.random.uniform([1, 64, 64, 3])
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(loaded(images)["C5"], backbone(images)["C5"])


@pytest.fixture(scope="module")
def rematerialized_and_not():
    """Two small backbones with the same weights."""
    keras.utils.set_random_seed(0)
    config = BackboneConfig(depths=(1, 2, 1, 1), widths=(8, 8, 16, 16), stem_width=8, dcn="v2", norm="batch")
    backbones = [ResNetBackbone(config), ResNetBackbone(dataclasses.replace(config, rematerialize=True))]
    backbones[1].set_weights(backbones[0].get_weights())
    return backbones


def training_step(backbone):
    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            features = backbone(images, training=True)
            loss = tf.add_n([tf.reduce_mean(map_**2) for map_ in features.values()])
        return features, tape.gradient(loss, backbone.trainable_variables)

    return step


def test_rematerialization_changes_no_result_of_a_training_step(rematerialized_and_not):
    images = tf.random.stateless_normal((2, 64, 80, 3), seed=(1, 2))
    (features, gradients), (features_again, gradients_again) = (
        training_step(backbone)(images) for backbone in rematerialized_and_not
    )
    tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), features, features_again)
    largest = max(np.abs(gradient).max() for gradient in gradients)
    for gradient, again in zip(gradients, gradients_again, strict=True):
        np.testing.assert_allclose(gradient, again, rtol=1e-3, atol=1e-5 * largest)
    # Moving averages have moved once.
    for weight, again in zip(*(backbone.get_weights() for backbone in rematerialized_and_not), strict=True):
        np.testing.assert_allclose(weight, again, rtol=1e-5, atol=1e-6)


def test_rematerialization_samples_again_for_the_gradients(rematerialized_and_not):
    images = tf.TensorSpec((2, 64, 80, 3))
    counts = []
    for backbone in rematerialized_and_not:
        graph = training_step(backbone).get_concrete_function(images).graph.as_graph_def()
        nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
        counts.append(sum(node.op == "Dcnv2>DeformConv2D" for node in nodes))
    assert counts[1] == 2 * counts[0] > 0


def test_a_rematerialized_backbone_is_saved_with_its_choice(rematerialized_and_not, tmp_path):
    backbone = rematerialized_and_not[1]
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    assert loaded.config.rematerialize
    images = tf.random.stateless_normal((1, 64, 80, 3), seed=(3, 4))
    np.testing.assert_array_equal(backbone(images)["C5"], loaded(images)["C5"])
