"""Masks of objects, each sampled inside a frame of its own, so that moving an image moves four numbers an object.

Shapes: N objects, R x R samples a mask.
"""

import tensorflow as tf


def masks_in_boxes(pngs: tf.Tensor, boxes: tf.Tensor, size: int, kept: tf.Tensor | None = None) -> tf.Tensor:
    """Cuts each object's mask out of its image: the pixels at the centres of R x R equal cells of its box.

    Args:
        pngs: string `(N,)`, the masks of whole images as PNG, nonzero on the object.
        boxes: `(N, 4)` `[y1, x1, y2, x2]` in units of the image's height and width.
        size: R.
        kept: `(K,)` indices of the masks to cut out; by default all.

    Returns:
        `(N, R, R)` uint8, or `(K, R, R)`, 1 on the object.

    Raises:
        tf.errors.InvalidArgumentError: there are more boxes than masks.
    """
    problem = "This record has {} boxes and {} masks: convert the data set with masks, or load it with masks=False."
    message = tf.strings.format(problem, (tf.shape(boxes)[0], tf.shape(pngs)[0]))
    with tf.control_dependencies([tf.debugging.Assert(tf.shape(boxes)[0] == tf.shape(pngs)[0], [message])]):
        pngs = tf.identity(pngs)
    if kept is not None:
        pngs, boxes = tf.gather(pngs, kept), tf.gather(boxes, kept)
    centres = (tf.range(size, dtype=tf.float32) + 0.5) / size

    def cut(png_and_box: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        png, box = png_and_box
        mask = tf.io.decode_png(png, channels=1)[..., 0]
        for axis in (0, 1):
            side = tf.shape(mask)[axis]
            position = (box[axis] + centres * (box[axis + 2] - box[axis])) * tf.cast(tf.shape(mask)[axis], tf.float32)
            mask = tf.gather(mask, tf.clip_by_value(tf.cast(tf.floor(position), tf.int32), 0, side - 1), axis=axis)
        return tf.cast(mask > 0, tf.uint8)

    return tf.map_fn(cut, (pngs, boxes), fn_output_signature=tf.TensorSpec([size, size], tf.uint8))
