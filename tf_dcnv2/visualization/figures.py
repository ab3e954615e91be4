"""Figures: pictures in rows and columns with titles and captions, as PNG or SVG."""

import io
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tf_dcnv2._core.atomic_files import write_atomically
from tf_dcnv2.fonts import font_for
from tf_dcnv2.visualization.drawing import BOX_COLOR, NODE_COLOR, strength_colormap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "is_figure", "save_panels"]

_FORMATS = (".png", ".svg")
# Marks the figures of this package, which may be replaced, unlike other people's files.
_CREATOR = "tf-dcnv2 visualize"
_INK, _FAINT_INK, _FRAME = "#1a1a1e", "#55555c", "#c8c8ce"

# Lengths in inches, sizes of type in points.
_PANELS, _NARROWEST, _GAP, _GROUP_GAP, _MARGIN = (4.6, 3.4, 2.4), 1.5, 0.08, 0.3, 0.14
_TITLE_PT, _TEXT_PT, _CAPTION_PT = 10.5, 8.5, 7.0
_LINE_HEIGHT = 1.35
_DPI = 200


class Panel(NamedTuple):
    """One picture of a figure.

    Attributes:
        picture: `(H, W, 3)` uint8.
        caption: what is written below it.
    """

    picture: np.ndarray
    caption: str = ""


def save_panels(
    columns: Sequence[Sequence[Panel]],
    path: str | os.PathLike,
    *,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    groups: Sequence[tuple[str, int]] = (),
    legend: Mapping[str, str] | None = None,
    note: str = "",
) -> None:
    """Arranges pictures in a figure, as the paper's figures 1 and 2 do, and writes it whole or not at all.

    Args:
        columns: the panels of each column, from the top; the first of all columns make the first row, and so on.
        path: the file, `.png` or `.svg`. Makes the folder.
        row_titles: a title at the left of each row.
        column_titles: a title above each column.
        groups: title and number of columns that belong together, from the left, such as those of one detector.
        legend: what the marks mean, of "strength" (the colour scale), "node" and "box".
        note: a sentence at the bottom.

    Raises:
        ValueError: there are no panels, the numbers of titles do not fit, or the file is neither PNG nor SVG.
        OSError: the file cannot be written.

    Example:
        >>> columns = [support_panels(detector, image, node_at(detector, image, "C5", point)) for point in points]
        >>> save_panels(columns, "support.png", row_titles=SUPPORT_ROWS, legend={"node": "node"})
    """
    _check(columns, row_titles, column_titles, groups)
    sheet = _Sheet(columns, row_titles, column_titles, groups, bool(legend), note)
    for column, panels in enumerate(columns):
        for row, panel in enumerate(panels):
            sheet.add_panel(row, column, panel)
    sheet.add_titles(row_titles, column_titles, groups)
    if legend:
        sheet.add_legend(legend)
    if note:
        sheet.add_note()
    save_figure(sheet.figure, path)


def save_figure(figure: "Figure", path: str | os.PathLike) -> None:
    """Writes a matplotlib figure as PNG or SVG, marked as one of this package."""
    write_atomically(path, figure_content(figure, figure_format(path)))


def figure_content(figure: "Figure", extension: str) -> bytes:
    """The content of the file that `save_figure` writes with an extension, ".png" or ".svg"."""
    from matplotlib import rc_context

    buffer = io.BytesIO()
    # The same figure gives the same file: no date, and no random names inside the SVG.
    metadata = {"Creator": _CREATOR, **({"Date": None} if extension == ".svg" else {"Software": None})}
    with rc_context({"svg.hashsalt": "tf-dcnv2"}):
        figure.savefig(buffer, format=extension[1:], dpi=_DPI, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def figure_format(path: str | os.PathLike) -> str:
    """The extension of a figure's file, in lower case.

    Raises:
        ValueError: it is none that figures are written with.
    """
    extension = Path(path).suffix.lower()
    if extension not in _FORMATS:
        raise ValueError(f"A figure is written as {' or '.join(_FORMATS)}. Received: {os.fspath(path)!r}")
    return extension


def is_figure(path: str | os.PathLike) -> bool:
    """Whether a file was written by `save_panels` or `save_offsets`, and may be replaced."""
    from PIL import Image

    try:
        if Path(path).suffix.lower() == ".svg":
            with open(path, "rb") as file:
                return f"<dc:title>{_CREATOR}</dc:title>".encode() in file.read(4000)
        with Image.open(path) as image:
            return image.info.get("Creator") == _CREATOR
    except OSError:
        return False


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of a size in inches, which belongs to no window and no list of figures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def font_of(text: str) -> dict:
    """The arguments with which matplotlib writes a text in a font that has its characters."""
    from matplotlib.font_manager import FontProperties

    path = getattr(font_for(" ".join(text.split()), 10), "path", None)
    return {"fontproperties": FontProperties(fname=path)} if isinstance(path, str) else {}


class _Sheet:
    """A figure with a place for every panel and title; lengths are in inches from the top left corner."""

    def __init__(
        self,
        columns: Sequence[Sequence[Panel]],
        row_titles: Sequence[str],
        column_titles: Sequence[str],
        groups: Sequence[tuple[str, int]],
        has_legend: bool,
        note: str,
    ) -> None:
        aspect = max(panel.picture.shape[0] / panel.picture.shape[1] for panels in columns for panel in panels)
        widest = _PANELS[min(len(columns), len(_PANELS)) - 1]  # few columns have more room each
        self._width = max(_NARROWEST, widest / max(1.0, aspect))
        self._height = min(self._width * aspect, 2 * widest)
        self._column_titles = [_wrapped(title, self._width, _TEXT_PT) for title in column_titles]
        self._captions = [[_wrapped(panel.caption, self._width, _CAPTION_PT) for panel in panels] for panels in columns]
        self._row_titles = row_titles

        starts = {sum(size for _, size in groups[:number]) for number in range(1, len(groups))}
        self._lefts, left = [], _MARGIN + (_lines_high(_most_lines(row_titles), _TEXT_PT) + 0.1 if row_titles else 0)
        for column in range(len(columns)):
            left += _GROUP_GAP - _GAP if column in starts else 0
            self._lefts.append(left)
            left += self._width + _GAP
        self._total_width = left - _GAP + _MARGIN
        spans = _spans(self._lefts, self._width, groups)
        self._groups = [(_wrapped(title, span[1] - span[0], _TITLE_PT), span) for (title, _), span in spans]

        top = _MARGIN
        self._groups_top = top
        if groups:
            top += _lines_high(_most_lines([title for title, _ in self._groups]), _TITLE_PT) + 0.12
        if column_titles:
            top += _lines_high(_most_lines(self._column_titles), _TEXT_PT) + 0.05
        self._tops = []
        for row in range(max(map(len, columns))):
            self._tops.append(top)
            captions = [column[row] for column in self._captions if row < len(column) and column[row]]
            top += self._height + (_lines_high(_most_lines(captions), _CAPTION_PT) + 0.07 if captions else 0) + _GAP
        self._legend_top = top + 0.08
        top += 0.32 if has_legend else 0
        self._note = _wrapped(note, self._total_width - 2 * _MARGIN, _CAPTION_PT)
        self._note_top = top + 0.04
        top += _lines_high(_most_lines([self._note]), _CAPTION_PT) + 0.04 if note else 0
        self._total_height = top - _GAP + _MARGIN
        self.figure = new_figure(self._total_width, self._total_height)

    def axes(self, left: float, top: float, width: float, height: float) -> "Axes":
        """Axes without ticks in a rectangle of the sheet."""
        rectangle = (
            left / self._total_width,
            1 - (top + height) / self._total_height,
            width / self._total_width,
            height / self._total_height,
        )
        axes = self.figure.add_axes(rectangle)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def write(self, x: float, y: float, text: str, size: float, *, color: str = _INK, **options: Any) -> float:
        """Text at a place of the sheet; returns its width."""
        written = self.figure.text(
            x / self._total_width,
            1 - y / self._total_height,
            text,
            color=color,
            linespacing=_LINE_HEIGHT * 0.85,
            **font_of(text),
            **{"size": size, "ha": "center", "va": "top", **options},
        )
        return written.get_window_extent().width / self.figure.dpi

    def add_panel(self, row: int, column: int, panel: Panel) -> None:
        left, top = self._lefts[column], self._tops[row]
        axes = self.axes(left, top, self._width, self._height)
        axes.imshow(panel.picture, interpolation="lanczos", interpolation_stage="rgba")
        axes.set_anchor("N")
        height = min(self._height, self._width * panel.picture.shape[0] / panel.picture.shape[1])
        self.write(
            left + self._width / 2, top + height + 0.04, self._captions[column][row], _CAPTION_PT, color=_FAINT_INK
        )

    def add_titles(
        self, row_titles: Sequence[str], column_titles: Sequence[str], groups: Sequence[tuple[str, int]]
    ) -> None:
        from matplotlib.lines import Line2D

        for title, (left, right) in self._groups:
            self.write((left + right) / 2, self._groups_top, title, _TITLE_PT, weight="bold")
            y = 1 - (self._groups_top + _lines_high(1 + title.count("\n"), _TITLE_PT) + 0.04) / self._total_height
            ends = [left / self._total_width, right / self._total_width]
            self.figure.add_artist(Line2D(ends, [y, y], color=_FRAME, linewidth=0.8))
        for left, title in zip(self._lefts, self._column_titles, strict=False):
            self.write(left + self._width / 2, self._tops[0] - 0.05, title, _TEXT_PT, va="bottom")
        for top, title in zip(self._tops, row_titles, strict=False):
            self.write(_MARGIN, top + self._height / 2, title, _TEXT_PT, rotation=90, ha="left", va="center")

    def add_legend(self, legend: Mapping[str, str]) -> None:
        """The colour scale and the marks, from the left."""
        left, top = self._lefts[0], self._legend_top
        for mark, meaning in legend.items():
            if mark == "strength":
                axes = self.axes(left, top + 0.03, 1.1, 0.1)
                axes.imshow(np.linspace(0, 1, 256)[None], cmap=strength_colormap(), aspect="auto")
                left += 1.1
            else:
                axes = self.axes(left, top, 0.2, 0.16)
                axes.set_xlim(0, 0.2)
                axes.set_ylim(0, 0.16)
                marker, color = ("o", NODE_COLOR) if mark == "node" else ("s", BOX_COLOR)
                face = tuple(part / 255 for part in color)
                axes.plot(0.1, 0.08, marker, color=face, markersize=7, markeredgecolor=_INK, clip_on=False)
                left += 0.2
            left += 0.06
            left += self.write(left, top + 0.08, meaning, _CAPTION_PT, ha="left", va="center", color=_FAINT_INK) + 0.3

    def add_note(self) -> None:
        self.write(self._lefts[0], self._note_top, self._note, _CAPTION_PT, ha="left", color=_FAINT_INK)


def _check(
    columns: Sequence[Sequence[Panel]],
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    groups: Sequence[tuple[str, int]],
) -> None:
    if not any(columns):
        raise ValueError("columns is empty: there is nothing to save.")
    for name, titles, count in (
        ("row_titles", len(row_titles), max(map(len, columns))),
        ("column_titles", len(column_titles), len(columns)),
        ("groups", sum(size for _, size in groups), len(columns)),
    ):
        if titles not in (0, count):
            raise ValueError(f"{name} must be for {count}. Received: {titles}")


def _spans(
    lefts: Sequence[float], width: float, groups: Sequence[tuple[str, int]]
) -> list[tuple[tuple[str, int], tuple[float, float]]]:
    """Each group with where it begins and ends."""
    spans, first = [], 0
    for group in groups:
        spans.append((group, (lefts[first], lefts[first + group[1] - 1] + width)))
        first += group[1]
    return spans


def _wrapped(text: str, width: float, size: float) -> str:
    """Text in lines that fit a width."""
    characters = max(8, int(width / _text_width("n", size)))
    return "\n".join(part for line in text.split("\n") for part in textwrap.wrap(line, characters) or [""])


def _text_width(text: str, size: float) -> float:
    # DejaVu Sans is 0.6 em wide on average.
    return len(text) * 0.6 * size / 72


def _most_lines(texts: Sequence[str]) -> int:
    return max((1 + text.count("\n") for text in texts), default=0)


def _lines_high(lines: int, size: float) -> float:
    return lines * size * _LINE_HEIGHT / 72
