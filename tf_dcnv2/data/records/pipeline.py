"""TFRecords -> batches for a detector, as a `tf.data.Dataset`.

Shapes: B batch, H x W padded image, M boxes per image, R x R samples per mask.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import tensorflow as tf

from tf_dcnv2._core.checked_types import (
    MinLength,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Range,
    checked_arguments,
    require,
)
from tf_dcnv2.data.images.resizing import SIZE_MULTIPLE, Resizing, pad_to_multiple
from tf_dcnv2.data.records.arrangement import group_by_aspect_ratio, with_previous
from tf_dcnv2.data.records.augmentation import Augmentation
from tf_dcnv2.data.records.copy_paste import paste_objects
from tf_dcnv2.data.records.dataset_info import DatasetInfo, describe_shards
from tf_dcnv2.data.records.decoding import make_decoder, size_of_record
from tf_dcnv2.data.records.files import find_shards, prefix_of
from tf_dcnv2.data.records.network_size import NetworkSize
from tf_dcnv2.data.records.passes import in_passes
from tf_dcnv2.data.records.per_box import PER_BOX, without_masks
from tf_dcnv2.data.records.reading import read_records

# Of records without description, of which nobody knows how many boxes the fullest image has.
_MAX_BOXES_OF_UNKNOWN = 1000
_MAX_SHUFFLE_BUFFER = 4096
_PREFETCHED_BATCHES = 2


@checked_arguments
def load_records(
    pattern: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    batch_size: PositiveInt,
    training: bool = False,
    short_side: PositiveInt = 800,
    max_side: PositiveInt = 1333,
    size_multiple: PositiveInt = SIZE_MULTIPLE,
    resizing: Resizing = "tensorflow",
    canvas: tuple[PositiveInt, PositiveInt] | None = None,
    flip: bool | None = None,
    vertical_flip: bool = False,
    rotate: bool = False,
    short_sides: Annotated[tuple[PositiveInt, ...], MinLength(1)] | None = None,
    scale_range: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0),
    color_jitter: Annotated[float, Range(0, 1)] = 0.0,
    copy_paste: Annotated[float, Range(0, 1)] = 0.0,
    shuffle: bool | None = None,
    aspect_grouping: bool | None = None,
    max_boxes: PositiveInt | None = None,
    masks: bool = False,
    mask_size: PositiveInt = 112,
    cache: bool = False,
    seed: int | None = None,
    repeat: bool = False,
    start_step: NonNegativeInt = 0,
    share: tuple[NonNegativeInt, PositiveInt] | None = None,
    drop_remainder: bool | None = None,
    categories: Mapping[int, str] | None = None,
) -> tf.data.Dataset:
    """Reads COCO-style TFRecords (Model Garden's schema) as batches of `(inputs, targets)`.

    Images are resized so that the shorter side is `short_side` and the longer at most `max_side` (bilinear, aspect
    ratio kept), and padded with zeros at the bottom and right. With `training=False` every image comes exactly once, in
    the order of the files, the last batch possibly smaller; with `training=True` images are shuffled and flipped and
    only full batches are made. Each of these can be set on its own.

    Args:
        pattern: prefix given to `convert_coco`, a file, a glob pattern (`"records/train-*"`), or a list of these.
        batch_size: images per batch.
        training: chooses the defaults of `flip`, `shuffle` and `drop_remainder`.
        short_side: length of the shorter side in pixels.
        max_side: upper bound of the longer side; wins over `short_side`.
        resizing: whose arithmetic resizes images, see `prepare_image`; the detector's `resizing`.
        size_multiple: the padded height and width are multiples of this.
        canvas: `(height, width)` to pad every image to, for static shapes; images are shrunk further if they would
            not fit. Default: the largest image of the batch, rounded up to `size_multiple`.
        flip: mirror left-right at random; boxes follow.
        vertical_flip: mirror top-bottom at random.
        rotate: turn by 0, 90, 180 or 270 degrees at random; whether it is by a quarter is drawn once for each batch.
        short_sides: multi-scale training: lengths to draw from instead of `short_side`, once for each batch, which is
            then not padded to the largest of them.
        scale_range: `(low, high)` random extra scaling; enlarged images are cropped at random. An object of which the
            crop leaves less than 30 % becomes a crowd box, i.e. one to be ignored. `(0.1, 2.0)` with a square `canvas`
            is large-scale jitter.
        color_jitter: strength in [0, 1] of random brightness, contrast, saturation and hue.
        copy_paste: share of the images onto which objects of the image before are pasted, cut out by their masks, each
            with probability 1/2. The records must have masks, also with `masks=False`. M is twice as large.
        shuffle: new random order on every pass.
        aspect_grouping: make batches of images of similar aspect ratio, which need less padding. Every image still
            comes once in a pass. Default: as `shuffle`, unless all images are padded to a `canvas` anyway.
        max_boxes: M; boxes beyond it are dropped, crowd boxes first, then in the order of the annotations, and a
            warning counts them: in training they teach that there is nothing. Default: as many as the fullest image
            has, so that none is dropped; 1000 for records without a description. With `copy_paste`, of either of two
            images.
        masks: give each object's mask too; the records must have been converted with masks.
        mask_size: R, samples per side of a mask.
        cache: keep decoded and resized images in memory (3 bytes per pixel) after the first pass. Those that change
            their size at random are resized once more.
        seed: makes order and augmentation reproducible.
        repeat: start over for ever instead of ending after one pass.
        start_step: the first batch, for training that goes on where it stopped: with `repeat` and a `seed`, batch i of
            `start_step=s` is batch s + i of `start_step=0`. What comes before is not decoded.
        share: `(index, count)`: of the images of every batch only those of part `index` out of `count` equal ones, for
            one of `count` processes that train together. The others are neither decoded nor returned.
        drop_remainder: leave out a last batch that is not full, in every pass.
        categories: category id -> name of another data set, or of a detector. The records' categories are matched to
            these by name and come with these ids. Default: the ids in the records.

    Returns:
        A dataset of `(inputs, targets)`; boxes are `[y1, x1, y2, x2]` in pixels of the padded image:

        * inputs: `images` `(B, H, W, 3)` float32 RGB 0..255, `image_sizes` `(B, 2)` float32 height and width
          without padding.
        * targets: `boxes` `(B, M, 4)` float32 padded with 0; `classes` `(B, M)` int32, the data set's own category
          ids, padded with -1; `crowd` `(B, M)` bool; `areas` `(B, M)` float32, the annotated areas in pixels of the
          original image; `image_ids` `(B,)` int64; `original_sizes` `(B, 2)` float32; `seeds` `(B, 2)` int64, from
          which training draws the anchors and RoIs of each image.
        * with `masks=True` also `masks` `(B, M, R, R)` uint8, 1 on the object, sampled in R x R equal cells of the
          frame `mask_boxes` `(B, M, 4)` float32: the annotated box, which unlike `boxes` may reach past the border of a
          cropped image.

    Raises:
        FileNotFoundError: nothing matches the pattern, or a shard is missing.
        ValueError: an argument is out of range, the data set is incomplete, it has no masks, or it has boxes of a
            category that is not in `categories`.
        tf.errors.InvalidArgumentError: while reading, a record is truncated or corrupt; the message names the file.

    Example:
        >>> train = load_records("records/train", batch_size=4, training=True, short_side=320, seed=0)
        >>> detector.fit(train, epochs=12)
    """
    fits = canvas is None or not any(side % size_multiple for side in canvas)
    require(fits, "canvas", f"(height, width), multiples of size_multiple={size_multiple}", canvas)
    flip, shuffle, drop_remainder = (training if value is None else value for value in (flip, shuffle, drop_remainder))
    if aspect_grouping is None:
        aspect_grouping = shuffle and canvas is None
    augmentation = Augmentation(flip, vertical_flip, rotate, scale_range, color_jitter)
    network_size = NetworkSize(short_sides or (short_side,), max_side, canvas, resizing)
    paths = find_shards(pattern)
    info = describe_shards(paths, categories)
    needs_masks = masks or copy_paste > 0
    if needs_masks and info is not None and not info.has_masks:
        raise ValueError(
            "These records have no masks: convert annotations that have segmentations, without --no-masks "
            f"(include_masks=False). Received: {pattern!r}"
        )
    if max_boxes is None:
        max_boxes = _MAX_BOXES_OF_UNKNOWN if info is None else max(1, info.max_boxes_per_image)
    elif info is not None and info.max_boxes_per_image > max_boxes:
        # Records of earlier versions know the largest number only.
        counted = (
            f"{info.boxes_beyond(max_boxes)} boxes on {info.images_with_more_than(max_boxes)} images"
            if info.boxes_per_image
            else "boxes"
        )
        warnings.warn(
            f"{counted} are left out by max_boxes={max_boxes}; max_boxes={info.max_boxes_per_image} keeps all",
            stacklevel=3,  # the caller of the checked function
        )
    if start_step:
        require(repeat and seed is not None, "start_step", "0 unless repeat=True and a seed are given", start_step)
        require(info is not None, "start_step", "0 for records that were not written by convert_coco", start_step)
    part, parts = share or (0, 1)
    require(part < parts and batch_size % parts == 0, "share", f"a part of batch_size={batch_size}", share)
    require(parts == 1 or drop_remainder, "share", "None where the last batch may be smaller", share)
    if drop_remainder and info is not None and info.num_images < batch_size:
        raise ValueError(
            f"The data set has only {info.num_images} images, not enough for one full batch. Received: "
            f"batch_size={batch_size}"
        )

    renumbering = {} if info is None else info.renumbering
    decode = make_decoder(max_boxes, mask_size if needs_masks else None, renumbering)
    labels = [prefix_of(path) or "" for path in paths]
    cached = None
    if cache:
        cached = read_records(paths, labels).map(
            lambda *record: network_size.to_largest(decode(*record)), num_parallel_calls=tf.data.AUTOTUNE
        )
        cached = cached.cache()

    def examples_of(pass_seed: tf.Tensor) -> tf.data.Dataset:
        # Shuffling after the cache, or every pass would replay the first one's order.
        examples = read_records(paths, labels, pass_seed if shuffle else None) if cached is None else cached
        if info is not None:
            examples = examples.apply(tf.data.experimental.assert_cardinality(info.num_images))
        if shuffle:
            examples = examples.shuffle(_shuffle_buffer(info), seed=pass_seed)
        if aspect_grouping:
            size_of = size_of_record if cached is None else lambda example: example["original_size"]
            examples = group_by_aspect_ratio(examples, size_of, batch_size)
        return with_previous(examples) if copy_paste else examples

    used = None
    if repeat and info is not None:
        used = info.num_images - (info.num_images % batch_size if drop_remainder else 0)
    is_random = augmentation != Augmentation() or copy_paste > 0 or len(network_size.short_sides) > 1
    dataset = in_passes(
        examples_of,
        seed=seed,
        vary=shuffle or is_random,
        repeat=repeat,
        used=used,
        skipped=start_step * batch_size,
        chosen=(lambda index: index % batch_size // (batch_size // parts) == part) if parts > 1 else None,
    )

    def make_example(example: Any, seeds: tf.Tensor) -> dict[str, tf.Tensor]:
        read = (lambda example: example) if cached is not None else (lambda record: decode(*record))
        own, color, whether, which, others = tf.unstack(tf.random.experimental.stateless_split(seeds, 5))
        # Numbers of images are not negative.
        of_batch = tf.stack([seeds[0], -1 - seeds[1] // batch_size])
        current, previous = example if copy_paste else (example, None)
        made = augmentation.place(read(current), network_size, own, of_batch)
        if copy_paste:

            def paste() -> dict[str, tf.Tensor]:
                other = augmentation.place(read(previous), network_size, others, of_batch)
                return paste_objects(made, other, which)

            made = tf.cond(tf.random.stateless_uniform([], whether) < copy_paste, paste, lambda: made)
        return {**augmentation.recolor(made, color), "seeds": seeds}

    dataset = dataset.map(make_example, num_parallel_calls=tf.data.AUTOTUNE)
    if needs_masks and not masks:
        dataset = dataset.map(without_masks)
    dataset = dataset.map(lambda example: {**example, "size": tf.shape(example["image"])[:2]})
    if canvas is None:
        dataset = dataset.map(lambda example: {**example, "image": pad_to_multiple(example["image"], size_multiple)})
    dataset = dataset.padded_batch(
        batch_size // parts,
        padded_shapes=_padded_shapes(dataset.element_spec, canvas, 2 * max_boxes if copy_paste else max_boxes),
        padding_values=_padding_values(dataset.element_spec),
        drop_remainder=drop_remainder,
    )
    # Autotuning's thread sleeps ever longer, and whoever drops an iterator waits for it: ten seconds after an epoch of
    # ten. Without it AUTOTUNE stands for the number of cores.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.map(_as_inputs_and_targets).prefetch(_PREFETCHED_BATCHES).with_options(options)
    if info is not None:
        dataset = dataset.apply(_known_length(info.num_images, batch_size, drop_remainder, repeat))
    return dataset


def _known_length(
    num_images: int, batch_size: int, drop_remainder: bool, repeat: bool
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Tells tf.data how many batches there are, so that `fit` knows from the first epoch on."""
    batches = num_images // batch_size if drop_remainder else -(-num_images // batch_size)
    return tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY if repeat else batches)


def _shuffle_buffer(info: DatasetInfo | None) -> int:
    return _MAX_SHUFFLE_BUFFER if info is None else max(1, min(info.num_images, _MAX_SHUFFLE_BUFFER))


def _padded_shapes(
    spec: dict[str, tf.TensorSpec], canvas: tuple[int, int] | None, max_boxes: int | None
) -> dict[str, tf.TensorShape | list[int | None]]:
    shapes = {name: [max_boxes, *item.shape[1:]] for name, item in spec.items() if name in PER_BOX}
    image_shape = [*(canvas or (None, None)), 3]
    return {name: item.shape for name, item in spec.items()} | shapes | {"image": image_shape}


def _padding_values(spec: dict[str, tf.TensorSpec]) -> dict[str, tf.Tensor]:
    values = {name: tf.zeros([], item.dtype) for name, item in spec.items()}
    return values | {"classes": tf.constant(-1, tf.int32)}


def _as_inputs_and_targets(batch: dict[str, tf.Tensor]) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    inputs = {"images": tf.cast(batch["image"], tf.float32), "image_sizes": tf.cast(batch["size"], tf.float32)}
    targets = {name: batch[name] for name in PER_BOX if name in batch}
    of_images = {"image_ids": "image_id", "original_sizes": "original_size", "seeds": "seeds"}
    return inputs, targets | {name: batch[key] for name, key in of_images.items()}
