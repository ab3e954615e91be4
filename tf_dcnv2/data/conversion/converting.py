"""Annotations and a folder of images -> sharded TFRecords in Model Garden's schema."""

import dataclasses
import hashlib
import json
import math
import os
import pickle
from collections.abc import Callable, Sequence

from tf_dcnv2 import __version__
from tf_dcnv2._core.checked_types import PositiveInt, checked_arguments
from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
from tf_dcnv2.data.coco.annotations import CocoAnnotations
from tf_dcnv2.data.conversion.beam import pipeline_options
from tf_dcnv2.data.conversion.report import ConversionReport, make_report, sidecar
from tf_dcnv2.data.conversion.shards import write_shards
from tf_dcnv2.data.findings import read_report, refuse_foreign_report, write_report
from tf_dcnv2.data.images.lookup import ImageLookup
from tf_dcnv2.data.layouts.detection import Layout
from tf_dcnv2.data.layouts.reading import read_annotations
from tf_dcnv2.data.records import files as record_files
from tf_dcnv2.data.records.staged_shards import staged_shards

_IMAGES_PER_SHARD = 500


@checked_arguments
def convert_coco(
    images_dir: str | os.PathLike,
    annotations_file: str | os.PathLike,
    output_prefix: str | os.PathLike,
    *,
    num_shards: PositiveInt | None = None,
    include_masks: bool = True,
    layout: Layout = "auto",
    box_format: str | None = None,
    allow_empty: bool = True,
    jobs: PositiveInt = 1,
    beam_options: Sequence[str] | None = None,
    reuse: bool = False,
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

    Shards are written in a hidden folder and get their names at the end, the sidecar last: whenever the conversion is
    interrupted, `load_records` either refuses the data set or sees the previous, complete one. The same conversion
    then goes on after the shards that were finished. Shards of an earlier data set of the same prefix are replaced.

    Args:
        images_dir: folder that the annotations' `file_name`s are relative to.
        annotations_file: COCO `instances_*.json`; or Pascal VOC's folder of XML files, or one of its lists in
            `ImageSets`; or YOLO's `data.yaml`, or its folder of labels.
        output_prefix: where to write, e.g. `"records/train"`; the folder is created.
        num_shards: number of record files, by default one for every 500 images.
        include_masks: store each object's segmentation as a PNG mask too. Objects without one get their box as mask;
            objects whose segmentation is malformed get an empty one, from which a mask head does not learn. A data set
            without any segmentation is written without masks.
        layout: "coco", "voc" or "yolo"; "auto" tells it by what `annotations_file` is.
        box_format: what the file's `bbox` means, one of `tf_dcnv2.data.coco.box_formats.BOX_FORMATS`. None is COCO's
            own `"xywh"`, and refuses a file whose boxes look like another.
        allow_empty: accept annotations without any box, such as those of backgrounds only.
        jobs: processes that write shards, at most one for each; the shards are the same with any number. With more than
            one, a script needs the usual `if __name__ == "__main__":`.
        beam_options: arguments of an Apache Beam pipeline whose workers write the shards in place of processes of this
            machine, such as `["--runner=FlinkRunner", "--flink_master=host:8081"]`. The shards are the same. Workers
            need this package, and `images_dir` and the folder of the records under the same paths.
        reuse: leave records of the prefix as they are if they were made from the same annotations, in the same way and
            from images in the same folder; whether the images are still the same is not looked at.
        progress: called as `progress(done, total)`, after every image with one process, now and then with several, at
            the end with Beam.

    Returns:
        A `ConversionReport`.

    Raises:
        FileExistsError: an output would overwrite the annotations, or a file that is no earlier output.
        FileNotFoundError: the folder or the annotation file does not exist.
        ImportError: `beam_options` are given, and Beam is not installed.
        ValueError: the annotation file is invalid, nothing of it could be used, or `beam_options` are not Beam's.
        RuntimeError: another process is writing records of the prefix, or a process of this conversion was killed.

    Example:
        >>> report = convert_coco("val2017", "annotations/instances_val2017.json", "records/val")
        >>> print(report)
        5000 images, 36781 boxes (446 crowd), 80 categories in 10 shards; skipped: nothing
    """
    pipeline = None if beam_options is None else pipeline_options(beam_options)
    images_dir, prefix = os.fspath(images_dir), os.fspath(output_prefix)
    if not os.path.isdir(images_dir):
        raise FileNotFoundError(f"The image folder does not exist: {images_dir}")
    _check_output(prefix, annotations_file)
    lookup = ImageLookup(images_dir)
    annotations = read_annotations(annotations_file, images_dir, lookup, layout=layout, box_format=box_format)
    if not (annotations.num_listed or allow_empty):
        raise ValueError(
            f"{os.fspath(annotations_file)} has no annotation. allow_empty=True (--allow-empty) accepts a data set of "
            "backgrounds only."
        )
    include_masks = include_masks and _has_segmentations(annotations)
    if num_shards is None:
        num_shards = max(1, math.ceil(len(annotations.images) / _IMAGES_PER_SHARD))

    source = _source(annotations, images_dir, include_masks, num_shards)
    if reuse and (earlier := _earlier_report(prefix, source)) is not None:
        return earlier
    report_path = record_files.report_path(prefix)
    with staged_shards(prefix, num_shards, source) as shards:
        contents = write_shards(
            annotations,
            images_dir,
            shards,
            include_masks=include_masks,
            jobs=jobs,
            beam_options=pipeline,
            progress=progress,
        )
        converted = [item for shard in contents for item in shard]
        for item in converted:
            annotations.findings.extend(item.findings)
        report = make_report(annotations, converted, shards.final)
        if not report.images or (annotations.num_listed and not report.boxes):
            shards.discard()
            raise ValueError(_nothing_left(report, annotations, os.fspath(annotations_file), report_path))
        sizes = shards.sizes()
        record_files.write_sidecar(prefix, None)
        shards.publish()
    annotations.findings.warnings[:] = report.warnings
    has_report = write_report(report_path, annotations.findings)
    content = sidecar(report, contents, sizes, include_masks, annotations.original_ids)
    record_files.write_sidecar(prefix, {**content, "source": source})
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


def _source(annotations: CocoAnnotations, images_dir: str, include_masks: bool, num_shards: int) -> str:
    """What the shards follow from, as long as the image files stay as they are."""
    content = (annotations.images, annotations.annotations_of, annotations.categories)
    digest = hashlib.blake2b(pickle.dumps(content), digest_size=16).hexdigest()
    return json.dumps([__version__, digest, os.path.abspath(images_dir), include_masks, num_shards])


def _earlier_report(prefix: str, source: str) -> ConversionReport | None:
    """The report of complete records of the prefix that follow from `source`; None if there are none."""
    try:
        content = record_files.read_sidecar(prefix)
        if content is None or content.get("source") != source:
            return None
        shards = record_files.find_shards(prefix)
        report_path = record_files.report_path(prefix)
        findings = read_report(report_path)
    except (OSError, ValueError):  # incomplete or damaged: made again
        return None
    return ConversionReport(
        images=content["images"],
        boxes=content["boxes"],
        crowd=sum(shard["crowd"] for shard in content["shards"]),
        skipped=tuple(findings.skipped),
        shards=tuple(shards),
        categories={entry["id"]: entry["name"] for entry in content["categories"]},
        repaired=tuple(findings.repaired),
        warnings=tuple(findings.warnings),
        report_path=report_path if os.path.exists(report_path) else None,
    )


def _nothing_left(report: ConversionReport, annotations: CocoAnnotations, name: str, report_path: str) -> str:
    """Why a conversion is refused that would have written no image or no box, with everything in the report file."""
    report_path = report_path if write_report(report_path, annotations.findings) else ""
    what = "image" if not report.images else "annotation"
    first = next((str(item) for item in report.skipped if item.kind == what), "")
    listed = f" {report_path} lists all {len(report.skipped)}." if report_path else ""
    return f"No {what} of {name} could be converted.{f' First problem: {first}.' if first else ''}{listed}"


def _has_segmentations(annotations: CocoAnnotations) -> bool:
    return any(annotation.get("segmentation") for annotation in annotations.all_annotations())
