"""The entries of an example of which there is one for every box."""

import tensorflow as tf

PER_BOX = ("boxes", "classes", "crowd", "areas", "masks", "mask_boxes")


def keep_boxes(example: dict[str, tf.Tensor], kept: tf.Tensor) -> dict[str, tf.Tensor]:
    """The example with those boxes only for which `kept`, bool `(N,)`, is true."""
    return {name: tf.boolean_mask(value, kept) if name in PER_BOX else value for name, value in example.items()}


def append_boxes(example: dict[str, tf.Tensor], other: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The example with the boxes of another one after its own."""
    return {
        name: tf.concat([value, other[name]], axis=0) if name in PER_BOX else value for name, value in example.items()
    }


def without_masks(example: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The example without its masks."""
    return {name: value for name, value in example.items() if name not in ("masks", "mask_boxes")}
