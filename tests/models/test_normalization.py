import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.models.backbones import ResNetBackbone
from tf_dcnv2.models.normalization import BatchNormalization, make_normalization


def set_randomly(layer: keras.layers.BatchNormalization, generator: np.random.Generator) -> None:
    channels = layer.gamma.shape
    layer.gamma.assign(generator.uniform(0.5, 1.5, channels))
    layer.beta.assign(generator.normal(size=channels))
    layer.moving_mean.assign(generator.normal(size=channels))
    layer.moving_variance.assign(generator.uniform(0.5, 2.0, channels))


def results(kind: type, dtype: str, shape: tuple[int, ...], trainable: bool = True) -> list[tf.Tensor]:
    """Output, gradients and moving averages of one training step."""
    generator = np.random.default_rng(0)
    layer = kind(epsilon=1e-3, momentum=0.9, dtype=dtype)
    layer.build(shape)
    set_randomly(layer, generator)
    layer.trainable = trainable
    x = tf.constant(generator.normal(2.0, 3.0, shape), layer.compute_dtype)
    weight = tf.constant(generator.normal(size=shape), layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        total = tf.reduce_sum(tf.cast(weight * y, "float32"))
    assert y.dtype == layer.compute_dtype
    return [y, *tape.gradient(total, [x, *layer.trainable_variables]), layer.moving_mean, layer.moving_variance]


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5), ("mixed_bfloat16", 2e-2)])
@pytest.mark.parametrize("trainable", [True, False])
def test_batch_normalization_learns_as_that_of_keras(dtype, tolerance, trainable):
    ours, theirs = (
        results(kind, dtype, (2, 5, 7, 4), trainable) for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    for one, other in zip(ours, theirs, strict=True):
        one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


def test_the_variance_of_a_single_pixel_is_zero():
    *_, variance = results(BatchNormalization, "float32", (1, 1, 1, 4))
    *_, wanted = results(keras.layers.BatchNormalization, "float32", (1, 1, 1, 4))
    np.testing.assert_allclose(variance, wanted, rtol=1e-6)


def test_a_model_with_a_batch_normalization_is_saved_and_loaded(tmp_path, rng):
    layer = make_normalization("batch", 3, epsilon=1e-5, momentum=0.95, name="norm")
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    set_randomly(layer, rng)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = rng.normal(size=[2, 4, 4, 3])
    np.testing.assert_array_equal(loaded(x), model(x))


def small_backbone(**fields) -> tuple[ResNetBackbone, keras.Model]:
    """A backbone, and its layers one after the other."""
    keras.utils.set_random_seed(0)
    sizes = {"depths": (1, 1, 1, 1), "widths": (16, 16, 32, 32), "stem_width": 16}
    backbone = ResNetBackbone(**{**sizes, "dtype": "float64", **fields})
    generator = np.random.default_rng(0)
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            set_randomly(layer, generator)
        for variable in layer.trainable_variables:  # biases and offsets that are not zero
            variable.assign(variable + 0.05 * generator.normal(size=variable.shape))
    return backbone, keras.Model(backbone.inputs, backbone.output)


@pytest.mark.parametrize(
    "fields",
    [
        {"dcn": "v2"},
        {"dcn": "v1", "dilated_c5": True},
        {"groups": 4, "width_per_group": 16, "dtype": "float32"},
        {"norm": "group"},
    ],
    ids=["v2", "v1", "grouped", "group normalisation"],
)
@pytest.mark.parametrize("training", [False, True])
def test_normalisations_that_are_part_of_convolutions_change_no_output_and_no_gradient(fields, training, rng):
    backbone, separate = small_backbone(**fields)
    images = tf.constant(rng.normal(size=[1, 64, 72, 3]), backbone.compute_dtype)
    # TensorFlow has gradients of grouped convolutions in float32 only, in which a ReLU may see another sign.
    tolerance = 1e-9 if images.dtype == tf.float64 else 1e-2
    found = []
    for network in (backbone, separate):
        with tf.GradientTape() as tape:
            tape.watch(images)
            features = network(images, training=training)
            total = tf.add_n([tf.reduce_sum(tf.sin(level)) for level in features.values()])
        found.append([*features.values(), *tape.gradient(total, [images, *backbone.trainable_variables])])
    for one, other in zip(*found, strict=True):
        assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)


def test_a_normalisation_that_learns_sees_the_batch_and_is_part_of_its_convolution_otherwise(rng):
    backbone, separate = small_backbone(norm="batch", dcn="v2", frozen_stages=2)
    images = tf.constant(rng.normal(size=[2, 64, 72, 3]))
    before = [np.array(variable) for variable in backbone.non_trainable_variables]
    wanted = separate(images, training=True)
    moved = [np.array(variable) for variable in backbone.non_trainable_variables]
    for variable, value in zip(backbone.non_trainable_variables, before, strict=True):
        variable.assign(value)
    features = backbone(images, training=True)
    for name, level in features.items():
        np.testing.assert_allclose(level, wanted[name], rtol=1e-9, atol=1e-9)
    for variable, value in zip(backbone.non_trainable_variables, moved, strict=True):
        np.testing.assert_allclose(variable, value, rtol=1e-9, atol=1e-12)
    learnt = [name for name, level in backbone(images).items() if not np.allclose(level, wanted[name])]
    assert learnt == ["C3", "C4", "C5"]
