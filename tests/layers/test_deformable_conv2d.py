"""The deformable convolution layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D

X = (2, 9, 8, 4)
BOTH = pytest.mark.parametrize("layer_class", [DeformableConv2D, ModulatedDeformableConv2D])


@pytest.fixture
def x(rng):
    return rng.standard_normal(X).astype(np.float32)


def set_offset_bias(layer, value):
    layer.offset_bias.assign(np.broadcast_to(value, layer.offset_bias.shape))


@BOTH
@pytest.mark.parametrize(
    "options, expected_shape",
    [
        ({}, (2, 7, 6, 6)),
        ({"padding": "same", "activation": "relu", "strides": 2}, (2, 5, 4, 6)),
        ({"padding": ((1, 2), (0, 3)), "groups": 2, "deformable_groups": 2, "use_bias": False}, (2, 10, 9, 6)),
        ({"padding": 2, "dilation_rate": 2, "strides": (2, 1), "offset_clip": 3.0}, (2, 5, 8, 6)),
        (
            {
                "kernel_initializer": "he_normal",
                "bias_initializer": "ones",
                "kernel_regularizer": "l2",
                "bias_regularizer": "l1",
                "activity_regularizer": "l2",
                "kernel_constraint": "max_norm",
                "bias_constraint": "non_neg",
                "offset_learning_rate_multiplier": 0.5,
                "implementation": "composite",
                "name": "configured",
            },
            (2, 7, 6, 6),
        ),
    ],
    ids=["defaults", "same", "explicit padding", "dilation and stride", "everything configured"],
)
def test_layer_does_what_keras_layers_do(layer_class, options, expected_shape, x, check_layer):
    if layer_class is ModulatedDeformableConv2D:
        options = {**options, "mask_scale": 2.0}
    check_layer(
        layer_class,
        {"filters": 6, "kernel_size": 3, **options},
        [x],
        [keras.Input((None, None, 4))],
        expected_shape,
    )


CONV_OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "strides": 2, "activation": "tanh"},
        {"padding": "same", "dilation_rate": 2, "use_bias": False},
        {"kernel_size": (2, 3), "strides": (2, 1)},
    ],
    ids=str,
)


@CONV_OPTIONS
@pytest.mark.parametrize(
    "layer_class, extra, factor",
    [
        (DeformableConv2D, {}, 1.0),
        (ModulatedDeformableConv2D, {}, 0.5),
        (ModulatedDeformableConv2D, {"mask_scale": 2.0}, 1.0),
    ],
)
def test_layer_starts_as_conv2d_times_the_initial_modulation(layer_class, extra, factor, options, x, implementation):
    options = {"filters": 6, "kernel_size": 3, "bias_initializer": "random_normal", **options}
    layer = layer_class(**options, **extra, implementation=implementation)
    layer.build(X)
    conv = keras.layers.Conv2D(**options)
    conv.build(X)
    conv.set_weights([factor * layer.kernel.numpy(), *([layer.bias.numpy()] if layer.use_bias else [])])

    # Scaling by 0.5 or 1 is exact; what is left is the order of 36 float32 sums.
    np.testing.assert_allclose(layer(x), conv(x), rtol=0, atol=2e-6)


def test_offset_branch_is_a_convolution_of_the_same_geometry(x):
    options = {"strides": 2, "padding": "same"}
    layer = ModulatedDeformableConv2D(6, 3, deformable_groups=2, **options)
    layer.build(X)
    layer.offset_kernel.assign(np.random.default_rng(1).standard_normal(layer.offset_kernel.shape))
    set_offset_bias(layer, np.arange(54.0))
    branch = keras.layers.Conv2D(54, 3, **options)
    branch.build(X)
    branch.set_weights([layer.offset_kernel.numpy(), layer.offset_bias.numpy()])

    offset, mask = layer.sampling(x)

    expected = branch(x).numpy()
    np.testing.assert_allclose(offset, expected[..., :36], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mask, keras.ops.sigmoid(expected[..., 36:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["same", "valid", ((3, 1), (2, 2))])
@pytest.mark.parametrize("strides, dilation", [((1, 1), (2, 2)), ((2, 3), (2, 1)), ((2, 2), (2, 3))])
def test_offset_branch_takes_dilation_with_strides_and_trains(padding, strides, dilation, rng, value_and_gradients):
    layer = DeformableConv2D(2, 3, padding=padding, strides=strides, dilation_rate=dilation, dtype="float64")
    x = rng.standard_normal((1, 11, 12, 2))
    layer.build(x.shape)
    layer.offset_kernel.assign(rng.standard_normal(layer.offset_kernel.shape))
    explicit = padding.upper() if isinstance(padding, str) else [[0, 0], *padding, [0, 0]]

    (offset, _), _ = layer.sampling(x), layer(x)

    expected = tf.nn.conv2d(x, layer.offset_kernel, strides, explicit, dilations=dilation)
    np.testing.assert_allclose(offset, expected, atol=1e-12)
    _, (dx,) = value_and_gradients(layer, [x])
    assert np.isfinite(dx).all() and dx.any()


def test_constant_offsets_shift_the_image(rng):
    x = rng.standard_normal((1, 6, 7, 3)).astype(np.float32)
    layer = DeformableConv2D(3, 1, kernel_initializer=keras.initializers.Constant(np.eye(3)[None, None]))
    layer.build(x.shape)
    set_offset_bias(layer, [1.0, 2.0])
    np.testing.assert_array_equal(layer(x)[:, :5, :5], x[:, 1:, 2:])


def test_offsets_are_clipped_only_if_asked(x):
    for clip, largest in ((None, 9.0), (2.5, 2.5)):
        layer = DeformableConv2D(6, 3, offset_clip=clip)
        layer.build(X)
        set_offset_bias(layer, [9.0, -9.0] * 9)
        offset, mask = layer.sampling(x)
        assert mask is None
        assert np.abs(offset).max() == largest


def test_nan_offsets_are_noticed_even_if_clipped(x):
    layer = DeformableConv2D(6, 3, offset_clip=1.0)
    layer.build(X)
    set_offset_bias(layer, np.nan)
    assert np.isnan(layer(x)).all()


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"])
def test_offsets_are_never_half_precision(x, precision):
    layer = ModulatedDeformableConv2D(6, 3, dtype=precision)
    layer(x)
    set_offset_bias(layer, 1000.001)  # bfloat16 knows 1000 and 1004, float16 1000 and 1000.5

    offset, mask = layer.sampling(tf.cast(x, layer.compute_dtype))

    assert layer.offset_kernel.dtype == "float32" and offset.dtype == mask.dtype == tf.float32
    np.testing.assert_array_equal(offset, np.full(offset.shape, 1000.001, np.float32))


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_layer_samples_at_positions_that_are_never_half_precision(precision):
    # A ramp along the columns: the output is the position, and 777.3 has no half-precision neighbour within 0.1.
    ramp = np.clip(np.arange(2000.0, dtype=np.float32) - 777, -4, 4).reshape(1, 1, 2000, 1)
    layer = DeformableConv2D(1, 1, kernel_initializer="ones", dtype=precision)
    layer.build(ramp.shape)
    set_offset_bias(layer, [0.0, 777.3])
    assert tf.cast(layer(ramp), tf.float32)[0, 0, 0, 0].numpy() == pytest.approx(0.3, abs=2e-3)


@BOTH
def test_offset_branch_learns_at_a_tenth_of_the_rate(layer_class, x):
    layer = layer_class(6, 3)
    layer(x)
    multipliers = {v.name: getattr(v, "learning_rate_multiplier", 1.0) for v in layer.trainable_variables}
    assert multipliers == {"kernel": 1.0, "bias": 1.0, "offset_kernel": 0.1, "offset_bias": 0.1}


def test_unknown_sizes_are_inferred_without_tracing():
    x = keras.Input((None, 12, 4), batch_size=2)
    assert DeformableConv2D(6, 3, strides=2, padding="same")(x).shape == (2, None, 6, 6)
    assert ModulatedDeformableConv2D(6, 3, strides=2)(x).shape == (2, None, 5, 6)


@BOTH
@pytest.mark.parametrize(
    "options, message",
    [
        ({"filters": 0}, "filters must be an integer of at least 1"),
        ({"kernel_size": (3, 0)}, "kernel_size must be an integer of at least 1"),
        ({"strides": -1}, "strides must be"),
        ({"padding": "causal"}, "padding must be"),
        ({"dilation_rate": 0}, "dilation_rate must be"),
        ({"groups": 4}, "groups must divide filters"),
        ({"deformable_groups": 0}, "deformable_groups must be"),
        ({"data_format": "channels_first"}, 'data_format must be "channels_last"'),
        ({"offset_clip": 0.0}, "offset_clip must be a positive number"),
        ({"offset_learning_rate_multiplier": -0.1}, "offset_learning_rate_multiplier must be at least 0"),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_bad_arguments_are_refused_by_name(layer_class, options, message):
    with pytest.raises(ValueError, match=message):
        layer_class(**{"filters": 6, "kernel_size": 3, **options})


def test_bad_mask_scale_is_refused():
    with pytest.raises(ValueError, match="mask_scale must be a positive number"):
        ModulatedDeformableConv2D(6, 3, mask_scale=0)


@BOTH
@pytest.mark.parametrize(
    "options, shape, message",
    [
        ({"groups": 2}, (None, 8, 8, 5), "groups must divide the channels"),
        ({"deformable_groups": 3}, (None, 8, 8, 4), "deformable_groups must divide the channels"),
        ({}, (None, 8, 8, None), "channels of the input, which must be known"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_by_name(layer_class, options, shape, message):
    with pytest.raises(ValueError, match=message):
        layer_class(6, 3, **options).build(shape)


@BOTH
def test_windows_larger_than_the_input_are_refused(layer_class):
    with pytest.raises(ValueError, match="kernel_size=.*does not fit the input"):
        layer_class(6, 5, dilation_rate=3)(keras.Input((8, 8, 4)))


@BOTH
def test_windows_larger_than_a_tensor_are_refused(layer_class, x):
    layer = layer_class(6, 3, dilation_rate=50)
    with pytest.raises(ValueError, match="kernel_size=.*does not fit the input"):
        layer(x)


@BOTH
@pytest.mark.parametrize(
    "options", [{"filters": 2**31 - 1}, {"kernel_size": 100_000}, {"filters": 64, "kernel_size": (2**31 - 1, 1)}]
)
def test_weights_that_no_machine_could_hold_are_refused_by_name(layer_class, options):
    with pytest.raises(ValueError, match=r"A variable of the layer would have .* elements.*filters=.*kernel_size="):
        layer_class(**{"filters": 4, "kernel_size": 3, **options}).build((None, 8, 8, 4))


@BOTH
def test_padding_beyond_what_tensorflow_can_index_is_refused(layer_class, x):
    with pytest.raises(ValueError, match="padding is too large"):
        layer_class(6, 3, padding=(2**31 - 1, 1))(x)


@BOTH
def test_inputs_of_another_rank_or_channels_are_refused(layer_class, x):
    layer = layer_class(6, 3)
    with pytest.raises(ValueError, match="expected ndim=4"):
        layer(x[0])
    layer(x)
    with pytest.raises(ValueError, match="axis -1"):
        layer(x[..., :3])


@BOTH
@pytest.mark.parametrize("options, expected_size", [({}, (6, 6)), ({"padding": 1, "strides": 2}, (4, 4))])
def test_empty_batches_have_empty_outputs_and_zero_gradients(layer_class, options, expected_size, traced):
    layer = layer_class(2, 3, **options)
    layer.build((None, 8, 8, 4))

    @traced
    def run(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return y, tape.gradient(y, [variable.value for variable in layer.trainable_variables])

    y, gradients = run(np.zeros((0, 8, 8, 4), np.float32))

    assert y.shape == (0, *expected_size, 2)
    assert not any(np.any(gradient) for gradient in gradients)


@BOTH
def test_one_graph_takes_empty_and_full_batches(layer_class):
    layer = layer_class(2, 3)
    layer.build((None, 8, 8, 4))
    graph = tf.function(layer, input_signature=[tf.TensorSpec([None, 8, 8, 4])])
    x = tf.random.normal([3, 8, 8, 4])
    assert graph(x[:0]).shape == (0, 6, 6, 2)
    np.testing.assert_allclose(graph(x), layer(x), rtol=1e-5, atol=1e-5)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("known", [True, False], ids=["sizes known", "sizes unknown"])
@pytest.mark.parametrize(
    "kernel_size, options, input_size, expected_size",
    [
        ((1, 4), {"strides": (1, 2), "padding": 1}, (1, 1), (3, 0)),
        ((4, 1), {"strides": (1, 3), "padding": 1, "dilation_rate": 3}, (7, 4), (0, 2)),
        ((3, 3), {"strides": 3}, (2, 5), (0, 1)),
        ((3, 3), {"padding": "same"}, (0, 5), (0, 5)),
    ],
)
def test_inputs_without_output_pixels_have_empty_outputs_and_zero_gradients(
    layer_class, dtype, known, kernel_size, options, input_size, expected_size
):
    layer = layer_class(2, kernel_size, dtype=dtype, **options)
    layer.build((None, None, None, 3))
    spec = tf.TensorSpec([2, *input_size, 3] if known else [None, None, None, 3], dtype)

    @tf.function(input_signature=[spec])
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return y, tape.gradient(y, [x, *(variable.value for variable in layer.trainable_variables)])

    y, gradients = run(tf.ones([2, *input_size, 3], dtype))

    assert y.shape == (2, *expected_size, 2)
    assert not any(np.any(gradient) for gradient in gradients)


@BOTH
def test_gradient_penalties_train_every_variable(layer_class, x, implementation):
    model = keras.Sequential([layer_class(6, 3, activation="tanh", implementation=implementation)])
    model.build(X)
    model.layers[0].offset_kernel.assign(np.random.default_rng(0).standard_normal(model.layers[0].offset_kernel.shape))

    @tf.function
    def penalty_gradients(x):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                score = tf.reduce_sum(model(x))
            penalty = tf.reduce_sum(tf.square(inner.gradient(score, x)))
        return outer.gradient(penalty, [variable.value for variable in model.trainable_variables])

    gradients = penalty_gradients(tf.constant(x))
    assert all(np.all(np.isfinite(gradient)) and np.any(gradient) for gradient in gradients)


@BOTH
@pytest.mark.parametrize("strides, padding", [(1, "same"), (1, "valid"), (2, "same"), (2, 2)])
def test_xla_compiles_dilated_layers_of_unknown_size_with_their_gradients(layer_class, strides, padding, x):
    layer = layer_class(6, 3, strides=strides, padding=padding, dilation_rate=2)
    layer.build((None, None, None, 4))
    layer.offset_kernel.assign(0.1 * np.random.default_rng(0).standard_normal(layer.offset_kernel.shape))

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) ** 2)
        return [loss, *tape.gradient(loss, [x, *(variable.value for variable in layer.trainable_variables)])]

    compiled = tf.function(run, jit_compile=True, input_signature=[tf.TensorSpec([None, None, None, 4])])
    for one, other in zip(compiled(tf.constant(x)), run(tf.constant(x)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@BOTH
def test_keras_compiles_models_of_composite_layers_by_xla_on_demand(layer_class, x):
    def model(implementation):
        inputs = keras.Input((None, None, 4))
        outputs = layer_class(6, 3, dilation_rate=2, padding="same", implementation=implementation)(inputs)
        return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(outputs))

    compiled = model("composite")
    compiled.compile("sgd", "mse", jit_compile=True)
    assert compiled.jit_compile
    history = compiled.fit(x, np.ones((2, 6)), epochs=3, batch_size=1, verbose=0).history["loss"]
    assert history[-1] < history[0]
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model("native").compile("sgd", "mse", jit_compile=True)
