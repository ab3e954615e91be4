"""`tf-dcnv2 inspect-data`: what a detector will be trained on, before it is."""

import argparse
import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

from tf_dcnv2_cli.arguments import add_augmentation, add_image_size, parse_setting, positive_int
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.direct_data import records_of
from tf_dcnv2_cli.errors import UsageError

SUMMARY = "show what a detector will be trained on: pictures, classes, sizes, problems"

DESCRIPTION = """\
Prints how many objects of each class there are, how large the network sees them and how well the preset's anchors and
pyramid levels fit, with sizes and ratios that would fit better (k-means over 1 - IoU), and every problem with the name
of its file: what the conversion left out or repaired, images without boxes or that are there twice, boxes that are too
small to be seen, repeated or implausibly long. Writes the same as one HTML page, with images as the network gets them
in training: resized, padded and changed at random by the options of `tf-dcnv2 train`.

With --images, annotations of any layout that `tf-dcnv2 convert` takes are inspected. They are converted once, into a
folder beside the page, and again when they change."""

EXAMPLES = """\
  tf-dcnv2 inspect-data records/train
  tf-dcnv2 inspect-data train.json val.json --images train/ val/
  tf-dcnv2 inspect-data records/train records/val --preset mask_rcnn_r50_dcnv2 --short-side 800 --output data.html
  tf-dcnv2 inspect-data records/train --scale-range 0.5 2 --color-jitter 0.5 --samples 24"""

GENERATOR = "tf-dcnv2 inspect-data"
# A smaller gain in mean IoU is nothing that anybody would notice.
_WORTH_SUGGESTING = 0.02
# A larger share of the objects on one pyramid level leaves the others idle.
_CROWDED_LEVEL = 0.75
SHOWN_CLASSES = 20
_ANNOTATED = ("boxes", "classes", "crowd", "masks", "mask_boxes")
_SHOWN_FILES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("records", nargs="+", metavar="RECORDS", help="records: prefixes or patterns")
    parser.add_argument(
        "--images", nargs="+", metavar="DIR", help="folder of images of each of RECORDS, which are then annotations"
    )
    parser.add_argument(
        "--preset",
        default="faster_rcnn_small_dcnv2",
        metavar="NAME",
        help="whose anchors, levels and image size to compare with (default: %(default)s)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the preset; may be repeated",
    )
    add_image_size(parser, "the preset's")
    add_augmentation(parser)
    parser.add_argument("--batch-size", type=positive_int, default=2, metavar="N", help="of samples (default: 2)")
    parser.add_argument(
        "--samples", type=positive_int, default=12, metavar="N", help="images on the page (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the samples (default: %(default)s)")
    parser.add_argument(
        "--output", metavar="HTML", help="page to write (default: PREFIX.inspection.html beside the first RECORDS)"
    )


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found, for the terminal and for the page.

    Attributes:
        info: description of the records.
        config: the detector's configuration.
        classes: `ClassSummary` of each class, and of all at the end.
        sides: roots of the areas of objects, in pixels of the network's image.
        anchors: title, shapes, fit; of the preset, then those that are suggested, if they are better.
        levels: (title, canonical size, share by pyramid level), likewise; empty without a pyramid.
        settings: what to give to `tf-dcnv2 train` to get what is suggested.
        problems: all of them.
    """

    info: Any
    config: Any
    classes: list
    sides: Any
    anchors: list[tuple[str, Any, Any]]
    levels: list[tuple[str, float, dict[int, float]]]
    settings: list[str]
    problems: list


def run(arguments: argparse.Namespace) -> None:
    """Inspects, prints and writes the page."""
    from tf_dcnv2._core.atomic_files import write_atomically
    from tf_dcnv2.data import read_dataset_info
    from tf_dcnv2_cli.inspection_page import inspection_page

    config = _config(arguments)
    title = ", ".join(arguments.records)
    if arguments.images is not None:
        arguments.output = (
            arguments.output or f"{os.path.splitext(arguments.records[0].rstrip('/'))[0]}.inspection.html"
        )
        _check_output(arguments.output, arguments.records)
    arguments.records = _records(arguments)
    info = read_dataset_info(arguments.records)
    path = arguments.output or f"{_first_prefix(info)}.inspection.html"
    _check_output(path, info.shards)
    with progress_bar("inspect") as progress:
        inspection, files = _inspect(info, config, progress)
    samples = list(_samples(arguments, config, info, files))
    _print(inspection, arguments.preset)
    write_atomically(path, inspection_page(inspection, samples, title, arguments.preset))
    log("page", path)


def _config(arguments: argparse.Namespace):
    from tf_dcnv2.models import load_preset

    sides = {"short_side": arguments.short_side, "max_side": arguments.max_side}
    given = {name: side for name, side in sides.items() if side is not None}
    try:
        return load_preset(arguments.preset).replace(**dict(map(parse_setting, arguments.set)), **given)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _records(arguments: argparse.Namespace) -> list[str]:
    """The records to inspect: those that are named, or those made of annotations and images, beside the page."""
    folders = arguments.images or [None] * len(arguments.records)
    if len(folders) != len(arguments.records):
        raise UsageError(
            f"--images takes the folder of the images of each of RECORDS. Received: {len(folders)} for "
            f"{len(arguments.records)}"
        )
    page = (arguments.output or "").removesuffix(".html")
    return [records_of(data, folder, page, "--images") for data, folder in zip(arguments.records, folders, strict=True)]


def _first_prefix(info) -> str:
    from tf_dcnv2.data.records.files import prefix_of

    return prefix_of(info.shards[0]) or info.shards[0]


def _check_output(path: str, inputs: Sequence[str]) -> None:
    from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
    from tf_dcnv2.visualization.html import is_page_of

    refuse_overwriting([path], inputs)
    refuse_foreign(path, is_page_of(path, GENERATOR), "an earlier page of inspect-data")
    ensure_writable(path)


def _inspect(info, config, progress) -> tuple[Inspection, dict[int, str]]:
    """What was found, and the file of each image id."""
    import numpy as np

    from tf_dcnv2.data.inspection.classes import summarize_classes
    from tf_dcnv2.data.inspection.objects import read_image_set
    from tf_dcnv2.data.inspection.problems import find_problems

    images = read_image_set(info, progress)
    resized = images.resized_boxes(config.short_side, config.max_side, config.resizing)
    sides = (resized[:, 2:] - resized[:, :2])[~images.crowd]
    anchors, settings = _compare_anchors(config, sides)
    levels, more = _compare_levels(config, sides)
    inspection = Inspection(
        info=info,
        config=config,
        classes=summarize_classes(images, resized, info.categories),
        sides=np.sqrt(sides.prod(axis=1)),
        anchors=anchors,
        levels=levels,
        settings=settings + more,
        problems=find_problems(info, images, resized),
    )
    return inspection, dict(zip(info.image_ids, images.files, strict=True))


def _compare_anchors(config, sides) -> tuple[list[tuple[str, Any, Any]], list[str]]:
    from tf_dcnv2.data.inspection.anchors import AnchorShapes, fit_of_anchors, suggest_anchors

    rpn = config.rpn
    if config.neck.kind == "fpn":
        by_level = tuple((size,) for size in rpn.anchor_sizes)
        strides = tuple(2**level for level in config.neck.levels)
    else:
        by_level, strides = (rpn.anchor_sizes,), (16,)
    own = AnchorShapes(by_level, rpn.aspect_ratios, strides)
    ious = (0.5, rpn.positive_iou)
    compared, settings = [("preset", own, fit_of_anchors(sides, own, ious))], []
    if len(sides):
        better = suggest_anchors(sides, own)
        fit = fit_of_anchors(sides, better, ious)
        if fit.mean_iou > compared[0][2].mean_iou + _WORTH_SUGGESTING:
            compared.append(("suggested", better, fit))
            sizes = ",".join(f"{size:g}" for level in better.sizes for size in level)
            ratios = ",".join(f"{ratio:g}" for ratio in better.aspect_ratios)
            settings = [f"--set rpn.anchor_sizes=[{sizes}]", f"--set rpn.aspect_ratios=[{ratios}]"]
    return compared, settings


def _compare_levels(config, sides) -> tuple[list[tuple[str, float, dict[int, float]]], list[str]]:
    from tf_dcnv2.data.inspection.anchors import level_shares, suggest_canonical_size

    if config.neck.kind != "fpn" or not len(sides):
        return [], []
    levels = [level for level in config.neck.levels if level < 6] or list(config.neck.levels)
    own = config.neck.canonical_size
    compared, settings = [("preset", own, level_shares(sides, levels, own))], []
    if max(compared[0][2].values()) > _CROWDED_LEVEL:
        better = suggest_canonical_size(sides, levels)
        shares = level_shares(sides, levels, better)
        compared.append(("suggested", better, shares))
        settings = [f"--set neck.canonical_size={better:g}"]
    return compared, settings


def _samples(arguments: argparse.Namespace, config, info, files: dict[int, str]) -> Iterator[tuple[Any, str]]:
    """Pictures of images as the network gets them, each with a caption."""
    import numpy as np

    from tf_dcnv2.data import load_records
    from tf_dcnv2.training.options import AUGMENTATION
    from tf_dcnv2.visualization import draw_annotations

    changes = {name: value for name, value in vars(arguments).items() if name in AUGMENTATION}
    batch_size = min(arguments.batch_size, info.num_images)
    dataset = load_records(
        arguments.records,
        batch_size=batch_size,
        training=True,
        short_side=config.short_side,
        max_side=config.max_side,
        resizing=config.resizing,
        masks=info.has_masks,
        seed=arguments.seed,
        **changes,
    )
    left = min(arguments.samples, info.num_images)
    for inputs, targets in dataset.take(math.ceil(left / batch_size)).as_numpy_iterator():
        for index in range(min(left, batch_size)):
            one = {name: np.asarray(values[index]) for name, values in {**inputs, **targets}.items()}
            height, width = one["image_sizes"].astype(int)
            padded = "x".join(map(str, one["images"].shape[1::-1]))
            objects = int((one["classes"] >= 0).sum())
            caption = f"{files[int(one['image_ids'])]}: {width}x{height} pixels in {padded}, {objects} objects"
            truth = {name: one[name] for name in _ANNOTATED if name in one}
            yield draw_annotations(one["images"], **truth, names=info.categories), caption
        left -= batch_size


def _print(inspection: Inspection, preset: str) -> None:
    from tf_dcnv2.data.inspection.problems import count_problems

    config = inspection.config
    log("data", inspection.info)
    for note in inspection.info.notes():
        log("note", note)
    log("compared", f"with {preset}, shorter side {config.short_side}, longer at most {config.max_side} pixels")
    shown = [*inspection.classes[:-1][:SHOWN_CLASSES], inspection.classes[-1]]
    width = min(30, max(len(summary.name) for summary in shown))
    log("class", f"{'':{width}}   boxes  images   crowd  side: 10 %  median    90 %   small medium  large")
    for summary in shown:
        log("", class_line(summary, width))
    if left_out := len(inspection.classes) - len(shown):
        log("", f"... and {left_out} classes more on the page")
    for title, shapes, fit in inspection.anchors:
        log("anchors", f"{title}: {describe_shapes(shapes)}: {describe_fit(fit)}")
    for title, size, shares in inspection.levels:
        levels = ", ".join(f"P{level} {share:.0%}" for level, share in shares.items())
        log("levels", f"{title}: canonical size {size:g}: {levels} of the objects")
    if inspection.settings:
        log("suggested", " ".join(inspection.settings))
    for kind, count in count_problems(inspection.problems).items():
        members = [problem for problem in inspection.problems if problem.kind == kind]
        log("problem", f"{count} x {kind}{_examples(members)}")
    if not inspection.problems:
        log("problem", "none was found")


def class_line(summary, width: int) -> str:
    """One row of the table of classes."""
    low, median, high = (f"{side:8.0f}" if math.isfinite(side) else f"{'-':>8}" for side in summary.sides)
    shares = " ".join(f"{share:6.0%}" for share in summary.shares)
    name = summary.name if len(summary.name) <= width else f"{summary.name[: width - 1]}…"
    counts = f"{summary.boxes:>8}{summary.images:>8}{summary.crowd:>8}"
    return f"{name:<{width}}{counts}    {low}{median}{high}  {shares}"


def describe_shapes(shapes) -> str:
    """Sizes and ratios in words."""
    sizes = ", ".join(f"{size:g}" for level in shapes.sizes for size in level)
    return f"sizes {sizes}; ratios {', '.join(f'{ratio:g}' for ratio in shapes.aspect_ratios)}"


def describe_fit(fit) -> str:
    """How well anchors fit, in words."""
    shares = ", ".join(f"{share:.0%} of the boxes reach {iou:g}" for iou, share in fit.shares.items())
    return f"best IoU {fit.mean_iou:.2f} on average, {shares}"


def _examples(problems: Sequence) -> str:
    """The first files of some problems."""
    files = list(dict.fromkeys(problem.file for problem in problems if problem.file))
    files = files or [problem.detail for problem in problems if problem.detail]
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    return f": {', '.join(files[:_SHOWN_FILES])}{more}" if files else ""
