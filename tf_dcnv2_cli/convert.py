"""`tf-dcnv2 convert`: annotations and images to TFRecords."""

import argparse
import shlex

from tf_dcnv2_cli.arguments import add_box_format, positive_int
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.findings import show_findings

SUMMARY = "turn annotations (COCO, Pascal VOC, YOLO) and images into TFRecords"

DESCRIPTION = """\
Converts a data set to sharded TFRecords, which the other commands and TensorFlow Model Garden read. --annotations is
COCO's JSON file, whose category ids are kept; Pascal VOC's folder of XML files, or one of its lists in ImageSets; or
YOLO's data.yaml, or its folder of labels. Damaged images and impossible annotations are left out, what can be
understood in one way only is repaired, and PREFIX.skipped.json lists both. The records appear under their final names
only when complete; the same command goes on where it was interrupted, after the last complete record file. --jobs
writes them in several processes of this machine, --beam-runner on the workers of an Apache Beam pipeline, which need
this package, and images and records under the same paths; the files are the same."""

EXAMPLES = """\
  tf-dcnv2 convert --images val2017 --annotations annotations/instances_val2017.json --output records/val
  tf-dcnv2 convert --images cells/ --annotations cells.json --output records/cells --num-shards 8 --no-masks
  tf-dcnv2 convert --images cars/ --annotations cars.json --output records/cars --box-format xyxy
  tf-dcnv2 convert --images VOC2007/JPEGImages --annotations VOC2007/ImageSets/Main/train.txt --output records/voc
  tf-dcnv2 convert --images cups/images/train --annotations cups/data.yaml --output records/cups
  tf-dcnv2 convert --images /nfs/train --annotations /nfs/train.json --output /nfs/records/train \\
      --beam-runner FlinkRunner --beam-options flink_master=host:8081 parallelism=64"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--images", required=True, metavar="DIR", help="folder that the file names are relative to")
    parser.add_argument(
        "--annotations",
        required=True,
        metavar="PATH",
        help="COCO's JSON, VOC's folder or list, YOLO's data.yaml or folder",
    )
    parser.add_argument(
        "--format",
        choices=("auto", "coco", "voc", "yolo"),
        default="auto",
        help="layout of the annotations (default: told by what PATH is)",
    )
    parser.add_argument(
        "--output", required=True, metavar="PREFIX", help="records/train writes records/train-*.tfrecord and .json"
    )
    parser.add_argument("--num-shards", type=positive_int, metavar="N", help="record files (default: 1 per 500 images)")
    parser.add_argument(
        "--jobs", type=positive_int, default=1, metavar="N", help="processes that write record files (default: 1)"
    )
    parser.add_argument(
        "--beam-runner",
        metavar="RUNNER",
        help="write record files by Apache Beam: DirectRunner, FlinkRunner, SparkRunner …",
    )
    parser.add_argument(
        "--beam-options",
        nargs="+",
        default=[],
        metavar="NAME[=VALUE]",
        help="the pipeline's, as Beam's runner has them",
    )
    parser.add_argument("--no-masks", action="store_true", help="leave segmentations out: smaller files, boxes only")
    add_box_format(parser)
    parser.add_argument(
        "--allow-empty", action="store_true", help="accept a data set without any box, such as one of backgrounds only"
    )


def run(arguments: argparse.Namespace) -> None:
    """Converts and reports what was written and what was left out."""
    beam_options = _beam_options(arguments)
    from tf_dcnv2.data import convert_coco, read_dataset_info

    with progress_bar("convert") as progress:
        report = convert_coco(
            arguments.images,
            arguments.annotations,
            arguments.output,
            num_shards=arguments.num_shards,
            include_masks=not arguments.no_masks,
            layout=arguments.format,
            box_format=arguments.box_format,
            allow_empty=arguments.allow_empty,
            jobs=arguments.jobs,
            beam_options=beam_options,
            progress=progress,
        )
    log("data", read_dataset_info(arguments.output))
    log("written", f"{report.shards[0]}" + (f" and {len(report.shards) - 1} more" if len(report.shards) > 1 else ""))
    show_findings(report.skipped, report.repaired, report.warnings, report.report_path)
    records = shlex.quote(arguments.output)
    log("next", f"tf-dcnv2 train --train {records} ...   |   tf-dcnv2 evaluate RUN --records {records}")


def _beam_options(arguments: argparse.Namespace) -> list[str] | None:
    """The arguments of the Beam pipeline; None without one."""
    if arguments.beam_runner is None:
        if arguments.beam_options:
            raise UsageError("--beam-options are of --beam-runner: give both")
        return None
    if arguments.jobs > 1:
        raise UsageError("--jobs are processes of this machine, --beam-runner has workers of its own: give one of them")
    return [f"--{option.lstrip('-')}" for option in (f"runner={arguments.beam_runner}", *arguments.beam_options)]
