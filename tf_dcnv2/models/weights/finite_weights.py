"""Whether a model's weights are numbers that can be computed with."""

import keras
import numpy as np


def non_finite_weights(model: keras.Model) -> list[str]:
    """Paths of the weights that hold a NaN or an infinity, as a diverged training leaves them; empty if all is well."""
    return [weight.path for weight in model.weights if not np.isfinite(keras.ops.convert_to_numpy(weight)).all()]


def require_finite_weights(model: keras.Model, what: str) -> None:
    """Checks that a model can be used.

    Args:
        model: whose weights are looked at.
        what: names it in the message.

    Raises:
        ValueError: some weights are not finite.
    """
    if paths := non_finite_weights(model):
        others = f" and {len(paths) - 1} more weights" if len(paths) > 1 else ""
        raise ValueError(f"{what}: {paths[0]}{others} hold NaN or infinity, as a training leaves them that diverged.")
