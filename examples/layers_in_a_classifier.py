"""Deformable convolutions in a Keras classifier of your own: `python examples/layers_in_a_classifier.py`.

Rings and crosses, randomly rotated, stretched and placed, are told apart by a network whose last two convolutions are
modulated deformable ones. Needs nothing but `pip install .`; takes about a minute.
"""

import keras
import numpy as np

import tf_dcnv2


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images `(count, 48, 48, 1)` in 0..1 and labels `(count,)`: 0 is a ring, 1 a cross."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    y, x = np.mgrid[:48, :48][:, None] - rng.uniform(16, 32, (2, count))[:, :, None, None]
    angle = rng.uniform(0, np.pi, (count, 1, 1))
    u = (np.cos(angle) * x + np.sin(angle) * y) / rng.uniform(6, 14, (count, 1, 1))
    v = (np.cos(angle) * y - np.sin(angle) * x) / rng.uniform(6, 14, (count, 1, 1))
    ring = np.abs(np.hypot(u, v) - 0.8) < 0.2
    cross = (np.minimum(np.abs(u), np.abs(v)) < 0.2) & (np.maximum(np.abs(u), np.abs(v)) < 1)
    shapes = np.where(labels[:, None, None] == 0, ring, cross)
    noise = rng.normal(0, 0.3, shapes.shape)
    return (shapes + noise)[..., None].astype("float32"), labels


def main() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((48, 48, 1)),
            keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
            # In place of Conv2D: the same arguments, and where to sample is learnt.
            tf_dcnv2.layers.ModulatedDeformableConv2D(32, 3, strides=2, padding="same", activation="relu"),
            tf_dcnv2.layers.ModulatedDeformableConv2D(32, 3, padding="same", activation="relu", name="last"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    # The paper lets the offset branches learn at a tenth of the rate; this works with any Keras optimizer.
    optimizer = tf_dcnv2.optimizers.scale_learning_rates(keras.optimizers.Adam(3e-3))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    model.fit(*draw(2000, seed=0), epochs=8, batch_size=32, validation_data=draw(500, seed=1), verbose=2)

    before_last = keras.Model(model.inputs[0], model.get_layer("last").input)
    offset, mask = model.get_layer("last").sampling(before_last(draw(8, seed=2)[0]))
    print(f"taps moved by {np.abs(offset).mean():.2f} px on average, modulation {np.min(mask):.2f}..{np.max(mask):.2f}")

    model.save("classifier.keras")  # loads with keras.models.load_model after `import tf_dcnv2`
    print("saved to classifier.keras")


if __name__ == "__main__":
    main()
