"""COCO JSON and a folder of images -> sharded TFRecords in Model Garden's schema."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tf_dcnv2.data import record_files
from tf_dcnv2.data.coco_annotations import CocoAnnotations, SkippedItem, clip_box, read_coco_annotations
from tf_dcnv2.data.image_files import EncodedImage, UnreadableImage, read_as_jpeg
from tf_dcnv2.data.masks import box_mask, segmentation_mask

_IMAGES_PER_SHARD = 500


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What `convert_coco` wrote and what it left out.

    Attributes:
        images: number of images written, those without any box included.
        boxes: number of boxes written, crowd ones included.
        crowd: number of crowd boxes written.
        skipped: images and annotations left out, each with its id and the reason; `str()` gives a message.
        shards: paths of the record files.
        categories: category id -> name.
    """

    images: int
    boxes: int
    crowd: int
    skipped: tuple[SkippedItem, ...]
    shards: tuple[str, ...]
    categories: dict[int, str]

    def __str__(self) -> str:
        counts = collections.Counter(item.kind for item in self.skipped)
        left_out = ", ".join(f"{count} {kind}s" for kind, count in counts.items()) or "nothing"
        return (
            f"{self.images} images, {self.boxes} boxes ({self.crowd} crowd), {len(self.categories)} categories "
            f"in {len(self.shards)} shards; skipped: {left_out}"
        )


@dataclasses.dataclass(frozen=True)
class _Object:
    """One annotation in the image's pixels: box `[y1, x1, y2, x2]`, mask `(H, W)` uint8 or None."""

    box: list[float]
    category_id: int
    crowd: bool
    area: float
    mask: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class _Converted:
    """One image ready to be written, or the reasons why it or some of its annotations are not."""

    image_id: int
    example: bytes | None
    category_ids: list[int]
    num_crowd: int
    skipped: list[SkippedItem]


def convert_coco(
    images_dir: str | os.PathLike,
    annotations_file: str | os.PathLike,
    output_prefix: str | os.PathLike,
    *,
    num_shards: int | None = None,
    include_masks: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Converts a COCO data set to TFRecords that `load_records` and Model Garden's decoder read.

    Writes `<output_prefix>-00000-of-00004.tfrecord`, … and the sidecar `<output_prefix>.json`. Category ids are kept
    as they are, whatever their values; images without boxes are kept; crowd annotations are marked as such. Boxes
    that reach past the image's border are clipped. An item that cannot be used (missing or damaged image file,
    annotation with unknown image or category id, malformed or degenerate box, box outside the image) is left out
    and reported. Files that are not plain RGB JPEG (PNG, greyscale, CMYK, EXIF-rotated …) are re-encoded.

    Shards are written under temporary names and renamed at the end, the sidecar last: whenever the conversion is
    interrupted, `load_records` either refuses the data set or sees the previous, complete one. Shards of an earlier
    data set of the same prefix are replaced.

    Args:
        images_dir: folder that the annotations' `file_name`s are relative to.
        annotations_file: COCO `instances_*.json`.
        output_prefix: where to write, e.g. `"records/train"`; the folder is created.
        num_shards: number of record files, by default one for every 500 images.
        include_masks: store each object's segmentation as a PNG mask too. Objects without one get their box as mask;
            a data set without any segmentation is written without masks.
        progress: called as `progress(done, total)` after every image.

    Returns:
        A `ConversionReport`.

    Raises:
        FileNotFoundError: the folder or the annotation file does not exist.
        ValueError: the annotation file is invalid, or not a single image could be converted.

    Example:
        >>> report = convert_coco("val2017", "annotations/instances_val2017.json", "records/val")
        >>> print(report)
        5000 images, 36781 boxes (446 crowd), 80 categories in 10 shards; skipped: nothing
    """
    images_dir, prefix = os.fspath(images_dir), os.fspath(output_prefix)
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards must be at least 1. Received: num_shards={num_shards}")
    if not os.path.isdir(images_dir):
        raise FileNotFoundError(f"The image folder does not exist: {images_dir}")
    annotations = read_coco_annotations(annotations_file)
    include_masks = include_masks and _has_segmentations(annotations)
    if num_shards is None:
        num_shards = max(1, math.ceil(len(annotations.images) / _IMAGES_PER_SHARD))

    os.makedirs(os.path.dirname(os.path.abspath(prefix)), exist_ok=True)
    with _staged_shards(prefix, num_shards) as shards:
        contents = _write_shards(annotations, images_dir, shards.staged, include_masks, progress)
        converted = [item for shard in contents for item in shard]
        report = _make_report(annotations, converted, shards.final)
        if not report.images:
            reason = f" First problem: {report.skipped[0]}" if report.skipped else ""
            raise ValueError(f"No image of {os.fspath(annotations_file)} could be converted.{reason}")
        sizes = [os.path.getsize(path) for path in shards.staged]
        record_files.write_sidecar(prefix, None)
        shards.publish()
    record_files.write_sidecar(prefix, _describe(report, contents, sizes, include_masks))
    return report


class _Shards:
    """Record files under temporary names until `publish` gives them their final ones."""

    def __init__(self, prefix: str, num_shards: int):
        self._prefix = prefix
        self.final = record_files.shard_paths(prefix, num_shards)
        # Hidden names match no "train-*" pattern; the process id keeps concurrent conversions apart.
        self.staged = [
            os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp") for path in self.final
        ]

    def publish(self) -> None:
        for stale in set(record_files.existing_shards(self._prefix)) - set(self.final):
            os.unlink(stale)
        for staged, final in zip(self.staged, self.final, strict=True):
            os.replace(staged, final)


@contextlib.contextmanager
def _staged_shards(prefix: str, num_shards: int) -> Iterator[_Shards]:
    shards = _Shards(prefix, num_shards)
    try:
        yield shards
    finally:
        for path in shards.staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _write_shards(annotations, images_dir, paths, include_masks, progress) -> list[list[_Converted]]:
    """Writes every shard and returns, per shard, what each of its images became (without the bytes)."""
    total, done = len(annotations.images), 0
    contents = []
    # Decoding and PNG compression release the GIL, so threads are enough. One shard at a time bounds the memory.
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for index, path in enumerate(paths):
            images = annotations.images[index :: len(paths)]
            shard = []
            with tf.io.TFRecordWriter(path) as writer:
                for item in pool.map(lambda image: _convert(image, annotations, images_dir, include_masks), images):
                    if item.example is not None:
                        writer.write(item.example)
                    shard.append(dataclasses.replace(item, example=item.example and b""))
                    done += 1
                    if progress is not None:
                        progress(done, total)
            contents.append(shard)
    return contents


def _convert(image: dict, annotations: CocoAnnotations, images_dir: str, include_masks: bool) -> _Converted:
    expected_size = (image["height"], image["width"]) if {"height", "width"} <= image.keys() else None
    try:
        encoded = read_as_jpeg(os.path.join(images_dir, image["file_name"]), expected_size)
    except UnreadableImage as error:
        return _Converted(image["id"], None, [], 0, [SkippedItem("image", image["id"], str(error))])
    objects, skipped = [], []
    for annotation in annotations.annotations_of.get(image["id"], []):
        try:
            objects.append(_read_object(annotation, encoded, include_masks))
        except ValueError as error:
            skipped.append(SkippedItem("annotation", annotation.get("id"), f"{error} ({image['file_name']})"))
    example = _make_example(image, encoded, objects, annotations.categories)
    num_crowd = sum(item.crowd for item in objects)
    return _Converted(image["id"], example, [item.category_id for item in objects], num_crowd, skipped)


def _read_object(annotation: dict, image: EncodedImage, include_mask: bool) -> _Object:
    box = clip_box(annotation["bbox"], image.height, image.width)
    area = annotation.get("area")
    if not isinstance(area, (int, float)) or not 0 < area < math.inf:
        area = (box[2] - box[0]) * (box[3] - box[1])
    mask = None
    if include_mask:
        if segmentation := annotation.get("segmentation"):
            mask = segmentation_mask(segmentation, image.height, image.width)
        else:
            mask = box_mask(box, image.height, image.width)
    return _Object(box, annotation["category_id"], bool(annotation.get("iscrowd")), float(area), mask)


def _make_example(image: dict, encoded: EncodedImage, objects: list[_Object], names: dict[int, str]) -> bytes:
    """Serialises the features that Model Garden's `create_tf_example` would write.

    That function itself reads only JPEG files from disk, drops boxes that need clipping, cannot read run-length
    masks of single objects, and importing its module defines a dozen global command-line flags.
    """
    from official.vision.data import tfrecord_lib

    height, width = encoded.height, encoded.width
    features = tfrecord_lib.image_info_to_feature_dict(
        height, width, image["file_name"], image["id"], encoded.jpeg, "jpg"
    )
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
        if objects[0].mask is not None:
            columns["mask"] = [tfrecord_lib.encode_mask_as_png(item.mask) for item in objects]
        for name, column in columns.items():
            features[f"image/object/{name}"] = tfrecord_lib.convert_to_feature(column)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _has_segmentations(annotations: CocoAnnotations) -> bool:
    return any(item.get("segmentation") for items in annotations.annotations_of.values() for item in items)


def _make_report(annotations: CocoAnnotations, converted: list[_Converted], shards: list[str]) -> ConversionReport:
    written = [item for item in converted if item.example is not None]
    return ConversionReport(
        images=len(written),
        boxes=sum(len(item.category_ids) for item in written),
        crowd=sum(item.num_crowd for item in written),
        skipped=(*annotations.skipped, *(problem for item in converted for problem in item.skipped)),
        shards=tuple(shards),
        categories=annotations.categories,
    )


def _describe(
    report: ConversionReport, contents: list[list[_Converted]], sizes: list[int], has_masks: bool
) -> dict[str, Any]:
    """The sidecar's content; `dataset_info` is its reader."""
    shards = []
    for path, converted, size in zip(report.shards, contents, sizes, strict=True):
        written = [item for item in converted if item.example is not None]
        boxes_of = collections.Counter(category_id for item in written for category_id in item.category_ids)
        shards.append(
            {
                "file": os.path.basename(path),
                "bytes": size,
                "image_ids": [item.image_id for item in written],
                "boxes": dict(sorted(boxes_of.items())),
                "crowd": sum(item.num_crowd for item in written),
                "max_boxes_per_image": max((len(item.category_ids) for item in written), default=0),
            }
        )
    return {
        "categories": [{"id": key, "name": name} for key, name in report.categories.items()],
        "images": report.images,
        "boxes": report.boxes,
        "has_masks": has_masks,
        "shards": shards,
    }
