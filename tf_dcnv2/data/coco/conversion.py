"""COCO JSON and a folder of images -> sharded TFRecords in Model Garden's schema."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_dcnv2._core.atomic_files import hidden_prefix
from tf_dcnv2._core.checked_types import PositiveInt, checked_arguments
from tf_dcnv2._core.masks import box_rle, empty_rle
from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
from tf_dcnv2.data.coco.annotations import LOST_MASK, CocoAnnotations, clip_box, has_lost_mask, read_coco_annotations
from tf_dcnv2.data.coco.mask_png import encode_mask
from tf_dcnv2.data.coco.segmentations import segmentation_rle
from tf_dcnv2.data.findings import Finding, Findings, refuse_foreign_report, write_report
from tf_dcnv2.data.images.files import EncodedImage, UnreadableImage, read_as_jpeg, upright_size
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.records import files as record_files
from tf_dcnv2.data.records.dataset_info import warnings_about_boxes

_IMAGES_PER_SHARD = 500
# Each holds an image of any size in memory.
_MOST_THREADS = 8


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
        repaired: images and annotations that were used in another form than the file's, such as a box without its
            malformed mask; `tf_dcnv2.data.findings.count_repairs` sums them up.
        warnings: what looks wrong with the data set as a whole.
        report_path: JSON file that lists all of these; None if there is nothing to list.
    """

    images: int
    boxes: int
    crowd: int
    skipped: tuple[Finding, ...]
    shards: tuple[str, ...]
    categories: dict[int, str]
    repaired: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = ()
    report_path: str | None = None

    def __str__(self) -> str:
        counts = collections.Counter(item.kind for item in self.skipped)
        left_out = ", ".join(f"{count} {kind}s" for kind, count in counts.items()) or "nothing"
        return (
            f"{self.images} images, {self.boxes} boxes ({self.crowd} crowd), {len(self.categories)} categories "
            f"in {len(self.shards)} shards; skipped: {left_out}"
        )


@dataclasses.dataclass(frozen=True)
class _Object:
    """One annotation in the image's pixels: box `[y1, x1, y2, x2]`, run-length code of the mask or None."""

    box: list[float]
    category_id: int
    crowd: bool
    area: float
    mask: dict | None


@dataclasses.dataclass(frozen=True)
class _Converted:
    """One image ready to be written, or the reasons why it or some of its annotations are not."""

    image_id: int
    example: bytes | None
    category_ids: list[int]
    num_crowd: int
    findings: Findings
    orientation: str = ""


@checked_arguments
def convert_coco(
    images_dir: str | os.PathLike,
    annotations_file: str | os.PathLike,
    output_prefix: str | os.PathLike,
    *,
    num_shards: PositiveInt | None = None,
    include_masks: bool = True,
    box_format: str | None = None,
    allow_empty: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ConversionReport:
    """Converts a COCO data set to TFRecords that `load_records` and Model Garden's decoder read.

    Writes `<output_prefix>-00000-of-00004.tfrecord`, … and the sidecar `<output_prefix>.json`. Category ids are kept
    as they are, whatever their values; images without boxes are kept; crowd annotations are marked as such. Boxes
    that reach past the image's border are clipped. Files that are not plain RGB JPEG (PNG, greyscale, CMYK,
    EXIF-rotated …) are re-encoded.

    What people's tools write in other ways than COCO is understood where it has only one meaning: ids and numbers as
    text, missing sizes and boxes, flat polygons, file names with backslashes, percent signs or other folders. An item
    that cannot be used (missing or damaged image file, annotation with unknown image or category id, malformed or
    degenerate box, box outside the image) is left out; a malformed mask is left out, its box kept.
    `<output_prefix>.skipped.json` lists every one of these.

    Shards are written under temporary names and renamed at the end, the sidecar last: whenever the conversion is
    interrupted, `load_records` either refuses the data set or sees the previous, complete one. Shards of an earlier
    data set of the same prefix are replaced.

    Args:
        images_dir: folder that the annotations' `file_name`s are relative to.
        annotations_file: COCO `instances_*.json`.
        output_prefix: where to write, e.g. `"records/train"`; the folder is created.
        num_shards: number of record files, by default one for every 500 images.
        include_masks: store each object's segmentation as a PNG mask too. Objects without one get their box as mask;
            objects whose segmentation is malformed get an empty one, from which a mask head does not learn. A data set
            without any segmentation is written without masks.
        box_format: what the file's `bbox` means, one of `tf_dcnv2.data.coco.box_formats.BOX_FORMATS`. None is COCO's
            own `"xywh"`, and refuses a file whose boxes look like another.
        allow_empty: accept annotations without any box, such as those of backgrounds only.
        progress: called as `progress(done, total)` after every image.

    Returns:
        A `ConversionReport`.

    Raises:
        FileExistsError: an output would overwrite the annotations, or a file that is no earlier output.
        FileNotFoundError: the folder or the annotation file does not exist.
        ValueError: the annotation file is invalid, or nothing of it could be used.

    Example:
        >>> report = convert_coco("val2017", "annotations/instances_val2017.json", "records/val")
        >>> print(report)
        5000 images, 36781 boxes (446 crowd), 80 categories in 10 shards; skipped: nothing
    """
    images_dir, prefix = os.fspath(images_dir), os.fspath(output_prefix)
    if not os.path.isdir(images_dir):
        raise FileNotFoundError(f"The image folder does not exist: {images_dir}")
    _check_output(prefix, annotations_file)
    lookup = ImageLookup(images_dir)
    annotations = read_coco_annotations(
        annotations_file, box_format=box_format, size_of=lambda image: _size_of_file(image, lookup)
    )
    if not (annotations.num_listed or allow_empty):
        raise ValueError(
            f"{os.fspath(annotations_file)} has no annotation. allow_empty=True (--allow-empty) accepts a data set of "
            "backgrounds only."
        )
    include_masks = include_masks and _has_segmentations(annotations)
    if num_shards is None:
        num_shards = max(1, math.ceil(len(annotations.images) / _IMAGES_PER_SHARD))

    report_path = record_files.report_path(prefix)
    with _staged_shards(prefix, num_shards) as shards:
        contents = _write_shards(annotations, lookup, shards.staged, include_masks, progress)
        converted = [item for shard in contents for item in shard]
        for item in converted:
            annotations.findings.extend(item.findings)
        report = _make_report(annotations, converted, shards.final)
        if not report.images or (annotations.num_listed and not report.boxes):
            raise ValueError(_nothing_left(report, annotations, os.fspath(annotations_file), report_path))
        sizes = [os.path.getsize(path) for path in shards.staged]
        record_files.write_sidecar(prefix, None)
        shards.publish()
    annotations.findings.warnings[:] = report.warnings
    has_report = write_report(report_path, annotations.findings)
    record_files.write_sidecar(prefix, _describe(report, contents, sizes, include_masks, annotations.original_ids))
    return dataclasses.replace(report, report_path=report_path if has_report else None)


def _check_output(prefix: str, annotations_file: str | os.PathLike) -> None:
    """Refuses what would be lost, or could not be written, before anything is read."""
    if not os.path.basename(prefix):
        raise ValueError(f"The output needs a name, such as {os.path.join(prefix, 'train')}. Received: {prefix!r}")
    sidecar, report = record_files.sidecar_path(prefix), record_files.report_path(prefix)
    refuse_overwriting([sidecar, report], [annotations_file])
    refuse_foreign(sidecar, record_files.is_sidecar(sidecar), "the description of earlier records")
    refuse_foreign_report(report)
    if not os.path.lexists(sidecar):  # which is written before any shard gets its name
        for shard in record_files.existing_shards(prefix):
            refuse_foreign(shard, False, "part of earlier records with a description")
    ensure_writable(sidecar)


def _size_of_file(image: dict, lookup: ImageLookup) -> tuple[int, int] | None:
    with contextlib.suppress(UnreadableImage):
        return upright_size(lookup.find(image["file_name"]).path)
    return None


def _nothing_left(report: ConversionReport, annotations: CocoAnnotations, name: str, report_path: str) -> str:
    """Why a conversion is refused that would have written no image or no box, with everything in the report file."""
    report_path = report_path if write_report(report_path, annotations.findings) else ""
    what = "image" if not report.images else "annotation"
    first = next((str(item) for item in report.skipped if item.kind == what), "")
    listed = f" {report_path} lists all {len(report.skipped)}." if report_path else ""
    return f"No {what} of {name} could be converted.{f' First problem: {first}.' if first else ''}{listed}"


class _Shards:
    """Record files under temporary names until `publish` gives them their final ones."""

    def __init__(self, prefix: str, num_shards: int):
        self._prefix = prefix
        self.final = record_files.shard_paths(prefix, num_shards)
        # Hidden names match no "train-*" pattern; the process id keeps concurrent conversions apart.
        self.staged = [
            os.path.join(os.path.dirname(path), f"{hidden_prefix(os.path.basename(path))}{index}.{os.getpid()}.tmp")
            for index, path in enumerate(self.final)
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


def _write_shards(
    annotations: CocoAnnotations,
    lookup: ImageLookup,
    paths: Sequence[str],
    include_masks: bool,
    progress: Callable[[int, int], None] | None,
) -> list[list[_Converted]]:
    """Writes every shard and returns, per shard, what each of its images became (without the bytes)."""
    total, done = len(annotations.images), 0
    contents = []
    # Decoding and PNG compression release the GIL, so threads are enough.
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    with concurrent.futures.ThreadPoolExecutor(max_workers=threads) as pool:
        for index, path in enumerate(paths):
            images = annotations.images[index :: len(paths)]
            shard = []
            with tf.io.TFRecordWriter(path) as writer:
                convert = _Convert(annotations, lookup, include_masks)
                for item in _map_in_order(pool, convert, images, ahead=2 * threads):
                    if item.example is not None:
                        writer.write(item.example)
                    shard.append(dataclasses.replace(item, example=item.example and b""))
                    done += 1
                    if progress is not None:
                        progress(done, total)
            contents.append(shard)
    return contents


def _map_in_order(pool: concurrent.futures.Executor, function: Callable, items: Iterable, ahead: int) -> Iterator:
    """Maps like `pool.map`, but at most `ahead` items before its consumer, which bounds the memory."""
    items = iter(items)
    pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, ahead))
    try:
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
    finally:
        for future in pending:
            future.cancel()


class _Convert:
    """Converts an entry of `images` to a serialised example."""

    def __init__(self, annotations: CocoAnnotations, lookup: ImageLookup, include_masks: bool):
        self._annotations = annotations
        self._lookup = lookup
        self._include_masks = include_masks

    def __call__(self, image: dict) -> _Converted:
        findings, image_id = Findings(), image["id"]
        expected_size = (image["height"], image["width"]) if "height" in image else None
        try:
            found = self._lookup.find(image["file_name"])
            encoded = read_as_jpeg(found.path, expected_size)
        except UnreadableImage as error:
            findings.skip("image", image_id, str(error))
            for annotation in self._annotations.annotations_of.get(image_id, []):
                findings.skip("annotation", annotation["id"], f"its image {image_id} was left out")
            return _Converted(image_id, None, [], 0, findings)
        for how in (found.how, encoded.note):
            if how:
                findings.repair("image", image_id, how, image["file_name"])
        objects = []
        for annotation in self._annotations.annotations_of.get(image_id, []):
            try:
                objects.append(_read_object(annotation, encoded, self._include_masks, findings))
            except ValueError as error:
                findings.skip("annotation", annotation["id"], f"{error} ({image['file_name']})")
        example = _make_example(image, encoded, objects, self._annotations.categories)
        num_crowd = sum(item.crowd for item in objects)
        category_ids = [item.category_id for item in objects]
        return _Converted(image_id, example, category_ids, num_crowd, findings, encoded.orientation)


def _read_object(annotation: dict, image: EncodedImage, include_mask: bool, findings: Findings) -> _Object:
    box = clip_box(annotation["bbox"], image.height, image.width)
    area = annotation.get("area", (box[2] - box[0]) * (box[3] - box[1]))
    mask = _read_mask(annotation, box, image, findings) if include_mask else None
    return _Object(box, annotation["category_id"], bool(annotation["iscrowd"]), area, mask)


def _read_mask(annotation: dict, box: list[float], image: EncodedImage, findings: Findings) -> dict:
    size = (image.height, image.width)
    if has_lost_mask(annotation):
        return empty_rle(*size)
    if "segmentation" not in annotation:
        findings.repair("annotation", annotation["id"], "the box was taken for the mask of an object without one")
        return box_rle(box, *size)
    try:
        return segmentation_rle(annotation["segmentation"], *size)
    except ValueError as error:
        findings.repair("annotation", annotation["id"], LOST_MASK, str(error))
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
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def _has_segmentations(annotations: CocoAnnotations) -> bool:
    return any(annotation.get("segmentation") for annotation in annotations.all_annotations())


def _make_report(annotations: CocoAnnotations, converted: list[_Converted], shards: list[str]) -> ConversionReport:
    written = [item for item in converted if item.example is not None]
    boxes, crowd = sum(len(item.category_ids) for item in written), sum(item.num_crowd for item in written)
    orientations = {item.orientation for item in written if item.orientation}
    warnings = warnings_about_boxes(boxes, crowd)
    if len(orientations) > 1:
        warnings.append(
            "the annotations of some EXIF-rotated images are of the frame as stored, those of others of the upright "
            "one: prediction turns all images upright"
        )
    return ConversionReport(
        images=len(written),
        boxes=boxes,
        crowd=crowd,
        skipped=tuple(annotations.findings.skipped),
        shards=tuple(shards),
        categories=annotations.categories,
        repaired=tuple(annotations.findings.repaired),
        warnings=(*annotations.findings.warnings, *warnings),
    )


def _describe(
    report: ConversionReport,
    contents: list[list[_Converted]],
    sizes: list[int],
    has_masks: bool,
    original_ids: dict[int, Any],
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
                "boxes_per_image": [len(item.category_ids) for item in written],
                "max_boxes_per_image": max((len(item.category_ids) for item in written), default=0),
                "orientations": dict(collections.Counter(item.orientation for item in written if item.orientation)),
            }
        )
    return {
        "categories": [{"id": key, "name": name} for key, name in report.categories.items()],
        "images": report.images,
        "boxes": report.boxes,
        "has_masks": has_masks,
        "shards": shards,
        "original_ids": [[number, identifier] for number, identifier in original_ids.items()],
    }
