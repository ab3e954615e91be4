"""Pictures of what the offset branches of a model predict: where offsets are long, and how they are distributed."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_dcnv2.analysis import LayerOffsets
from tf_dcnv2.visualization.drawing import draw_map, strength_colormap
from tf_dcnv2.visualization.figures import font_of, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["save_offsets"]

_BAR, _INK, _FAINT_INK = "#7d2a77", "#1a1a1e", "#55555c"
_SHORT_SIDE_PX = 480
# Inches and points.
_MARGIN, _MAP_WIDTH, _CHART_WIDTH, _GAP = 0.15, 2.2, 1.9, 0.3
_HEADER, _NAME, _AXIS, _CAPTION = 0.75, 0.3, 0.5, 0.36
_TITLE_PT, _TEXT_PT, _SMALL_PT = 10.5, 8.5, 7.0
_COLUMNS = ("mean length of the offsets", "lengths of the offsets", "mean modulation", "modulation")


def save_offsets(
    layers: Sequence[LayerOffsets], image: np.ndarray, path: str | os.PathLike, *, title: str = ""
) -> None:
    """Draws a row for each deformable layer: map and histogram of the lengths of its offsets and of its modulation.

    Args:
        layers: of `tf_dcnv2.analysis.predicted_offsets`.
        image: `(H, W, 3)` RGB 0..255, the one that they were predicted for.
        path: the file, `.png` or `.svg`. Makes the folder.
        title: written above all.

    Raises:
        ValueError: there are no layers, or the file is neither PNG nor SVG.
        OSError: the file cannot be written.

    Example:
        >>> save_offsets(predicted_offsets(detector, image), image, "offsets.png")
    """
    if not layers:
        raise ValueError("layers is empty: the model has no deformable layers.")
    sheet = _Sheet(len(layers), np.shape(image)[0] / np.shape(image)[1], title)
    for row, layer in enumerate(layers):
        lengths = np.linalg.norm(layer.offsets * np.asarray(layer.pixels), axis=-1)
        sheet.name(row, layer, lengths.size)
        if not lengths.size:
            continue
        limit = float(np.percentile(lengths, 99.5)) or 1.0
        sheet.map(row, 0, image, lengths, " px")
        sheet.histogram(row, 1, lengths, limit, f"pixels; the longest has {lengths.max():.3g}")
        if layer.modulation is not None:
            sheet.map(row, 2, image, layer.modulation, "")
            sheet.histogram(row, 3, layer.modulation, max(1.0, float(layer.modulation.max())), "")
    save_figure(sheet.figure, path)


class _Sheet:
    """A figure with four places in a row for each layer; lengths are in inches from the top left corner."""

    def __init__(self, rows: int, aspect: float, title: str) -> None:
        self._map_height = min(_MAP_WIDTH * aspect, 1.6 * _MAP_WIDTH)
        self._row_height = _NAME + max(self._map_height + _CAPTION, 1.2)
        self._width = self._left(3) + _CHART_WIDTH + _MARGIN
        self._height = _HEADER + rows * self._row_height + _MARGIN
        self.figure = new_figure(self._width, self._height)
        self._write(_MARGIN, 0.12, title, _TITLE_PT, weight="bold")
        for column, heading in enumerate(_COLUMNS):
            self._write(self._left(column), 0.45, heading, _TEXT_PT)

    def name(self, row: int, layer: LayerOffsets, count: int) -> None:
        """The heading of a row."""
        kind = f"1 cell is {layer.pixels[0]:g} px" if layer.outside is not None else "per bin, mean over the RoIs"
        text = f"{layer.layer}: {kind}" if count else f"{layer.layer}: no RoI on this image"
        self._write(_MARGIN, self._top(row), text, _TEXT_PT)

    def map(self, row: int, column: int, image: np.ndarray, values: np.ndarray, unit: str) -> None:
        """The means over taps and groups on the image, or, of RoI pooling, those of the bins over the RoIs."""
        on_image = values.ndim == 4
        means = values.mean(axis=(2, 3) if on_image else 0)
        span = np.percentile(means, [1, 99]).tolist()
        if on_image:
            picture = draw_map(image, means, span, zoom=max(1.0, _SHORT_SIDE_PX / min(np.shape(image)[:2])))
        else:
            picture = draw_map(np.zeros((*means.shape, 3)), means, span, opacity=1.0, zoom=40)
        left, top = self._left(column), self._top(row) + _NAME
        axes = self._axes(left, top, _MAP_WIDTH, self._map_height)
        axes.imshow(picture, interpolation="antialiased")
        axes.set_anchor("NW")
        axes.set_axis_off()
        bar_top = top + self._map_height + 0.07
        low, high = (f"{value:.2g}{unit}" for value in span)
        self._write(left, bar_top - 0.03, low, _SMALL_PT, color=_FAINT_INK)
        bar = self._axes(left + 0.5, bar_top, 0.9, 0.08)
        bar.imshow(np.linspace(0, 1, 256)[None], cmap=strength_colormap(), aspect="auto")
        bar.set_axis_off()
        self._write(left + 1.46, bar_top - 0.03, high, _SMALL_PT, color=_FAINT_INK)

    def histogram(self, row: int, column: int, values: np.ndarray, limit: float, label: str) -> None:
        """How values are distributed from 0 to a limit; what is beyond counts in the last bar."""
        height = self._row_height - _NAME - _AXIS
        axes = self._axes(self._left(column), self._top(row) + _NAME, _CHART_WIDTH, height)
        counts, edges = np.histogram(np.clip(values, 0, limit), bins=30, range=(0, limit))
        axes.bar(edges[:-1], 100 * counts / values.size, np.diff(edges), align="edge", color=_BAR)
        axes.set_xlim(0, limit)
        axes.tick_params(labelsize=_SMALL_PT, color=_FAINT_INK, labelcolor=_FAINT_INK)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.locator_params(nbins=4)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_xlabel(label, fontsize=_SMALL_PT, color=_FAINT_INK, labelpad=1)

    def _left(self, column: int) -> float:
        pairs, second = divmod(column, 2)
        return _MARGIN + pairs * (_MAP_WIDTH + _CHART_WIDTH + 2 * _GAP) + second * (_MAP_WIDTH + _GAP + 0.1)

    def _top(self, row: int) -> float:
        return _HEADER + row * self._row_height

    def _axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        return self.figure.add_axes(
            (left / self._width, 1 - (top + height) / self._height, width / self._width, height / self._height)
        )

    def _write(self, x: float, y: float, text: str, size: float, *, color: str = _INK, **options: Any) -> None:
        x, y = x / self._width, 1 - y / self._height
        self.figure.text(x, y, text, size=size, color=color, ha="left", va="top", **font_of(text), **options)
