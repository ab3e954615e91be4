"""Weight decay reaches every convolution and dense kernel of every detector, and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, MIMIC, tiny_config
from tf_dcnv2.layers import ModulatedDeformableConv2D, ModulatedDeformableRoIPooling
from tf_dcnv2.models import DetectorConfig, FeatureMimicking
from tf_dcnv2.models.loss_model import LossModel
from tf_dcnv2.models.presets import load_preset, preset_names
from tf_dcnv2.models.weight_decay import L2

NARROW = {
    "backbone.depths": [1, 1, 1, 1],
    "backbone.widths": [16, 16, 16, 16],
    "backbone.stem_width": 8,
    "neck.channels": 8,
    "rpn.channels": 8,
    "box_head.pool_size": 2,
    "box_head.pool_branch_units": 8,
    "box_head.units": 8,
}
NARROW_MASK_HEAD = {
    "mask_head.pool_size": 2,
    "mask_head.pool_branch_units": 8,
    "mask_head.convolutions": 1,
    "mask_head.channels": 8,
}


def narrow_presets() -> dict[str, DetectorConfig]:
    """One preset of each structure: those that differ in depth, width, mimicking or image size have the same layers."""
    configs = {}
    for name in preset_names():
        config = load_preset(name).replace(**NARROW, short_side=128, max_side=128, mimic={"rois": "positive"})
        if config.mask_head is not None:
            config = config.replace(**NARROW_MASK_HEAD)
        configs.setdefault(config, name)
    return {name: config for config, name in configs.items()}


def paths(variables) -> set[str]:
    return {variable.path for variable in variables}


@pytest.mark.parametrize(("name", "config"), narrow_presets().items(), ids=narrow_presets())
def test_weight_decay_reaches_exactly_the_kernels_of_every_preset(name, config):
    model = FeatureMimicking(config.build(CATEGORY_IDS), MIMIC)
    kernels = [variable for variable in model.weights if len(variable.shape) > 1]
    regularized = [variable for variable in model.weights if variable.regularizer is not None]
    assert paths(regularized) == paths(kernels)
    assert len(regularized) == len(kernels)
    assert {float(variable.regularizer.l2) for variable in regularized} == {0.5 * config.weight_decay}


@pytest.mark.parametrize("neck", ["c5", "fpn"])
def test_the_penalty_pulls_every_kernel_by_1e_4_times_itself(neck):
    keras.utils.set_random_seed(0)
    config = tiny_config(neck, mask_head=MASK_HEAD)
    model = FeatureMimicking(config.build(CATEGORY_IDS), MIMIC)
    for variable in model.trainable_variables:  # branches that start at zero would be pulled by nothing
        variable.assign(variable + 0.1 * tf.random.normal(variable.shape))
    with tf.GradientTape() as tape:
        penalty = tf.add_n(model.losses)
    values = [variable.value for variable in model.trainable_variables]
    gradients = tape.gradient(penalty, values, unconnected_gradients="zero")
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        expected = 1e-4 * variable.numpy() if len(variable.shape) > 1 else np.zeros(variable.shape)
        np.testing.assert_allclose(gradient, expected, rtol=1e-5, err_msg=variable.path)


class Line(LossModel):
    def __init__(self, regularizer: keras.regularizers.Regularizer):
        super().__init__(("square_loss",))
        self.line = keras.layers.Dense(2, kernel_regularizer=regularizer, bias_regularizer="l1")
        self.line.build((None, 3))
        self.line.kernel.assign(np.linspace(-1, 1, 6).reshape(3, 2))
        self.line.bias.assign([0.5, -0.5])
        self.built = True

    def compute_losses(self, inputs, targets, training=True):
        return {"square_loss": tf.reduce_mean((self.line(inputs["x"]) - targets["y"]) ** 2)}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("scale_losses", [False, True])
def test_a_step_decays_weights_as_a_penalty_of_keras_does(accumulate, scale_losses, rng):
    x, y = tf.constant(rng.normal(size=[4, 3]), tf.float32), tf.constant(rng.normal(size=[4, 2]), tf.float32)
    found = []
    for regularizer in (L2(0.1), keras.regularizers.L2(0.1)):
        model = Line(regularizer)
        optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
        model.compile(
            keras.optimizers.LossScaleOptimizer(optimizer) if scale_losses else optimizer, accumulate=accumulate
        )
        data = tf.data.Dataset.from_tensors(({"x": x}, {"y": y})).repeat(3)
        history = model.fit(data, verbose=0, shuffle=False).history
        found.append([*model.get_weights(), history["loss"], history["regularization_loss"]])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_without_weight_decay_nothing_is_penalised():
    config = tiny_config(mask_head=MASK_HEAD, weight_decay=0.0)
    model = FeatureMimicking(config.build(CATEGORY_IDS), MIMIC)
    assert model.losses == []
    assert all(variable.regularizer is None for variable in model.weights)


def test_a_layers_regularizer_reaches_the_kernel_of_its_offset_branch():
    layer = ModulatedDeformableConv2D(4, 3, kernel_regularizer="l2")
    layer.build((None, 8, 8, 2))
    assert {v.name for v in layer.weights if v.regularizer is not None} == {"kernel", "offset_kernel"}
    pooling = ModulatedDeformableRoIPooling(3, spatial_scale=1.0, hidden_units=4, kernel_regularizer="l2")
    pooling.build((None, None, None, 2))
    assert {v.name for v in pooling.weights if v.regularizer is not None} == {"kernel"}
    assert len(pooling.losses) == 3
    copy = type(pooling).from_config(pooling.get_config())
    copy.build((None, None, None, 2))
    assert len(copy.losses) == 3
