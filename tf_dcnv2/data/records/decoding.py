"""One serialised record -> an image and its objects."""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tf_dcnv2.data.records.dataset_info import Renumbering
from tf_dcnv2.data.records.object_masks import masks_in_boxes


def make_decoder(
    max_boxes: int, mask_size: int | None, renumbering: Mapping[str, Renumbering]
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the function from one serialised example and its data set to its image and targets, in its own pixels.

    Args:
        max_boxes: boxes beyond it are dropped, crowd boxes first.
        mask_size: side in samples of the masks; None leaves masks out.
        renumbering: by data set, which ids become others.
    """
    decoder = _example_decoder(include_mask=mask_size is not None)
    category_id = _id_map({name: changed.categories for name, changed in renumbering.items()})
    image_id = _id_map({name: changed.images for name, changed in renumbering.items()})

    def decode(record: tf.Tensor, data_set: tf.Tensor) -> dict[str, tf.Tensor]:
        fields = decoder.decode(record)
        original_size = tf.cast(tf.shape(fields["image"])[:2], tf.float32)
        kept = _kept_boxes(fields["groundtruth_is_crowd"], max_boxes)
        normalized_boxes = tf.gather(fields["groundtruth_boxes"], kept)
        example = {
            "image": fields["image"],
            "boxes": normalized_boxes * tf.tile(original_size, [2]),
            "classes": tf.cast(category_id(data_set, tf.gather(fields["groundtruth_classes"], kept)), tf.int32),
            "crowd": tf.gather(fields["groundtruth_is_crowd"], kept),
            "areas": tf.gather(fields["groundtruth_area"], kept),
            "image_id": image_id(data_set, tf.strings.to_number(fields["source_id"], tf.int64)),
            "original_size": original_size,
        }
        if mask_size is not None:
            # The decoder's own masks have the size of the image. Nobody asks for them, so the graph leaves them out.
            pngs = fields["groundtruth_instance_masks_png"]
            example["masks"] = masks_in_boxes(pngs, fields["groundtruth_boxes"], mask_size, kept)
            example["mask_boxes"] = example["boxes"]
        return example

    return decode


def size_of_record(record: tf.Tensor, data_set: tf.Tensor) -> tf.Tensor:
    """Height and width `(2,)` of a serialised example's image, which stays as it is."""
    sides = [f"image/{side}" for side in ("height", "width")]
    parsed = tf.io.parse_single_example(record, {side: tf.io.FixedLenFeature([], tf.int64) for side in sides})
    return tf.stack([parsed[side] for side in sides])


def _example_decoder(include_mask: bool) -> Any:
    """Model Garden's decoder, with pixels as `read_image` has them."""
    from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

    class Decoder(TfExampleDecoder):
        def _decode_image(self, parsed_tensors: Mapping[str, tf.Tensor]) -> tf.Tensor:
            encoded = parsed_tensors["image/encoded"]
            # TensorFlow's default for JPEG is a fast transform, which is off by up to 20 of 255.
            image = tf.cond(
                tf.io.is_jpeg(encoded),
                lambda: tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE"),
                lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
            )
            return tf.ensure_shape(image, [None, None, 3])

    return Decoder(include_mask=include_mask)


def _kept_boxes(crowd: tf.Tensor, max_boxes: int) -> tf.Tensor:
    """Indices of at most `max_boxes` boxes in annotation order, preferring those that are no crowd."""
    order = tf.argsort(tf.cast(crowd, tf.int32), stable=True)
    return tf.sort(order[:max_boxes])


def _id_map(maps: Mapping[str, Mapping[int, int]]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A function from a data set's name and int64 ids in it to new ids; those without a new one stay as they are."""
    pairs = {f"{old} of {name}": new for name, changed in maps.items() for old, new in changed.items()}
    if not pairs:
        return lambda data_set, ids: ids
    entries = tf.lookup.KeyValueTensorInitializer(list(pairs), tf.constant(list(pairs.values()), tf.int64))
    none = min(pairs.values()) - 1 if min(pairs.values()) > -(2**63) else max(pairs.values()) + 1
    table = tf.lookup.StaticHashTable(entries, none)

    def renumber(data_set: tf.Tensor, ids: tf.Tensor) -> tf.Tensor:
        new = table.lookup(tf.strings.join([tf.strings.as_string(ids), " of ", data_set]))
        return tf.where(new == none, ids, new)

    return renumber
