"""One serialised record -> a resized image and its objects."""

from collections.abc import Callable

import tensorflow as tf

from tf_dcnv2.data.object_masks import masks_in_boxes
from tf_dcnv2.data.resizing import resize_image, resized_shape

# What there is one of for every box.
PER_BOX = ("boxes", "classes", "crowd", "areas", "masks", "mask_boxes")


def make_decoder(
    short_side: int, max_side: int, canvas: tuple[int, int] | None, max_boxes: int, mask_size: int | None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns the function from one serialised example to a resized uint8 image and its targets.

    Args:
        short_side, max_side, canvas: see `resized_shape`.
        max_boxes: boxes beyond it are dropped, crowd boxes first.
        mask_size: side in samples of the masks; None leaves masks out.
    """
    from official.vision.dataloaders.tf_example_decoder import TfExampleDecoder

    decoder = TfExampleDecoder(include_mask=mask_size is not None)

    def decode(record):
        fields = decoder.decode(record)
        original_size = tf.shape(fields["image"])[:2]
        shape = resized_shape(
            original_size[0], original_size[1], short_side=short_side, max_side=max_side, canvas=canvas
        )
        kept = _kept_boxes(fields["groundtruth_is_crowd"], max_boxes)
        normalized_boxes = tf.gather(fields["groundtruth_boxes"], kept)
        example = {
            "image": resize_image(fields["image"], shape),
            "boxes": normalized_boxes * tf.tile(tf.cast(shape, tf.float32), [2]),
            "classes": tf.cast(tf.gather(fields["groundtruth_classes"], kept), tf.int32),
            "crowd": tf.gather(fields["groundtruth_is_crowd"], kept),
            "areas": tf.gather(fields["groundtruth_area"], kept),
            "image_id": tf.strings.to_number(fields["source_id"], tf.int64),
            "original_size": tf.cast(original_size, tf.float32),
        }
        if mask_size is not None:
            # The decoder's own masks have the size of the image. Nobody asks for them, so the graph leaves them out.
            pngs = fields["groundtruth_instance_masks_png"]
            example["masks"] = tf.gather(masks_in_boxes(pngs, fields["groundtruth_boxes"], mask_size), kept)
            example["mask_boxes"] = example["boxes"]
        return example

    return decode


def _kept_boxes(crowd: tf.Tensor, max_boxes: int) -> tf.Tensor:
    """Indices of at most `max_boxes` boxes in annotation order, preferring those that are no crowd."""
    order = tf.argsort(tf.cast(crowd, tf.int32), stable=True)
    return tf.sort(order[:max_boxes])
