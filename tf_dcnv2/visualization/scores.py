"""Figures of an evaluation: precision against recall, the confusion matrix, and what each kind of error costs."""

import os
from typing import TYPE_CHECKING

import numpy as np

from tf_dcnv2.evaluation import Analysis
from tf_dcnv2.fonts import font_for
from tf_dcnv2.visualization.detections import class_color
from tf_dcnv2.visualization.figures import font_of, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_confusion_matrix", "save_errors", "save_precision_recall"]

_BAR, _INK, _FAINT_INK, _GRID = "#7d2a77", "#1a1a1e", "#55555c", "#e4e4e8"
_TITLE_PT, _TEXT_PT, _SMALL_PT = 10.5, 8.5, 7.0
# More classes than these are drawn without their names, and counts without digits.
_MOST_NAMED_CURVES, _MOST_WRITTEN_CLASSES = 15, 20


def save_precision_recall(analysis: Analysis, path: str | os.PathLike) -> None:
    """Draws precision against recall at an IoU of 0.5: a line for each class with objects, and their mean.

    Args:
        analysis: of `tf_dcnv2.evaluation.analyze_detections`.
        path: the file, `.png` or `.svg`. Makes the folder.

    Raises:
        ValueError: the file is neither PNG nor SVG.
        OSError: it cannot be written.

    Example:
        >>> save_precision_recall(analyze_detections(detected), "precision_recall.png")
    """
    figure = new_figure(6.4, 4.4)
    axes = figure.add_axes((0.1, 0.12, 0.56, 0.76))
    _decorate(axes, "Precision and recall at IoU 0.50", "recall", "precision")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    present = sorted(
        (scores for scores in analysis.classes if scores.objects), key=lambda scores: -scores.average_precision_50
    )
    for number, scores in enumerate(present):
        color = tuple(part / 255 for part in class_color(scores.category_id))
        named = number < _MOST_NAMED_CURVES
        label = f"{_writable(scores.name, scores.category_id)}  {scores.average_precision_50:.3f}" if named else None
        axes.plot(scores.recalls, scores.precision[0], color=color, linewidth=1.0, alpha=0.8, label=label)
    if present:
        mean = np.mean([scores.precision[0] for scores in present], axis=0)
        axes.plot(present[0].recalls, mean, color=_INK, linewidth=2.2, label=f"mean  {mean.mean():.3f}")
        title = "AP50" if len(present) <= _MOST_NAMED_CURVES else f"AP50, best {_MOST_NAMED_CURVES} of {len(present)}"
        legend = axes.legend(
            loc="upper left", bbox_to_anchor=(1.03, 1.02), frameon=False, fontsize=_SMALL_PT, title=title
        )
        legend.get_title().set_fontsize(_SMALL_PT)
        for text in legend.get_texts():
            text.set(**font_of(text.get_text()), size=_SMALL_PT)
    save_figure(figure, path)


def save_confusion_matrix(analysis: Analysis, path: str | os.PathLike) -> None:
    """Draws the confusion matrix: the darker, the larger the share of the row's objects.

    Args:
        analysis: of `tf_dcnv2.evaluation.analyze_detections`.
        path: the file, `.png` or `.svg`. Makes the folder.

    Raises:
        ValueError: the file is neither PNG nor SVG.
        OSError: it cannot be written.
    """
    confusion = analysis.confusion
    names = [*map(_writable, confusion.names, confusion.category_ids), "background"]
    counts = confusion.counts
    side = float(np.clip(0.34 * len(names), 3.0, 14.0))
    margin = 0.35 + 0.075 * min(24, max(map(len, names)))
    figure = new_figure(side + margin + 0.2, side + margin + 0.5)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Purples", vmin=0, vmax=1)
    _decorate(axes, f"Detections with a score of at least {confusion.score_threshold:g}", "detected as", "object")
    axes.grid(False)
    size = _TEXT_PT if len(names) <= _MOST_WRITTEN_CLASSES else max(3.0, 72 * side / len(names) * 0.8)
    short = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    positions = range(len(names))
    for axis, rotation in ((axes.xaxis, 90), (axes.yaxis, 0)):
        axis.set_ticks(positions, short, rotation=rotation)
        for tick, name in zip(axis.get_ticklabels(), short, strict=True):
            tick.set(**font_of(name), size=min(size, _TEXT_PT))
    if len(names) <= _MOST_WRITTEN_CLASSES + 1:
        for row, column in np.argwhere(counts > 0):
            color = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, str(counts[row, column]), color=color, size=_SMALL_PT, ha="center", va="center")
    save_figure(figure, path)


def save_errors(analysis: Analysis, path: str | os.PathLike) -> None:
    """Draws how many errors of each kind there are, and what AP50 would gain without them.

    Args:
        analysis: of `tf_dcnv2.evaluation.analyze_detections`.
        path: the file, `.png` or `.svg`. Makes the folder.

    Raises:
        ValueError: the file is neither PNG nor SVG.
        OSError: it cannot be written.
    """
    kinds = list(analysis.errors)
    figure = new_figure(7.0, 2.9)
    gains = [error.ap50_gain for error in analysis.errors.values()]
    counts = [float(error.count) for error in analysis.errors.values()]
    for number, (title, values, form) in enumerate(
        (("AP50 gained without them", gains, "{:.3f}"), ("number of errors", counts, "{:.0f}"))
    ):
        axes = figure.add_axes((0.13 + 0.45 * number, 0.1, 0.38, 0.76))
        _decorate(axes, title, "", "")
        bars = axes.barh(range(len(kinds)), values, color=_BAR, height=0.62)
        axes.bar_label(bars, [form.format(value) for value in values], padding=3, size=_SMALL_PT, color=_INK)
        axes.set_yticks(range(len(kinds)), kinds if number == 0 else [""] * len(kinds), size=_TEXT_PT)
        axes.set_xlim(0, 1.2 * max(*values, 1e-9))
        axes.set_xticks([])
        axes.invert_yaxis()
    save_figure(figure, path)


def _writable(name: str, category_id: int) -> str:
    """The name of a class, or its id where no font has the characters, as in pictures of detections."""
    return name if font_for(name, 10) is not None else str(category_id)


def _decorate(axes: "Axes", title: str, x_label: str, y_label: str) -> None:
    axes.set_title(title, size=_TITLE_PT, color=_INK, loc="left")
    axes.set_xlabel(x_label, size=_TEXT_PT, color=_FAINT_INK)
    axes.set_ylabel(y_label, size=_TEXT_PT, color=_FAINT_INK)
    axes.tick_params(labelsize=_SMALL_PT, length=0, colors=_FAINT_INK)
    axes.grid(True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
