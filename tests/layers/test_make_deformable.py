"""Keras models made deformable: the same function at first, then one that learns where to look."""

import functools
import re

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications.densenet import DenseNet

from tf_dcnv2.layers import DeformableConv2D, GroupedConv2D, ModulatedDeformableConv2D, make_deformable
from tf_dcnv2.optimizers import scale_learning_rates

DEFORMABLE = (DeformableConv2D, ModulatedDeformableConv2D)
# Of the largest output. Sampling at whole pixels is exact; what is left is the order of float32 sums, layer by layer.
ROUNDING = 1e-5

MODULATED = pytest.mark.parametrize("modulated", [True, False], ids=["v2", "v1"])


# A network of keras.applications, whose output is not squeezed by a softmax.
APPLICATION = {"weights": None, "input_shape": (64, 64, 3), "classes": 5, "classifier_activation": None}


def application(name):
    return getattr(keras.applications, name)(**APPLICATION)


def shallow_densenet():
    """DenseNet121 with two layers in each block: its others repeat them."""
    return DenseNet((2, 2, 2, 2), **APPLICATION)


def unet():
    """Sizes unknown, strides with Keras' uneven "same" padding, transposed convolutions, and plain operations."""
    image = keras.Input((None, None, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    skips = []
    for level, filters in enumerate((8, 16)):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"down_{level}")(x)
        skips.append(x)
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu", name=f"stride_{level}")(x)
    x = layers.Conv2D(32, 3, padding="same", dilation_rate=2, groups=2, use_bias=False, name="middle")(x)
    x = layers.BatchNormalization()(x)
    for level, skip in reversed(list(enumerate(skips))):
        x = layers.Conv2DTranspose(skip.shape[-1], 2, strides=2, name=f"up_{level}")(keras.ops.relu(x))
        x = layers.Conv2D(skip.shape[-1], 3, padding="same", name=f"merge_{level}")(
            keras.ops.concatenate([x, skip], -1)
        )
    return keras.Model(image, {"mask": layers.Conv2D(2, 1, name="head")(x)}, name="unet")


def sequential():
    return keras.Sequential(
        [
            keras.Input((20, 17, 3)),
            layers.Conv2D(4, (2, 3), strides=(2, 1), name="first"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2D(6, 3, padding="same", activation="tanh", name="second"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )


def nested():
    """A functional and a Sequential model inside, a convolution shared by all three, one model called twice."""
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    features = keras.Input((None, None, 4))
    branch = keras.Model(features, layers.ReLU()(shared(layers.Conv2D(4, 1, name="point")(features))), name="branch")
    head = keras.Sequential([layers.Conv2D(4, 3, padding="same", name="wide"), shared], name="head")
    image = keras.Input((16, 15, 4), name="image")
    x = branch(shared(image))
    x = layers.Lambda(lambda x: np.float32(0.5) * x, name="half")(branch(x) + x[:, ::-1])
    return keras.Model(image, head(x), name="outer")


def second_convolutions(*blocks):
    """Names of the 3x3 convolutions in the residual or dense blocks of stages 2 to 5."""
    return [f"conv{stage}_block{n}_2_conv" for stage, last in enumerate(blocks, start=2) for n in range(1, last + 1)]


# How to build each model, and which convolutions are larger than 1x1.
MODELS = {
    "ResNet50": (lambda: application("ResNet50"), ["conv1_conv", *second_convolutions(3, 4, 6, 3)]),
    "MobileNetV2": (lambda: application("MobileNetV2"), ["Conv1"]),
    "DenseNet": (shallow_densenet, ["conv1_conv", *second_convolutions(2, 2, 2, 2)]),
    "DenseNet121": (lambda: application("DenseNet121"), ["conv1_conv", *second_convolutions(6, 12, 24, 16)]),
    "U-Net": (unet, ["down_0", "stride_0", "down_1", "stride_1", "middle", "merge_1", "merge_0"]),
    "Sequential": (sequential, ["first", "second"]),
    "nested": (nested, ["shared", "wide"]),
}


def randomize(model):
    """Moves all weights away from their initial values, so that one left out of the copy is noticed."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = weight.numpy() * rng.uniform(0.5, 1.5, weight.shape)
        weight.assign(value if value.ndim > 1 else value + 0.1 * rng.random(value.shape))
    return model


def image_for(model):
    # Even sizes: stride 2 pads them unevenly.
    size = [length or 24 for length in model.inputs[0].shape[1:]]
    return np.random.default_rng(1).uniform(0, 1, (2, *size)).astype(np.float32)


def assert_same_output(copy, model):
    x = image_for(model)
    expected, received = (keras.tree.flatten(one(x))[0].numpy() for one in (model, copy))
    assert expected.std() > 0.02
    np.testing.assert_allclose(received, expected, rtol=0, atol=ROUNDING * np.abs(expected).max())


def all_layers(model):
    return {layer.name: layer for layer in model._flatten_layers()}


def trainable_flags(model):
    return {name: layer.trainable for name, layer in all_layers(model).items() if layer.weights}


def deformable_names(model):
    return [name for name, layer in all_layers(model).items() if isinstance(layer, DEFORMABLE)]


def offset_variables(model):
    return [variable for variable in model.trainable_variables if "offset" in variable.name]


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.slow) if name == "DenseNet121" else name for name in MODELS],
)
def network(request):
    """A model, the names of its larger convolutions, and its copy by `modulated`, made once."""
    build, convolutions = MODELS[request.param]
    keras.utils.set_random_seed(0)
    model = randomize(build())
    return model, convolutions, functools.cache(lambda modulated: make_deformable(model, modulated=modulated))


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return randomize(unet())


@MODULATED
def test_a_network_computes_the_same_when_its_convolutions_are_deformable(network, modulated):
    model, convolutions, copies = network
    copy = copies(modulated)
    assert deformable_names(copy) == convolutions
    assert {type(all_layers(copy)[name]) for name in convolutions} == {DEFORMABLE[modulated]}
    assert_same_output(copy, model)
    assert not {id(variable) for variable in model.variables} & {id(variable) for variable in copy.variables}
    assert not deformable_names(model)


def test_every_layer_keeps_its_name_and_configuration(network):
    model, convolutions, copies = network
    old_layers, new_layers = all_layers(model), all_layers(copies(True))
    assert list(new_layers) == list(old_layers) and type(new_layers[model.name]) is type(model)
    for name in old_layers.keys() - convolutions:
        assert type(new_layers[name]) is type(old_layers[name])
    for name in convolutions:
        expected = old_layers[name].get_config()
        received = new_layers[name].get_config()
        assert {key: received[key] for key in expected} == expected


@MODULATED
def test_all_that_a_convolution_was_configured_with_is_kept(modulated):
    convolution = layers.Conv2D(
        8,
        (3, 2),
        strides=(2, 1),
        padding="same",
        groups=2,
        activation=layers.LeakyReLU(0.1),
        kernel_initializer="he_normal",
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.1),
        bias_regularizer="l1",
        activity_regularizer="l2",
        kernel_constraint=keras.constraints.MaxNorm(3.0),
        bias_constraint="non_neg",
        dtype="mixed_bfloat16",
        trainable=False,
        name="configured",
    )
    model = keras.Sequential([keras.Input((9, 8, 4)), convolution])
    x = image_for(model)

    copy = make_deformable(model, modulated=modulated)

    received, expected = copy.layers[0].get_config(), convolution.get_config()
    assert {key: received[key] for key in expected} == expected
    assert not copy.trainable_variables
    np.testing.assert_allclose(copy(x), model(x), rtol=0.02, atol=0.02)  # both round to bfloat16
    np.testing.assert_allclose(sum(copy.losses), sum(model.losses), rtol=0.02)


def test_trainable_flags_are_kept_layer_by_layer():
    model = nested()
    model.get_layer("branch").trainable = False
    model.get_layer("shared").trainable = True  # again: freezing the branch froze it
    model.get_layer("head").get_layer("wide").trainable = False

    copy = make_deformable(model)

    assert trainable_flags(copy) == trainable_flags(model)
    assert [variable.path for variable in copy.trainable_variables] == [
        "shared/kernel",
        "shared/bias",
        "shared/offset_kernel",
        "shared/offset_bias",
    ]


def test_a_shared_convolution_becomes_one_shared_deformable_layer():
    copy = make_deformable(nested())
    shared = copy.get_layer("shared")
    assert copy.get_layer("branch").get_layer("shared") is shared is copy.get_layer("head").get_layer("shared")
    # Two convolutions and one 1x1, with 2 variables each, and two offset branches.
    assert len(copy.trainable_variables) == 3 * 2 + 2 * 2


def test_a_sequential_model_without_sizes_is_made_deformable_before_it_is_built():
    model = keras.Sequential([layers.Conv2D(4, 3), layers.Conv2D(4, 1)])
    copy = make_deformable(model)
    assert [type(layer) for layer in copy.layers] == [ModulatedDeformableConv2D, layers.Conv2D]
    assert not copy.built and copy(np.ones((1, 8, 8, 3), np.float32)).shape == (1, 6, 6, 4)


def test_state_beyond_variables_is_copied():
    """`Normalization` computes with constants that are derived from its variables."""
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).uniform(2, 9, (4, 8, 8, 3)))
    model = keras.Sequential([keras.Input((8, 8, 3)), normalization, layers.Conv2D(4, 3)])
    assert_same_output(make_deformable(model), model)


class Residual(layers.Layer):
    """A layer with layers inside, one of them frozen."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.convolution = layers.Conv2D(3, 3, padding="same", name="inner")
        self.scale = layers.BatchNormalization(name="scale", trainable=False)

    def build(self, shape):
        self.convolution.build(shape)
        self.scale.build(shape)

    def call(self, x):
        return x + self.scale(self.convolution(x))


def test_layers_with_layers_inside_are_copied_as_they_are():
    model = keras.Sequential([keras.Input((8, 8, 3)), Residual(name="outer"), layers.Conv2D(4, 3, name="convolution")])
    randomize(model).trainable = False
    model.get_layer("outer").convolution.trainable = True

    copy = make_deformable(model)

    assert deformable_names(copy) == ["convolution"]
    assert_same_output(copy, model)
    assert trainable_flags(copy) == trainable_flags(model)
    assert trainable_flags(copy)["inner"] and not trainable_flags(copy)["scale"]


def test_the_low_rank_update_of_a_convolution_is_merged_into_the_kernel():
    convolution = layers.Conv2D(4, 3, name="adapted")
    model = keras.Sequential([keras.Input((8, 8, 3)), convolution])
    convolution.enable_lora(2)
    assert_same_output(make_deformable(randomize(model)), model)


def test_inputs_keep_their_names_structure_and_options():
    images = {"left": keras.Input((8, 8, 3), name="left"), "right": keras.Input((8, 8, 3), name="right", optional=True)}
    left = layers.Conv2D(4, 3, name="convolution")(images["left"])
    model = keras.Model(images, [left, layers.Identity()(images["right"])])

    copy = make_deformable(model)

    assert copy.input.keys() == images.keys() and isinstance(copy.output, list)
    assert copy.get_layer("right").get_config() == model.get_layer("right").get_config()


@pytest.mark.parametrize(
    "where, expected",
    [
        ("middle", ["middle"]),
        (["middle", "head"], ["middle", "head"]),
        (("down_1",), ["down_1"]),
        (re.compile("^(down|merge)_1"), ["down_1", "merge_1"]),
        (lambda layer: layer.strides == (2, 2), ["stride_0", "stride_1"]),
    ],
    ids=["a name", "names", "a tuple", "a pattern", "a function"],
)
def test_layers_are_chosen_by_name_pattern_or_function(model, where, expected):
    copy = make_deformable(model, where)
    assert deformable_names(copy) == expected
    assert_same_output(copy, model)


def test_a_name_also_chooses_in_nested_models():
    assert deformable_names(make_deformable(nested(), where="wide")) == ["wide"]


def test_a_copy_can_be_made_deformable_further(model):
    copy = make_deformable(make_deformable(model, "middle"), ["head"], modulated=False)
    assert {name: type(all_layers(copy)[name]) for name in deformable_names(copy)} == {
        "middle": ModulatedDeformableConv2D,
        "head": DeformableConv2D,
    }
    assert_same_output(copy, model)


def test_options_of_the_deformable_layers_are_passed_on(model):
    options = {
        "deformable_groups": 2,
        "offset_clip": 4.0,
        "offset_learning_rate_multiplier": 0.5,
        "implementation": "composite",
    }
    middle = make_deformable(model, "middle", mask_scale=1.5, **options).get_layer("middle")
    assert {**options, "mask_scale": 1.5}.items() <= middle.get_config().items()
    assert middle.offset_bias.shape == (2 * 9 * 3,)
    options = {"offset_clip": 1.0}
    assert make_deformable(model, "middle", modulated=False, **options).get_layer("middle").offset_clip == 1.0


def test_with_a_mask_scale_of_1_the_layers_start_at_half(model):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, use_bias=False)])
    x = image_for(model)
    np.testing.assert_allclose(make_deformable(model, mask_scale=1.0)(x), 0.5 * model(x), rtol=1e-5, atol=1e-6)


@MODULATED
def test_training_moves_the_offsets_and_leaves_the_model_as_it_was(model, modulated):
    x, before = image_for(model), model.get_weights()
    copy = make_deformable(model, modulated=modulated)
    assert len(offset_variables(copy)) == 2 * 7 and not any(v.numpy().any() for v in offset_variables(copy))

    copy.compile(scale_learning_rates(keras.optimizers.SGD(0.1)), loss={"mask": "mse"})
    first, *_, last = copy.fit(x, {"mask": np.ones((2, 24, 24, 2))}, epochs=4, verbose=0).history["loss"]

    assert last < first
    assert all(variable.numpy().any() for variable in offset_variables(copy))
    for value, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_a_compiled_model_has_a_copy_that_is_not_compiled(model):
    """Even if its loss could not be loaded from a file."""
    model.compile("adam", loss={"mask": lambda y_true, y_pred: keras.ops.mean(y_pred)}, run_eagerly=True)
    assert not make_deformable(model).compiled
    assert model.compiled
    model.fit(image_for(model), {"mask": np.ones((2, 24, 24, 2))}, verbose=0)


@MODULATED
def test_a_copy_is_saved_and_loaded_as_any_keras_model_is(model, modulated, tmp_path):
    copy = randomize(make_deformable(model, modulated=modulated))
    for variable in offset_variables(copy):
        variable.assign(keras.random.normal(variable.shape, stddev=0.01))

    copy.save(tmp_path / "copy.keras")
    copy.save_weights(tmp_path / "copy.weights.h5")

    assert_same_output(keras.models.load_model(tmp_path / "copy.keras"), copy)
    other = make_deformable(model, modulated=modulated)
    other.load_weights(tmp_path / "copy.weights.h5")
    assert_same_output(other, copy)


@pytest.mark.parametrize("where", [None, "stride_1"], ids=["all", "one in the middle"])
def test_a_file_of_the_model_s_weights_is_loaded_into_the_model_and_refused_by_the_copy(model, where, tmp_path):
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with pytest.raises(ValueError, match=r"Load the file into that model, and use tf_dcnv2.layers.make_deformable"):
        make_deformable(unet(), where).load_weights(path)
    fresh = unet()
    fresh.load_weights(path)
    assert_same_output(make_deformable(fresh, where), model)


@pytest.mark.parametrize(
    "where, message",
    [
        ("midle", r"unet\. Received: 'midle' \(no layer\)\. Did you mean 'middle'\?"),
        (["down_0", "up_0", "nothing"], r"Received: 'up_0' \(a Conv2DTranspose\), 'nothing' \(no layer\)"),
        ([], r"no Conv2D that where=\[\] chooses\. Its Conv2D layers: down_0, stride_0"),
        (lambda layer: False, r"no Conv2D that where=<function .*Its Conv2D layers: down_0, stride_0"),
        (re.compile("encoder"), r"no Conv2D that where=re.compile\('encoder'\) chooses"),
        (3, "where must be None, names of layers, .* Received: where=3"),
        ([3], r"where must be None, names of layers, .* Received: where=\[3\]"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused_with_what_there_is(model, where, message):
    with pytest.raises(ValueError, match=message):
        make_deformable(model, where)


def test_a_model_without_larger_convolutions_is_refused():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1, name="point"), layers.DepthwiseConv2D(3)])
    with pytest.raises(ValueError, match="no Conv2D with a kernel larger than 1x1. Its Conv2D layers: point"):
        make_deformable(model)


@MODULATED
def test_grouped_convolutions_become_deformable_with_their_groups(modulated):
    """ResNeXt is made of them."""
    model = keras.Sequential(
        [keras.Input((12, 11, 4)), GroupedConv2D(8, 3, groups=4, strides=2, padding="same", name="grouped")]
    )
    deformable = make_deformable(model, modulated=modulated)
    x = keras.random.normal((2, 12, 11, 4), seed=0)
    assert isinstance(deformable.get_layer("grouped"), DEFORMABLE) and deformable.get_layer("grouped").groups == 4
    np.testing.assert_allclose(deformable(x), model(x), atol=ROUNDING)


def test_other_subclasses_of_conv2d_are_left_alone():
    """They may compute something else."""

    class Standardized(layers.Conv2D):
        pass

    model = keras.Sequential([keras.Input((8, 8, 3)), Standardized(4, 3, name="own"), layers.Conv2D(4, 3)])
    assert isinstance(make_deformable(model).get_layer("own"), Standardized)
    with pytest.raises(ValueError, match=r"'own' \(a Standardized"):
        make_deformable(model, "own")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.convolution = layers.Conv2D(4, 3)

    def call(self, x):
        return self.convolution(x)


class Functional(keras.Model):
    """Has a graph of layers, but a constructor that takes none."""

    def __init__(self, filters):
        image = keras.Input((8, 8, 3))
        super().__init__(image, layers.Conv2D(filters, 3)(image))


def test_models_that_keras_cannot_rebuild_are_refused_with_what_to_do():
    with pytest.raises(ValueError, match="model must be a functional or Sequential model.*Subclassed"):
        make_deformable(Subclassed())
    with pytest.raises(ValueError, match="model must be a functional or Sequential model.*Conv2D"):
        make_deformable(layers.Conv2D(4, 3))
    model = Functional(4)
    with pytest.raises(ValueError, match=r"a Functional, a class .* keras.Model\(model.inputs, model.outputs\)"):
        make_deformable(model)
    assert_same_output(make_deformable(keras.Model(model.inputs, model.outputs)), model)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"offset_clip": -1.0}, "down_0 cannot become a ModulatedDeformableConv2D: offset_clip must be"),
        ({"mask_scale": 0.0}, "down_0 cannot become .*mask_scale must be"),
        ({"deformable_groups": 5}, "deformable_groups must divide the channels .*in the layer 'down_0'"),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name_and_layer(model, options, message):
    with pytest.raises(ValueError, match=message):
        make_deformable(model, **options)


def test_channels_first_is_refused_by_layer():
    convolution = layers.Conv2D(4, 3, data_format="channels_first", name="first")
    with pytest.raises(ValueError, match='first cannot become .*data_format must be "channels_last"'):
        make_deformable(keras.Sequential([keras.Input((3, 8, 8)), convolution]))
