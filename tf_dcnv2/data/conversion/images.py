"""One image of a data set and its annotations -> a serialised example of the records."""

import dataclasses

import numpy as np
import tensorflow as tf

from tf_dcnv2._core.masks import box_rle, empty_rle
from tf_dcnv2.data.coco.annotation_entries import LOST_MASK, has_lost_mask
from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.coco.mask_png import encode_mask
from tf_dcnv2.data.coco.segmentations import segmentation_rle
from tf_dcnv2.data.findings import Findings, ItemFindings
from tf_dcnv2.data.images.files import EncodedImage, UnreadableImage, read_as_jpeg
from tf_dcnv2.data.images.lookup import ImageLookup

# Thinner boxes collapse to nothing once normalised in float32.
MIN_BOX_SIDE_PX = 0.1


@dataclasses.dataclass(frozen=True)
class ConvertedImage:
    """One image ready to be written, or the reasons why it or some of its annotations are not.

    Attributes:
        image_id: COCO's.
        example: the serialised `tf.train.Example`; None if the image is left out.
        category_ids: of every box in the example.
        num_crowd: how many of the boxes are crowd ones.
        findings: what was left out or repaired.
        orientation: how an EXIF-rotated image was stored, see `EncodedImage`; empty for others.
    """

    image_id: int
    example: bytes | None
    category_ids: list[int]
    num_crowd: int
    findings: Findings
    orientation: str = ""


class ImageConverter:
    """Converts entries of `images`, on any number of threads.

    Args:
        annotations: the data set.
        lookup: finds the image files.
        include_masks: store a mask of every object.
    """

    def __init__(self, annotations: CocoAnnotations, lookup: ImageLookup, include_masks: bool):
        self._annotations = annotations
        self._lookup = lookup
        self._include_masks = include_masks

    def __call__(self, image: dict) -> ConvertedImage:
        """Converts one entry of `images`."""
        findings, image_id, file = Findings(), image["id"], image["file_name"]
        expected_size = (image["height"], image["width"]) if "height" in image else None
        of_image = findings.about("image", image_id, file)
        try:
            located = self._lookup.find(file)
            encoded = read_as_jpeg(located.path, expected_size)
        except UnreadableImage as error:
            of_image.skip(str(error))
            for annotation in self._annotations.annotations_of.get(image_id, []):
                findings.about("annotation", annotation["id"], file).skip(f"its image {image_id} was left out")
            return ConvertedImage(image_id, None, [], 0, findings)
        for how in (located.how, encoded.note):
            if how:
                of_image.repair(how)
        objects = []
        for annotation in self._annotations.annotations_of.get(image_id, []):
            of_annotation = findings.about("annotation", annotation["id"], file)
            try:
                objects.append(_read_object(annotation, encoded, self._include_masks, of_annotation))
            except ValueError as error:
                of_annotation.skip(str(error))
        example = _make_example(image, encoded, objects, self._annotations.categories)
        num_crowd = sum(item.crowd for item in objects)
        category_ids = [item.category_id for item in objects]
        return ConvertedImage(image_id, example, category_ids, num_crowd, findings, encoded.orientation)


@dataclasses.dataclass(frozen=True)
class _Object:
    """One annotation in the image's pixels: box `[y1, x1, y2, x2]`, run-length code of the mask or None."""

    box: list[float]
    category_id: int
    crowd: bool
    area: float
    mask: dict | None


def _read_object(annotation: dict, image: EncodedImage, include_mask: bool, found: ItemFindings) -> _Object:
    box = clip_box(annotation["bbox"], image.height, image.width)
    area = annotation.get("area", (box[2] - box[0]) * (box[3] - box[1]))
    mask = _read_mask(annotation, box, image, found) if include_mask else None
    return _Object(box, annotation["category_id"], bool(annotation["iscrowd"]), area, mask)


def clip_box(bbox: list[float], height: int, width: int) -> list[float]:
    """Cuts a COCO `[x, y, width, height]` box to the image.

    Returns:
        `[y1, x1, y2, x2]` in pixels.

    Raises:
        ValueError: nothing usable is left.
    """
    x, y, box_width, box_height = map(float, bbox)
    if min(box_width, box_height) < MIN_BOX_SIDE_PX:
        raise ValueError(f"degenerate bbox {bbox}")
    y1, y2 = max(y, 0.0), min(y + box_height, float(height))
    x1, x2 = max(x, 0.0), min(x + box_width, float(width))
    if min(y2 - y1, x2 - x1) < MIN_BOX_SIDE_PX:
        raise ValueError(f"bbox {bbox} lies outside its {width}x{height} image")
    return [y1, x1, y2, x2]


def _read_mask(annotation: dict, box: list[float], image: EncodedImage, found: ItemFindings) -> dict:
    size = (image.height, image.width)
    if has_lost_mask(annotation):
        return empty_rle(*size)
    if "segmentation" not in annotation:
        found.repair("the box was taken for the mask of an object without one")
        return box_rle(box, *size)
    try:
        return segmentation_rle(annotation["segmentation"], *size)
    except ValueError as error:
        found.repair(LOST_MASK, str(error))
        return empty_rle(*size)


def _make_example(image: dict, encoded: EncodedImage, objects: list[_Object], names: dict[int, str]) -> bytes:
    """Serialises the features that Model Garden's `create_tf_example` would write.

    That function itself reads only JPEG files from disk, drops boxes that need clipping, cannot read run-length
    masks of single objects, and importing its module defines a dozen global command-line flags.
    """
    from official.vision.data import tfrecord_lib

    height, width = encoded.height, encoded.width
    # A name that is no valid Unicode, as files of old systems have, is stored with its bytes as escapes.
    name = image["file_name"].encode("utf-8", "backslashreplace").decode()
    features = tfrecord_lib.image_info_to_feature_dict(height, width, name, image["id"], encoded.jpeg, "jpg")
    if objects:
        boxes = np.array([item.box for item in objects]) / [height, width, height, width]
        columns = {
            "bbox/ymin": boxes[:, 0].tolist(),
            "bbox/xmin": boxes[:, 1].tolist(),
            "bbox/ymax": boxes[:, 2].tolist(),
            "bbox/xmax": boxes[:, 3].tolist(),
            "class/text": [names[item.category_id].encode() for item in objects],
            "class/label": [item.category_id for item in objects],
            "is_crowd": [int(item.crowd) for item in objects],
            "area": [item.area for item in objects],
        }
        masks = [item.mask for item in objects if item.mask is not None]
        if masks:  # either all objects have one or none has
            columns["mask"] = [encode_mask(mask) for mask in masks]
        for name, column in columns.items():
            features[f"image/object/{name}"] = tfrecord_lib.convert_to_feature(column)
    # Without this, the order of the features differs from process to process.
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString(deterministic=True)
