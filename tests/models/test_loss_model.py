import keras
import numpy as np
import tensorflow as tf

from tf_dcnv2.models.loss_model import LossModel


@keras.saving.register_keras_serializable(package="tests")
class Line(LossModel):
    """Learns slope and intercept of a line; counts how often its losses are computed in Python."""

    def __init__(self, **kwargs):
        super().__init__(("square_loss",), **kwargs)
        self.line = keras.layers.Dense(1)
        self.line.build((None, 1))
        self.built = True
        self.computed = 0

    def compute_losses(self, inputs, targets, training=True):
        self.computed += 1
        return {"square_loss": tf.reduce_mean((self.line(inputs["x"]) - targets["y"]) ** 2)}


def line_dataset() -> tf.data.Dataset:
    x = np.linspace(-1, 1, 8, dtype="float32")[:, None]
    return tf.data.Dataset.from_tensors(({"x": x}, {"y": 3 * x + 1})).repeat(200)


def test_a_training_step_is_traced_only_once():
    model = Line()
    model.compile(keras.optimizers.Adam(0.1))
    history = model.fit(line_dataset(), epochs=2, verbose=0, shuffle=False).history
    assert history["loss"][-1] < 1e-2
    assert model.computed == 1


def test_a_reloaded_model_goes_on_with_its_optimizer_where_it_was_saved(tmp_path):
    model = Line()
    model.compile(keras.optimizers.Adam(0.1), accumulate=2)
    model.fit(line_dataset().take(3), verbose=0, shuffle=False)
    model.save(tmp_path / "line.keras")
    loaded = keras.saving.load_model(tmp_path / "line.keras")
    assert loaded.compiled and loaded.accumulate == 2
    assert int(loaded.optimizer.iterations) == 3
    for one in (model, loaded):
        one.fit(line_dataset().take(3), verbose=0, shuffle=False)
    np.testing.assert_array_equal(loaded.line.kernel, model.line.kernel)


def test_training_is_distributed():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = Line()
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    model.fit(line_dataset(), verbose=0, shuffle=False)
    np.testing.assert_allclose(model.line.kernel, [[3.0]], atol=1e-2)
