"""`tf-dcnv2 convert`: COCO JSON and images to TFRecords."""

import argparse
import shlex

from tf_dcnv2_cli.arguments import add_box_format, positive_int
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.findings import show_findings

SUMMARY = "turn COCO-style annotations and images into TFRecords"

DESCRIPTION = """\
Converts a COCO-style data set (instances JSON and a folder of images) to sharded TFRecords, which the other commands
and TensorFlow Model Garden read. Category ids are kept as they are. Damaged images and impossible annotations are left
out, what can be understood in one way only is repaired, and PREFIX.skipped.json lists both; the records appear under
their final names only when complete."""

EXAMPLES = """\
  tf-dcnv2 convert --images val2017 --annotations annotations/instances_val2017.json --output records/val
  tf-dcnv2 convert --images cells/ --annotations cells.json --output records/cells --num-shards 8 --no-masks
  tf-dcnv2 convert --images cars/ --annotations cars.json --output records/cars --box-format xyxy"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder that the file names are relative to")
    parser.add_argument("--annotations", required=True, metavar="JSON", help="COCO instances file")
    parser.add_argument(
        "--output", required=True, metavar="PREFIX", help="records/train writes records/train-*.tfrecord and .json"
    )
    parser.add_argument("--num-shards", type=positive_int, metavar="N", help="record files (default: 1 per 500 images)")
    parser.add_argument("--no-masks", action="store_true", help="leave segmentations out: smaller files, boxes only")
    add_box_format(parser)
    parser.add_argument(
        "--allow-empty", action="store_true", help="accept a data set without any box, such as one of backgrounds only"
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts and reports what was written and what was left out."""
    from tf_dcnv2.data import convert_coco, read_dataset_info

    with progress_bar("convert") as progress:
        report = convert_coco(
            arguments.images,
            arguments.annotations,
            arguments.output,
            num_shards=arguments.num_shards,
            include_masks=not arguments.no_masks,
            box_format=arguments.box_format,
            allow_empty=arguments.allow_empty,
            progress=progress,
        )
    log("data", read_dataset_info(arguments.output))
    log("written", f"{report.shards[0]}" + (f" and {len(report.shards) - 1} more" if len(report.shards) > 1 else ""))
    show_findings(report.skipped, report.repaired, report.warnings, report.report_path)
    records = shlex.quote(arguments.output)
    log("next", f"tf-dcnv2 train --train {records} ...   |   tf-dcnv2 evaluate RUN --records {records}")
