"""`tf-dcnv2 visualize`: pictures of what a detector looks at, where it samples, and what it finds."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tf_dcnv2_cli.arguments import add_box_format, add_image_size, add_runs, image_size
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.places import (
    Box,
    Place,
    background_box,
    best_detections,
    chosen_places,
    parse_box,
    parse_cell,
    parse_point,
    places_among,
)

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
_LEVEL, _DEPTH, _BOUND, _MIN_SCORE = "C5", 3, 0.1, 0.5
_SMALLEST_PICTURE_PX = 480


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("figure", choices=("support", "rois", "offsets", "detections"), help="which figure to draw")
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
    places.add_argument("--level", metavar="NAME", help=f"of points and objects (support; default: {_LEVEL})")

    support = parser.add_argument_group("what is drawn")
    support.add_argument(
        "--layers", metavar="REGEX", help="layers whose names contain it (support, offsets; default: all)"
    )
    support.add_argument(
        "--depth",
        type=int,
        choices=range(1, 6),
        metavar="N",
        help=f"the last N of these convolutions before the node, 1 to 5 (support; default: {_DEPTH})",
    )
    support.add_argument("--bound", type=float, metavar="E", help=f"of the saliency region's error (default: {_BOUND})")
    support.add_argument("--no-saliency", action="store_true", default=None, help="leave the saliency regions out")
    support.add_argument("--min-score", type=float, metavar="S", help=f"in 0..1 (detections; default: {_MIN_SCORE})")


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
        _Subject(trained, title, image, arguments) for trained, title in zip(runs, _titles(arguments), strict=True)
    ]
    draw = {"support": _draw_support, "rois": _draw_rois, "offsets": _draw_offsets, "detections": _draw_detections}
    draw[arguments.figure](subjects, arguments, layers)
    log("written", output)


class _Subject:
    """A detector, and the image as it sees it."""

    def __init__(self, trained, title: str, image, arguments: argparse.Namespace):
        from tf_dcnv2.analysis import network_image

        self.trained, self.title, self.file_image = trained, title, image
        self.detector = trained.detector
        self.size = image_size(arguments, trained.detector)
        self.image = network_image(trained.detector, image, **self.size)
        self.scale = [new / old for new, old in zip(self.image.shape, image.shape[:2], strict=False)]

    def detect(self) -> dict:
        """The detections, in pixels of the file."""
        return self.detector.detect(self.file_image, **self.size)

    def node(self, place: Place, level: str):
        """The cell of a feature map at a place."""
        from tf_dcnv2.analysis import ConvNode, node_at

        if place.cell is not None:
            return ConvNode(*place.cell)
        point = tuple(
            min(max(value * scale - 0.5, 0.0), side - 1.0)
            for value, scale, side in zip(place.point, self.scale, self.image.shape, strict=False)
        )
        return node_at(self.detector, self.image, level, point)

    def box(self, box: Sequence[float] | None):
        """A box of the file, in pixels of the network's image."""
        if box is None:
            return None
        sides = self.image.shape[:2]
        return tuple(min(value * self.scale[i % 2], float(sides[i % 2])) for i, value in enumerate(box))


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


def _draw_support(subjects: Sequence[_Subject], arguments: argparse.Namespace, layers: re.Pattern[str] | None) -> None:
    from tf_dcnv2.visualization import SUPPORT_ROWS, support_panels

    places = _places(subjects[0], arguments)
    depth, level = arguments.depth or _DEPTH, arguments.level or _LEVEL
    # All nodes first: one that does not exist ends the command before the work begins.
    nodes = {(subject, place): subject.node(place, level) for subject in subjects for place in places}

    def panels(subject: _Subject, place: Place, **options: Any):
        return support_panels(
            subject.detector,
            subject.image,
            nodes[subject, place],
            box=subject.box(place.box),
            layers=layers,
            depth=depth,
            **options,
        )

    which = f"layers whose names contain {arguments.layers}" if arguments.layers else "convolutions larger than 1x1"
    legend = {"strength": "strength, relative to the strongest of the picture", "node": "node"}
    if any(place.box is not None for place in places):
        legend["box"] = "object"
    last = f"last {depth}" if depth > 1 else "last one"
    note = f"Locations are those of the {last} of the {which} before the node."
    _draw_columns(subjects, places, panels, arguments, SUPPORT_ROWS, legend, note)


def _draw_rois(subjects: Sequence[_Subject], arguments: argparse.Namespace, _: Any) -> None:
    from tf_dcnv2.analysis import RoINode
    from tf_dcnv2.visualization import ROI_ROWS, roi_panels

    size = subjects[0].file_image.shape[:2]
    places = _places(subjects[0], arguments)
    places = [place if place.box else place._replace(box=background_box(places, size)) for place in places]

    def panels(subject: _Subject, place: Place, **options: Any):
        return roi_panels(subject.detector, subject.image, RoINode(subject.box(place.box)), **options)

    legend = {"strength": "strength, relative to the strongest of the picture", "box": "region of interest"}
    _draw_columns(subjects, places, panels, arguments, ROI_ROWS, legend, "")


def _draw_columns(
    subjects: Sequence[_Subject],
    places: Sequence[Place],
    panels_of: Callable[..., list],
    arguments: argparse.Namespace,
    row_titles: Sequence[str],
    legend: dict[str, str],
    note: str,
) -> None:
    """Computes a column for every detector and place, and writes the figure."""
    from tf_dcnv2.visualization import save_panels

    saliency = not arguments.no_saliency
    bound = _BOUND if arguments.bound is None else arguments.bound
    with progress_bar("saliency") as progress:
        count = _Counter(progress)
        columns = [
            panels_of(subject, place, saliency=saliency, bound=bound, progress=count)
            for subject in subjects
            for place in places
        ]
    for index, panels in enumerate(columns):
        subject, place = subjects[index // len(places)], places[index % len(places)]
        rows = [
            f"{' '.join(title.split())} {panel.caption}"
            for title, panel in zip(row_titles, panels, strict=False)
            if panel.caption
        ]
        log("node", f"{subject.title}, {place.title}: {' | '.join(rows)}")
    save_panels(
        columns,
        arguments.output,
        row_titles=row_titles[: len(columns[0])],
        column_titles=[place.title for place in places] * len(subjects),
        groups=[(subject.title, len(places)) for subject in subjects],
        legend=legend,
        note=note,
    )


class _Counter:
    """Shows how many masked images were looked at for all saliency regions so far."""

    def __init__(self, show: Callable[[int, int | None], None]):
        self._show = show
        self._before = self._latest = 0

    def __call__(self, _: str, evaluations: int) -> None:
        if evaluations < self._latest:  # the next region has begun
            self._before += self._latest
        self._latest = evaluations
        self._show(self._before + evaluations, None)


def _draw_offsets(subjects: Sequence[_Subject], arguments: argparse.Namespace, layers: re.Pattern[str] | None) -> None:
    from tf_dcnv2.analysis import predicted_offsets, statistics_of
    from tf_dcnv2.visualization import save_offsets

    drawn = []
    for subject in subjects:
        found = predicted_offsets(subject.detector, subject.image)
        if not found:
            raise UsageError(f"{subject.title} has no deformable layers")
        chosen = [layer for layer in found if layers is None or layers.search(layer.layer)]
        if not chosen:
            known = ", ".join(layer.layer for layer in found)
            raise UsageError(f"--layers: {subject.title} has no deformable layer like {arguments.layers}, but {known}")
        log("offsets", f"{subject.title}: length in pixels, share beyond the map, modulation (1st to 99th percentile)")
        for layer in chosen:
            log("", _describe(statistics_of(layer), layer.pixels[0]))
        prefix = f"{subject.title}, " if len(subjects) > 1 else ""
        drawn += [layer._replace(layer=prefix + layer.layer) for layer in chosen]
    title = f"Offsets and modulation: {', '.join(subject.title for subject in subjects)}"
    save_offsets(drawn, subjects[0].image, arguments.output, title=title)


def _describe(numbers, pixels: float) -> str:
    """A layer's statistics in one line, with lengths in pixels."""
    lengths = [pixels * length for length in (numbers.mean, numbers.p99, numbers.largest)]
    line = "{:24}  mean {:6.2f}  99 % {:6.2f}  longest {:6.2f}".format(numbers.layer, *lengths)
    if numbers.outside is not None:
        line += f"  beyond {100 * numbers.outside:4.1f} %"
    if numbers.modulation is not None:
        low, high = numbers.modulation_range
        line += f"  modulation {numbers.modulation:.2f} ({low:.2f} to {high:.2f})"
    return line


def _draw_detections(subjects: Sequence[_Subject], arguments: argparse.Namespace, _: Any) -> None:
    from tf_dcnv2.visualization import Panel, draw_detections, save_panels, unwritable_names

    min_score = _MIN_SCORE if arguments.min_score is None else arguments.min_score
    columns = []
    for subject in subjects:
        names = subject.trained.names
        if unwritable := unwritable_names(names.values()):
            log("note", f"no font here has the characters of {', '.join(unwritable)}: the picture shows ids")
        found = subject.detect()
        zoom = max(1.0, _SMALLEST_PICTURE_PX / min(subject.file_image.shape[:2]))
        picture = draw_detections(subject.file_image, **found, names=names, min_score=min_score, zoom=zoom)
        count = int((found["scores"] >= min_score).sum())
        log("found", f"{subject.title}: {count} objects with a score of at least {min_score:g}")
        columns.append([Panel(picture, f"{count} objects with a score of at least {min_score:g}")])
    save_panels(columns, arguments.output, groups=[(subject.title, 1) for subject in subjects])


def _places(subject: _Subject, arguments: argparse.Namespace) -> list[Place]:
    """The places that were asked for, or objects and background of the annotations or the detections."""
    height, width = size = subject.file_image.shape[:2]
    for y, x in arguments.point or ():
        if not (0 <= y <= height and 0 <= x <= width):
            raise UsageError(f"--point must lie on the image of {height} x {width} pixels. Received: {y:g},{x:g}")
    for box in arguments.box or ():
        if box[0] < 0 or box[1] < 0 or box[2] > height or box[3] > width:
            given = ",".join(f"{value:g}" for value in box)
            raise UsageError(f"--box must lie on the image of {height} x {width} pixels. Received: {given}")
    places = chosen_places(arguments.node or (), arguments.point or (), arguments.box or ())
    if places:
        return places
    objects = (
        _annotated(arguments, size)
        if arguments.annotations
        else best_detections(subject.detect(), _writable(subject.trained.names))
    )
    return places_among(objects, size)


def _writable(names: dict[int, str]) -> dict[int, str]:
    """Names of categories, with ids in place of those that no font here can write."""
    from tf_dcnv2.visualization import unwritable_names

    unwritable = set(unwritable_names(names.values()))
    return {key: str(key) if name in unwritable else name for key, name in names.items()}


def _annotated(arguments: argparse.Namespace, size: tuple[int, int]) -> list[tuple[Box, str]]:
    """Boxes and names of the image's objects in the annotation file."""
    from tf_dcnv2.data.coco.annotations import read_coco_annotations

    annotations = read_coco_annotations(arguments.annotations, box_format=arguments.box_format)
    name = Path(arguments.image).name
    images = [image for image in annotations.images if Path(str(image["file_name"])).name == name]
    if len(images) != 1:
        raise UsageError(
            f"--annotations: {arguments.annotations} has {len(images)} images of the name {name}; one is needed"
        )
    names = _writable(annotations.categories)
    objects = []
    for annotation in annotations.annotations_of.get(images[0]["id"], []):
        x, y, width, height = annotation["bbox"]
        y1, x1, y2, x2 = box = (max(y, 0.0), max(x, 0.0), min(y + height, size[0]), min(x + width, size[1]))
        if not annotation["iscrowd"] and y2 - y1 >= 1 and x2 - x1 >= 1:
            objects.append((box, names[annotation["category_id"]]))
    if not objects:
        raise UsageError(f"--annotations: {arguments.annotations} has no object on {name}")
    return objects
