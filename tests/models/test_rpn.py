import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.models.rpn import RPN

SIZES = ((5, 7), (3, 4), (1, 2))


def make(convolutions: int, **arguments) -> RPN:
    rpn = RPN(
        strides=(4, 8, 16), in_channels=6, channels=5, convolutions=convolutions, anchor_sizes=(8, 16, 32), **arguments
    )
    rpn.build()
    generator = np.random.default_rng(0)
    for variable in rpn.variables:  # biases count where a map is padded
        variable.assign(generator.normal(size=variable.shape))
    return rpn


def maps(batch: int = 2) -> list[tf.Tensor]:
    generator = np.random.default_rng(1)
    return [tf.constant(generator.normal(size=[batch, *size, 6]), tf.float32) for size in SIZES]


def outputs(rpn: RPN, levels: list[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    logits, deltas = rpn(levels)
    return tf.concat(logits, axis=1), tf.concat(deltas, axis=1)


@pytest.mark.parametrize("convolutions", [1, 2, 3])
def test_a_few_anchors_have_the_outputs_and_gradients_that_they_have_among_all(convolutions):
    rpn, levels = make(convolutions), maps()
    anchors = outputs(rpn, levels)[0].shape[1]
    where = np.stack(np.unravel_index(np.random.default_rng(2).permutation(2 * anchors)[:40], (2, anchors)), axis=-1)
    weight = tf.constant(np.random.default_rng(3).normal(size=[40, 5]), tf.float32)

    def all_at_once():
        return [tf.gather_nd(values, where) for values in outputs(rpn, levels)]

    def sample():
        return rpn.outputs_of_anchors(levels, *tf.unstack(tf.constant(where, tf.int32), axis=1))

    found = []
    for compute in (all_at_once, sample):
        with tf.GradientTape() as tape:
            tape.watch(levels)
            logits, deltas = compute()
            total = tf.reduce_sum(weight * tf.concat([logits[:, None], deltas], axis=1))
        found.append([logits, deltas, *tape.gradient(total, [*levels, *rpn.trainable_variables])])
    for one, other in zip(*found, strict=True):
        scale = float(tf.reduce_max(tf.abs(one)))
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-6 * scale)


def test_no_anchors_have_no_outputs_and_gradients_of_zero():
    rpn, levels = make(2), maps()
    none = tf.zeros([0], tf.int32)
    with tf.GradientTape() as tape:
        tape.watch(levels)
        logits, deltas = rpn.outputs_of_anchors(levels, none, none)
        total = tf.reduce_sum(logits) + tf.reduce_sum(deltas)
    assert logits.shape == (0,) and deltas.shape == (0, 4)
    assert all(not np.any(gradient) for gradient in tape.gradient(total, levels))


def test_a_few_anchors_are_computed_in_the_precision_of_the_layer():
    rpn, levels = make(1, dtype="mixed_bfloat16"), [tf.cast(level, tf.bfloat16) for level in maps(1)]
    logits, deltas = outputs(rpn, levels)
    anchors = tf.range(logits.shape[1])
    few = rpn.outputs_of_anchors(levels, tf.zeros_like(anchors), anchors)
    assert few[0].dtype == few[1].dtype == tf.float32
    # Two roundings to bfloat16, of the hidden layer's sums and of its biased values.
    np.testing.assert_allclose(few[0], logits[0], atol=2e-2 * float(tf.reduce_max(tf.abs(logits))))
    np.testing.assert_allclose(few[1], deltas[0], atol=2e-2 * float(tf.reduce_max(tf.abs(deltas))))
