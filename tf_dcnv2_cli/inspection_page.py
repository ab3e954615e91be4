"""The HTML page of `tf-dcnv2 inspect-data`."""

import math
from collections.abc import Sequence

import numpy as np

from tf_dcnv2.data.inspection.classes import side_histogram
from tf_dcnv2.data.inspection.problems import count_problems
from tf_dcnv2.visualization import html
from tf_dcnv2_cli.inspect_data import GENERATOR, SHOWN_CLASSES, Inspection, describe_fit, describe_shapes

_LONGEST_PICTURE_PX = 560
_MOST_OF_A_KIND = 1000


def inspection_page(
    inspection: Inspection, samples: Sequence[tuple[np.ndarray, str]], records: str, preset: str
) -> str:
    """The page as text."""
    config = inspection.config
    size = f"shorter side {config.short_side}, longer at most {config.max_side} pixels"
    return html.page(
        f"Data in {records}",
        html.paragraph(str(inspection.info)),
        *map(html.paragraph, inspection.info.notes()),
        html.heading("Problems"),
        *_problems(inspection),
        html.heading("Training images as the network gets them"),
        html.paragraph(f"Resized ({size}), changed at random as in training, and padded to the largest of the batch."),
        html.pictures((html.reduced(picture, _LONGEST_PICTURE_PX), caption) for picture, caption in samples),
        html.heading("Classes"),
        html.paragraph(f"Sides are roots of areas, in pixels of the network's image ({size}). Small is below 32 x 32."),
        *_classes(inspection),
        html.heading("Sizes of objects"),
        html.bars(("side in pixels", "objects"), side_histogram(inspection.sides)),
        html.heading("Anchors and pyramid levels"),
        *_anchors(inspection, preset),
        generator=GENERATOR,
    )


def _problems(inspection: Inspection) -> list[str]:
    if not inspection.problems:
        return [html.paragraph("None was found.")]
    parts = []
    for kind, count in count_problems(inspection.problems).items():
        members = [problem for problem in inspection.problems if problem.kind == kind][:_MOST_OF_A_KIND]
        rows = [(problem.file, problem.detail) for problem in members if problem.file or problem.detail]
        left_out = f"The first {_MOST_OF_A_KIND} are shown." if count > _MOST_OF_A_KIND else ""
        parts.append(html.folded(f"{count} × {kind}", html.table(("file", "what"), rows, text_columns=[1]), left_out))
    return parts


def _classes(inspection: Inspection) -> list[str]:
    columns = ("class", "boxes", "images", "crowd", "10 %", "median", "90 %", "small", "medium", "large")
    rows = []
    for summary in inspection.classes:
        sides = [f"{side:.0f}" if math.isfinite(side) else "-" for side in summary.sides]
        shares = [f"{share:.0%}" for share in summary.shares]
        rows.append((summary.name, summary.boxes, summary.images, summary.crowd, *sides, *shares))
    if len(rows) <= SHOWN_CLASSES + 1:
        return [html.table(columns, rows)]
    others = rows[SHOWN_CLASSES:-1]
    return [
        html.table(columns, [*rows[:SHOWN_CLASSES], rows[-1]]),
        html.folded(f"{len(others)} classes more", html.table(columns, others)),
    ]


def _anchors(inspection: Inspection, preset: str) -> list[str]:
    rows = []
    for title, shapes, fit in inspection.anchors:
        shares = "; ".join(
            f"stride {stride}: {share:.0%}" for stride, share in zip(shapes.strides, fit.levels, strict=True)
        )
        rows.append((title, describe_shapes(shapes), describe_fit(fit), shares))
    parts = [
        html.paragraph(
            f"Anchors of {preset} against the boxes, which lie a quarter of the stride off their centres on average. "
            "Suggestions are k-means over 1 - IoU: of sizes among squares, of ratios among boxes of the same area."
        ),
        html.table(("", "anchors", "fit", "best anchor at"), rows, text_columns=[1, 2, 3]),
    ]
    for title, size, of_levels in inspection.levels:
        parts.append(
            html.paragraph(
                f"Share of the objects that RoI pooling takes from each level, {title} (canonical size {size:g}):"
            )
        )
        parts.append(html.bars(("level", "share"), [(f"P{key}", share) for key, share in of_levels.items()], "{:.0%}"))
    if inspection.settings:
        parts.append(html.paragraph(f"To train with what is suggested: `{' '.join(inspection.settings)}`"))
    return parts
