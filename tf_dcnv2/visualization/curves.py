"""Curves of a training run: losses, metrics and offsets by epoch."""

import math
from collections.abc import Mapping, Sequence

from tf_dcnv2.visualization.figures import figure_content, new_figure

__all__ = ["draw_curves"]

_COLUMNS = 2
_WIDTH, _HEIGHT = 5.8, 2.6
_GRID = "#d9d9de"
_MOST_MARKED = 40

Row = Mapping[str, float]


def draw_curves(history: Sequence[Row]) -> str:
    """Draws the curves of a run as an SVG image.

    Args:
        history: losses and metrics of each epoch by name, with its number, from 0, as `epoch`; what is missing, NaN or
            negative in an epoch is left out of the curve.

    Returns:
        The text of an `<svg>` element: panels for losses, for AP of boxes and of masks, for lengths of offsets, and for
        shares; one for each kind that has numbers.

    Raises:
        ValueError: there are no numbers.

    Example:
        >>> svg = draw_curves([{"epoch": 0, "loss": 2.5, "val_AP": 0.1}, {"epoch": 1, "loss": 2.0, "val_AP": 0.2}])
    """
    from matplotlib.ticker import MaxNLocator

    panels = {title: names for title, names in _panels(history).items() if names}
    if not panels:
        raise ValueError("history has no numbers to draw.")
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(_COLUMNS * _WIDTH, rows * _HEIGHT)
    for position, (title, names) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(rows, _COLUMNS, position)
        for name in names:
            epochs, values = _curve(history, name)
            marker = "o" if len(epochs) <= _MOST_MARKED else None
            axes.plot(epochs, values, marker=marker, markersize=2.5, linewidth=1.2, label=name)
        axes.set_xlim(0.5, max(row["epoch"] for row in history) + 1.5)
        axes.set_ylim(bottom=0)
        axes.set_title(title, fontsize=9, loc="left")
        axes.set_xlabel("epoch", fontsize=7)
        axes.tick_params(labelsize=7)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=_GRID, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=6.5, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)
    figure.tight_layout()
    text = figure_content(figure, ".svg").decode()
    return text[text.index("<svg") :]


def _panels(history: Sequence[Row]) -> dict[str, list[str]]:
    names = sorted({name for row in history for name in row if _has(row, name)} - {"epoch"})
    losses = [name for name in names if name == "loss" or name.endswith("_loss")]
    masks = [name for name in names if name.startswith("val_mask_AP")]
    boxes = [name for name in names if name.startswith("val_AP")]
    lengths = [name for name in names if name in ("offset_mean", "offset_p99")]
    shares = [name for name in names if name in ("offset_outside", "modulation")]
    return {
        "Losses": losses,
        "AP of boxes": boxes,
        "AP of masks": masks,
        "Offsets in pixels": lengths,
        "Samples beyond the map, modulation": shares,
    }


def _curve(history: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    """The epochs, counted from 1, that have the number, and the numbers."""
    points = [(row["epoch"] + 1, row[name]) for row in history if _has(row, name)]
    return [epoch for epoch, _ in points], [value for _, value in points]


def _has(row: Row, name: str) -> bool:
    """Whether the epoch has this number; COCO's rules give -1 to sizes of which there are no objects."""
    return math.isfinite(value := row.get(name, math.nan)) and value >= 0
