"""`tf-dcnv2 visualize`: pictures of what a detector looks at, where it samples, and what it finds."""

import argparse
import re
from pathlib import Path

from tf_dcnv2_cli.arguments import add_box_format, add_image_size, add_runs
from tf_dcnv2_cli.console import log
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.figures import DEFAULT_BOUND, DEFAULT_DEPTH, DEFAULT_LEVEL, DEFAULT_MIN_SCORE, FIGURES, Subject
from tf_dcnv2_cli.places import parse_box, parse_cell, parse_point

SUMMARY = "draw what a detector looks at, where it samples, and what it finds"

DESCRIPTION = """\
Draws one of four figures of one image, for one trained detector or for several side by side:

  support     of cells of a feature map: the locations that the last convolutions sample, these with the strength with
              which each acts on the cell, the effective receptive field, and the error-bounded saliency region
  rois        of regions in the box head: bins with their strength, effective receptive field, saliency region
  offsets     of every deformable layer: how long its offsets are and how it modulates, as maps and histograms
  detections  the boxes that are found

support and rois show a small object, a large one and background: those of --annotations, or else the first detector's
own surest detections. --node, --point and --box choose other places. Points and boxes are in pixels of the image file,
y first. A saliency region takes a detector one to two hundred looks at the image; --no-saliency leaves it out."""

EXAMPLES = """\
  tf-dcnv2 visualize support runs/cells --image sample.jpg --output support.png
  tf-dcnv2 visualize support runs/regular runs/dcnv2 --image sample.jpg --point 120,200 40,64 --output both.svg
  tf-dcnv2 visualize support runs/cells --image sample.jpg --node C4:7,12 --layers conv4_ --output stage4.png
  tf-dcnv2 visualize rois runs/cells --image sample.jpg --box 30,40,130,200 --output roi.png
  tf-dcnv2 visualize offsets runs/cells --image sample.jpg --output offsets.png
  tf-dcnv2 visualize detections runs/regular runs/dcnv2 --image sample.jpg --min-score 0.3 --output found.png"""

# Which figures an option is for, where it is not for all.
_FOR = {
    "node": ("support",),
    "point": ("support",),
    "level": ("support",),
    "depth": ("support",),
    "box": ("support", "rois"),
    "annotations": ("support", "rois"),
    "box_format": ("support", "rois"),
    "bound": ("support", "rois"),
    "no_saliency": ("support", "rois"),
    "layers": ("support", "offsets"),
    "min_score": ("detections",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("figure", choices=FIGURES, help="which figure to draw")
    add_runs(parser)
    parser.add_argument("--image", required=True, metavar="FILE", help="image file")
    parser.add_argument("--output", required=True, metavar="FILE", help="picture to write, .png or .svg")
    parser.add_argument("--titles", nargs="+", metavar="TITLE", help="one for each run (default: the folders' names)")
    add_image_size(parser)

    places = parser.add_argument_group("which places (support, rois)")
    places.add_argument(
        "--node",
        action="append",
        type=parse_cell,
        metavar="LEVEL:ROW,COL",
        help="a cell of a level, C2 to C5 or P2 to P6, or of a layer of the backbone; may be repeated (support)",
    )
    places.add_argument("--point", nargs="+", type=parse_point, metavar="Y,X", help="the cells nearest to it (support)")
    places.add_argument(
        "--box",
        nargs="+",
        type=parse_box,
        metavar="Y1,X1,Y2,X2",
        help="RoIs; for support, the objects that the points lie on, or whose centres to look at",
    )
    places.add_argument("--annotations", metavar="JSON", help="COCO annotations to choose objects from")
    add_box_format(places)
    places.add_argument("--level", metavar="NAME", help=f"of points and objects (support; default: {DEFAULT_LEVEL})")

    support = parser.add_argument_group("what is drawn")
    support.add_argument(
        "--layers", metavar="REGEX", help="layers whose names contain it (support, offsets; default: all)"
    )
    support.add_argument(
        "--depth",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help=f"the last N of these convolutions before the node, 1 to 5 (support; default: {DEFAULT_DEPTH})",
    )
    support.add_argument(
        "--bound", type=float, metavar="E", help=f"of the saliency region's error (default: {DEFAULT_BOUND})"
    )
    support.add_argument("--no-saliency", action="store_true", default=None, help="leave the saliency regions out")
    support.add_argument(
        "--min-score", type=float, metavar="S", help=f"in 0..1 (detections; default: {DEFAULT_MIN_SCORE})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Computes and draws the figure."""
    layers = _check(arguments)
    from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
    from tf_dcnv2.data import read_image
    from tf_dcnv2.visualization import is_figure
    from tf_dcnv2_cli.trained import load_trained

    output = Path(arguments.output)
    inputs = [arguments.image, *([arguments.annotations] if arguments.annotations else [])]
    refuse_overwriting([output], inputs)
    refuse_foreign(output, is_figure(output), "a figure of `tf-dcnv2 visualize`")
    runs = [load_trained(path, allow_non_finite=arguments.allow_non_finite) for path in arguments.run_paths]
    if len({trained.orientation for trained in runs}) > 1:
        raise UsageError("the detectors were trained on images turned in different ways: draw one at a time")
    ensure_writable(output)
    image = read_image(arguments.image, upright=runs[0].orientation == "upright")
    for trained in runs:
        log("model", trained)
    subjects = [
        Subject(trained, title, image, arguments) for trained, title in zip(runs, _titles(arguments), strict=True)
    ]
    FIGURES[arguments.figure](subjects, arguments, layers)
    log("written", output)


def _check(arguments: argparse.Namespace) -> re.Pattern[str] | None:
    """Refuses what makes no sense before anything is loaded; returns the pattern of --layers."""
    for name, figures in _FOR.items():
        if getattr(arguments, name) is not None and arguments.figure not in figures:
            raise UsageError(f"--{name.replace('_', '-')} is for {' and '.join(figures)}, not for {arguments.figure}")
    if Path(arguments.output).suffix.lower() not in (".png", ".svg"):
        raise UsageError(f"--output must end in .png or .svg. Received: {arguments.output}")
    if arguments.titles and len(arguments.titles) != len(arguments.run_paths):
        raise UsageError(f"--titles: {len(arguments.run_paths)} are needed, one for each run")
    if arguments.box_format and not arguments.annotations:
        raise UsageError("--box-format says what the boxes of --annotations mean: give both")
    if arguments.annotations and any((arguments.node, arguments.point, arguments.box)):
        raise UsageError("--annotations chooses the places itself: leave --node, --point and --box out")
    for name, low, high in (("bound", 0, 1), ("min_score", -0.001, 1.001)):
        value = getattr(arguments, name)
        if value is not None and not low < value < high:
            raise UsageError(f"--{name.replace('_', '-')} must be between 0 and 1. Received: {value:g}")
    try:
        return re.compile(arguments.layers) if arguments.layers else None
    except re.error as error:
        raise UsageError(f"--layers is no regular expression: {error}. Received: {arguments.layers}") from None


def _titles(arguments: argparse.Namespace) -> list[str]:
    """A heading for each run: the name of its folder, or of a .keras file that is called otherwise than in runs."""
    if arguments.titles:
        return arguments.titles
    paths = [Path(path).resolve() for path in arguments.run_paths]
    own_names = ("best.keras", "last.keras")
    return [(path.parent if path.name in own_names else path).name.removesuffix(".keras") for path in paths]
