"""The four figures of `tf-dcnv2 visualize`: what each computes, logs and draws for the detectors side by side."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any

from tf_dcnv2_cli.arguments import image_size
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.places import (
    Place,
    annotated_objects,
    background_box,
    best_detections,
    check_inside,
    chosen_places,
    places_among,
    writable_names,
)

DEFAULT_LEVEL, DEFAULT_DEPTH, DEFAULT_BOUND, DEFAULT_MIN_SCORE = "C5", 3, 0.1, 0.5
_SMALLEST_PICTURE_PX = 480


class Subject:
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


def _draw_support(subjects: Sequence[Subject], arguments: argparse.Namespace, layers: re.Pattern[str] | None) -> None:
    from tf_dcnv2.visualization import SUPPORT_ROWS, support_panels

    places = _places(subjects[0], arguments)
    depth, level = arguments.depth or DEFAULT_DEPTH, arguments.level or DEFAULT_LEVEL
    # All nodes first: one that does not exist ends the command before the work begins.
    nodes = {(subject, place): subject.node(place, level) for subject in subjects for place in places}

    def panels(subject: Subject, place: Place, **options: Any):
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


def _draw_rois(subjects: Sequence[Subject], arguments: argparse.Namespace, _: Any) -> None:
    from tf_dcnv2.analysis import RoINode
    from tf_dcnv2.visualization import ROI_ROWS, roi_panels

    size = subjects[0].file_image.shape[:2]
    places = _places(subjects[0], arguments)
    places = [place if place.box else place._replace(box=background_box(places, size)) for place in places]

    def panels(subject: Subject, place: Place, **options: Any):
        return roi_panels(subject.detector, subject.image, RoINode(subject.box(place.box)), **options)

    legend = {"strength": "strength, relative to the strongest of the picture", "box": "region of interest"}
    _draw_columns(subjects, places, panels, arguments, ROI_ROWS, legend, "")


def _draw_columns(
    subjects: Sequence[Subject],
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
    bound = DEFAULT_BOUND if arguments.bound is None else arguments.bound
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


def _draw_offsets(subjects: Sequence[Subject], arguments: argparse.Namespace, layers: re.Pattern[str] | None) -> None:
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


def _draw_detections(subjects: Sequence[Subject], arguments: argparse.Namespace, _: Any) -> None:
    from tf_dcnv2.visualization import Panel, draw_detections, save_panels, unwritable_names

    min_score = DEFAULT_MIN_SCORE if arguments.min_score is None else arguments.min_score
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


def _places(subject: Subject, arguments: argparse.Namespace) -> list[Place]:
    """The places that were asked for, or objects and background of the annotations or the detections."""
    size = subject.file_image.shape[:2]
    cells, points, boxes = (tuple(given or ()) for given in (arguments.node, arguments.point, arguments.box))
    check_inside(size, points, boxes)
    if places := chosen_places(cells, points, boxes):
        return places
    if arguments.annotations:
        objects = annotated_objects(arguments.annotations, arguments.image, size, box_format=arguments.box_format)
    else:
        objects = best_detections(subject.detect(), writable_names(subject.trained.names))
    return places_among(objects, size)


# Each draws its figure of the detectors to the file of --output; layers are those of --layers.
FIGURES: dict[str, Callable[[Sequence[Subject], argparse.Namespace, re.Pattern[str] | None], None]] = {
    "support": _draw_support,
    "rois": _draw_rois,
    "offsets": _draw_offsets,
    "detections": _draw_detections,
}
