"""`tf-dcnv2 evaluate`: COCO average precision of a trained detector."""

import argparse
import collections
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tf_dcnv2_cli.analysis_folder import KINDS, AnalysisFolder, print_analysis
from tf_dcnv2_cli.arguments import add_box_format, add_image_size, add_run, add_tta, image_size, positive_int, with_tta
from tf_dcnv2_cli.console import log, precision_text, progress_bar
from tf_dcnv2_cli.direct_data import add_images_of, records_of
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.findings import show_findings
from tf_dcnv2_cli.offsets import log_offsets

SUMMARY = "measure COCO average precision on records"

DESCRIPTION = """\
Prints COCO's twelve numbers and the average precision of each class, of boxes and, where the detector and the data set
have them, of masks, and writes the detections in COCO's results format (original pixels, the data set's own ids), which
pycocotools and COCO's evaluation server read. The detector's classes and those of the data set are matched by name.
--analysis adds the score with the best balance of each class, the kinds of errors and what they cost, and a folder with
analysis.json, precision-recall curves, a confusion matrix and pictures of the worst false and missed detections."""

EXAMPLES = """\
  tf-dcnv2 evaluate runs/cells --records records/val
  tf-dcnv2 evaluate runs/cells --records val.json --images val/
  tf-dcnv2 evaluate runs/cells/last.keras --records 'records/val-*' --annotations instances_val.json
  tf-dcnv2 evaluate runs/cells --records records/val --analysis runs/cells/analysis"""

_MEANINGS = {
    "AP": "IoU 0.50:0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, below 32x32 px",
    "APm": "medium objects",
    "APl": "large objects, above 96x96 px",
    "AR1": "at most 1 detection an image",
    "AR10": "at most 10",
    "AR100": "at most 100",
    "ARs": "small objects",
    "ARm": "medium objects",
    "ARl": "large objects",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--records", required=True, metavar="PREFIX", help="records to evaluate on: prefix or pattern")
    add_images_of(parser, "--images", "--records")
    parser.add_argument(
        "--annotations", metavar="JSON", help="score against this file (default: the records' boxes and masks)"
    )
    parser.add_argument("--output", metavar="JSON", help="detections (default: results.json in the run's folder)")
    parser.add_argument(
        "--batch-size", type=positive_int, default=2, metavar="N", help="images at once (default: %(default)s)"
    )
    parser.add_argument(
        "--analysis", metavar="DIR", help="folder for curves, confusion matrix, errors and pictures of the worst"
    )
    parser.add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="S",
        help="of the confusion matrix and missed objects of --analysis, in 0..1 (default: %(default)s)",
    )
    add_image_size(parser)
    add_tta(parser)
    add_box_format(parser)
    parser.add_argument("--max-images", type=positive_int, metavar="N", help="only the first N images")


def run(arguments: argparse.Namespace) -> int:
    """Evaluates and prints the tables; 1 if the detections could not be written in the end."""
    from tf_dcnv2.data import load_records, read_dataset_info
    from tf_dcnv2.data.records import files as record_files
    from tf_dcnv2.evaluation import analyze_detections, detect_dataset
    from tf_dcnv2.evaluation.coco import check_results_path
    from tf_dcnv2_cli.trained import load_trained

    if not 0 <= arguments.min_score <= 1:
        raise UsageError(f"--min-score must be between 0 and 1. Received: {arguments.min_score}")
    if arguments.box_format and not arguments.annotations:
        raise UsageError("--box-format says what the boxes of --annotations mean: give both")
    run_folder = arguments.run_path if os.path.isdir(arguments.run_path) else os.path.dirname(arguments.run_path)
    arguments.records = records_of(arguments.records, arguments.images, run_folder or os.curdir, "--images")
    info = read_dataset_info(arguments.records)
    trained = load_trained(arguments.run_path, allow_non_finite=arguments.allow_non_finite)
    results_path = arguments.output or str(trained.path.with_name("results.json"))
    inputs = [trained.path, *info.shards, *([arguments.annotations] if arguments.annotations else [])]
    check_results_path(results_path, inputs)
    analysis_folder = AnalysisFolder(arguments.analysis, inputs) if arguments.analysis else None
    annotations = None
    if arguments.annotations:
        report_path = record_files.report_path(results_path.removesuffix(".json"))
        annotations = _read_annotations(arguments, info, report_path, inputs)
    categories = annotations.categories if annotations else info.categories
    boxes_of = info.boxes_per_category
    if annotations:
        boxes_of = collections.Counter(annotation["category_id"] for annotation in annotations.all_annotations())
    category_ids = _match(trained.names, categories, boxes_of)
    detector = with_tta(arguments, trained.detector)
    dataset = load_records(
        arguments.records,
        batch_size=arguments.batch_size,
        masks=trained.detector.has_mask_head and info.has_masks and not arguments.annotations,
        **image_size(arguments, detector),
        resizing=trained.detector.resizing,
    )
    log("data", info)
    log("model", trained)
    for note in [*info.notes(), *_notes(trained, category_ids, info)]:
        log("note", note)
    batches = iter(dataset)
    first = next(batches)
    log_offsets(trained.detector, _first_image(first))
    total = min(info.num_images, arguments.max_images or info.num_images)
    with progress_bar("evaluate") as progress:
        detected = detect_dataset(
            detector,
            itertools.chain([first], batches),
            annotations=annotations,
            max_images=arguments.max_images,
            progress=lambda done: progress(min(done, total), total),
            category_ids=category_ids,
        )
    metrics, names = detected.metrics(), dict(categories)
    for kind, numbers in metrics.items():
        log(KINDS[kind], f"on {total} images")
        print_metrics(numbers, names)
    problem = ""
    try:
        detected.write_results(results_path, info.original_ids)
    except OSError as error:
        problem = str(error)
    log("failed" if problem else "written", problem or results_path)
    if analysis_folder:
        analyses = {
            kind: analyze_detections(detected, kind, names=names, score_threshold=arguments.min_score)
            for kind in metrics
        }
        for kind, analysis in analyses.items():
            log("analysis", f"of {KINDS[kind]} at IoU 0.50")
            print_analysis(analysis)
        files = analysis_folder.write(detected, metrics, analyses, dataset, names)
        log("written", f"{analysis_folder.path} with {', '.join(files)}")
    return 2 if problem else 0


def _first_image(batch) -> Any:
    """The first image of a batch as the network sees it, without padding."""
    inputs, _ = batch
    height, width = inputs["image_sizes"][0].numpy().astype(int)
    return inputs["images"][0, :height, :width].numpy()


def _read_annotations(arguments: argparse.Namespace, info, report_path: str, inputs: Sequence[str | os.PathLike]):
    """The annotation file to score against, with a report of what of it cannot be used, which replaces no input."""
    from tf_dcnv2._core.output_files import refuse_overwriting
    from tf_dcnv2.data.coco.annotations import read_coco_annotations
    from tf_dcnv2.data.findings import refuse_foreign_report, write_report

    refuse_overwriting([report_path], inputs)
    refuse_foreign_report(report_path)

    if any(changed.images for changed in info.renumbering.values()):
        raise UsageError(
            "--annotations cannot tell apart images that have the same id in several data sets: evaluate one at a time"
        )
    annotations = read_coco_annotations(arguments.annotations, box_format=arguments.box_format)
    findings = annotations.findings
    has_report = write_report(report_path, findings)
    show_findings(findings.skipped, findings.repaired, findings.warnings, report_path if has_report else None)
    return annotations


def _match(names: Mapping[int, str], categories: Mapping[int, str], boxes_of: Mapping[int, int]) -> dict[int, int]:
    """The detector's category id -> the data set's.

    Raises:
        UsageError: the data set has objects of a class that the detector does not know.
    """
    from tf_dcnv2.data.records.category_names import describe_difference, match_categories

    category_ids = match_categories(names, categories)
    unknown = [key for key in categories if key not in category_ids.values() and boxes_of.get(key)]
    if unknown:
        raise UsageError(
            f"the detector was not trained on these classes of the data set: "
            f"{describe_difference(categories, names, unknown)}"
        )
    return category_ids


def _notes(trained, category_ids: Mapping[int, int], info) -> list[str]:
    """Lists what a reader of the numbers should know."""
    notes = []
    if changed := {old: new for old, new in category_ids.items() if old != new}:
        pairs = ", ".join(f"{trained.names[old]} {old} -> {new}" for old, new in changed.items())
        notes.append(f"classes are matched by name, the detector's ids to the data set's: {pairs}")
    if others := [name for key, name in trained.names.items() if key not in category_ids]:
        notes.append(f"detections of {len(others)} classes that the data set lacks are left out, such as {others[0]!r}")
    if crowded := info.images_with_more_than(100):
        notes.append(f"{crowded} images have more than 100 objects, and COCO counts the 100 surest detections of each")
    return notes


def print_metrics(metrics: dict[str, Any], names: dict[int, str]) -> None:
    """Prints COCO's twelve numbers and the table of classes."""
    for name, meaning in _MEANINGS.items():
        log(name, f"{precision_text(metrics[name])}   {meaning}")
    width = max(map(len, [*names.values(), "class"]))
    print()
    log("class", f"{'':{width}}    AP    AP50")
    for category_id, scores in metrics["per_class"].items():
        name = names.get(category_id, str(category_id))
        log(f"  {category_id}", f"{name:<{width}}  {precision_text(scores['AP'])}  {precision_text(scores['AP50'])}")
