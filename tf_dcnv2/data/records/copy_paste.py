"""Copy-paste augmentation (Ghiasi et al., arXiv:2012.07177): objects of one image, cut out by their masks, on another.

Shapes: N objects of the image, K pasted ones, R x R samples a mask, H x W image.
"""

import tensorflow as tf

from tf_dcnv2.data.records.augmentation import MIN_VISIBLE_SHARE
from tf_dcnv2.data.records.per_box import append_boxes, keep_boxes


def paste_objects(example: dict[str, tf.Tensor], other: dict[str, tf.Tensor], seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Puts each object of `other` at its own place onto the image of `example` with probability 1/2.

    Crowd regions, objects without a mask, and those of which less than 30 % fit on the image stay where they are.
    What they hide is taken from the masks and boxes beneath: of these, objects that are hidden entirely are left out,
    and those of which less than 30 % is left are to be ignored, like a crowd.

    Args:
        example: `image`, `boxes`, `classes`, `crowd`, `areas`, `masks` and `mask_boxes`, as `load_records` has them.
        other: likewise, of another image, which may have another size.
        seed: int64 `(2,)`.
    """
    shape = tf.shape(example["image"])[:2]
    common = tf.minimum(shape, tf.shape(other["image"])[:2])
    other = _choose(other, common, seed)
    covered = _covered_pixels(other["masks"], other["mask_boxes"], shape)
    pixels = other["image"][: shape[0], : shape[1]]
    missing = shape - tf.shape(pixels)[:2]
    pixels = tf.pad(pixels, [[0, missing[0]], [0, missing[1]], [0, 0]])
    image = tf.where(covered[..., None], pixels, example["image"])
    return append_boxes({**_hide(example, covered), "image": image}, other)


def _choose(other: dict[str, tf.Tensor], limit: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """The objects to be pasted, boxes and masks cut to `limit` `(2,)` pixels."""
    boxes = tf.clip_by_value(other["boxes"], 0.0, tf.cast(tf.tile(limit, [2]), tf.float32))
    *_, inside = _cell_pixels(other["mask_boxes"], tf.shape(other["masks"])[1], limit)
    masks = tf.where(inside, other["masks"], 0)
    area, full_area = (tf.reduce_prod(item[:, 2:] - item[:, :2], axis=-1) for item in (boxes, other["boxes"]))
    chosen = tf.random.stateless_uniform(tf.shape(area), seed) < 0.5
    chosen &= ~other["crowd"] & tf.reduce_any(masks > 0, axis=[1, 2])
    chosen &= (area >= MIN_VISIBLE_SHARE * full_area) & (area > 0)
    return keep_boxes({**other, "boxes": boxes, "masks": masks}, chosen)


def _covered_pixels(masks: tf.Tensor, frames: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Which pixels bool `(H, W)` belong to any of K objects."""

    def add(covered: tf.Tensor, mask_and_frame: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        mask, frame = mask_and_frame
        size = tf.shape(mask)[0]
        for axis in (0, 1):
            centres = tf.range(tf.cast(shape[axis], tf.float32)) + 0.5
            cells = tf.floor((centres - frame[axis]) / (frame[axis + 2] - frame[axis]) * tf.cast(size, tf.float32))
            # A cell beyond the mask becomes one of the empty cells around it.
            index = tf.clip_by_value(tf.cast(cells, tf.int32) + 1, 0, size + 1)
            mask = tf.gather(tf.pad(mask, [[1 - axis, 1 - axis], [axis, axis]]), index, axis=axis)
        return covered | (mask > 0)

    return tf.foldl(add, (masks, frames), initializer=tf.zeros(shape, tf.bool))


def _hide(example: dict[str, tf.Tensor], covered: tf.Tensor) -> dict[str, tf.Tensor]:
    """The objects of an example without what is on covered pixels bool `(H, W)`."""
    masks, frames, boxes = example["masks"], example["mask_boxes"], example["boxes"]
    rows, columns, inside = _cell_pixels(frames, tf.shape(masks)[1], tf.shape(covered))
    cells = [tf.broadcast_to(axis, tf.shape(masks)) for axis in (rows[:, :, None], columns[:, None, :])]
    hidden = tf.gather_nd(covered, tf.stack(cells, axis=-1))
    # Of an object without a mask any part of the box may be seen.
    before = inside & ((masks > 0) | ~tf.reduce_any(masks > 0, axis=[1, 2], keepdims=True))
    after = before & ~hidden
    area_before, area_after = (tf.reduce_sum(tf.cast(item, tf.float32), axis=[1, 2]) for item in (before, after))
    share = tf.math.divide_no_nan(area_after, area_before)
    # Annotated boxes are more exact than masks: only where something is hidden do they change.
    touched = area_after < area_before
    changed = {
        "masks": tf.where(hidden, tf.zeros_like(masks), masks),
        "boxes": tf.where(touched[:, None], _overlap(boxes, _bounds(after, frames)), boxes),
        "crowd": example["crowd"] | (touched & (share < MIN_VISIBLE_SHARE)),
    }
    return keep_boxes({**example, **changed}, ~touched | (area_after > 0))


def _cell_pixels(frames: tf.Tensor, size: tf.Tensor, shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The pixels at the centres of the cells of masks in frames `(N, 4)`: rows and columns `(N, R)`.

    Those outside an image of `shape` are moved to its border; bool `(N, R, R)` says which cells are inside.
    """
    pixels, inside = [], []
    centres = (tf.range(tf.cast(size, tf.float32)) + 0.5) / tf.cast(size, tf.float32)
    for axis in (0, 1):
        start, end = frames[:, axis, None], frames[:, axis + 2, None]
        position = tf.cast(tf.floor(start + centres * (end - start)), tf.int32)
        inside.append((position >= 0) & (position < shape[axis]))
        pixels.append(tf.clip_by_value(position, 0, shape[axis] - 1))
    return pixels[0], pixels[1], inside[0][:, :, None] & inside[1][:, None, :]


def _bounds(masks: tf.Tensor, frames: tf.Tensor) -> tf.Tensor:
    """The boxes `(N, 4)` around what is true in bool `(N, R, R)` masks."""
    size = tf.cast(tf.shape(masks)[1], tf.float32)
    low, high = [], []
    for axis in (0, 1):
        filled = tf.cast(tf.reduce_any(masks, axis=2 - axis), tf.int32)
        first = tf.cast(tf.argmax(filled, axis=1), tf.float32)
        last = size - tf.cast(tf.argmax(tf.reverse(filled, [1]), axis=1), tf.float32)
        start, length = frames[:, axis], frames[:, axis + 2] - frames[:, axis]
        low.append(start + first / size * length)
        high.append(start + last / size * length)
    return tf.stack([*low, *high], axis=-1)


def _overlap(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.maximum(boxes[:, :2], others[:, :2]), tf.minimum(boxes[:, 2:], others[:, 2:])], axis=-1)
