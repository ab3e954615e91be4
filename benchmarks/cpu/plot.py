"""The benchmark's findings as one picture."""

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.cases import BOTH, FORWARD
from benchmarks.cpu.conv_functions import COMPOSITE, DENSE, MATMUL, NATIVE
from benchmarks.cpu.detector import FROZEN, MDCONV, MDPOOL, REGULAR, TORCHVISION
from benchmarks.cpu.peers import NCNN, ONNXRUNTIME, OPENVINO
from benchmarks.cpu.roi_functions import MODEL_GARDEN, MODULATED, ONE_SAMPLE, ROI_ALIGN
from benchmarks.cpu.section import Section
from benchmarks.results import Group
from benchmarks.timing import ratio

Draw = Callable[[Axes], None]

_COLUMNS = 2
_PANEL_INCHES = (6.8, 4.8)
_PADDING_INCHES = 0.15
_BAR_WIDTH = 0.8
_LEGEND_TOP = -0.14
_LINE_OF_LABELS = 0.05  # of a panel's height
_MOST_ONE_LINE_LABELS = 3
# Titles of the sections with bars for forward, and forward and backward.
_CONVOLUTIONS = {"conv": "Deformable convolution", "groups": "With groups"}
# Ours are red; who is in several panels looks the same in all.
_COLORS = {
    NATIVE: "#c1272d",
    COMPOSITE: "#f0a0a0",
    ROI_ALIGN: "#c1272d",
    MODULATED: "#7d1518",
    ONE_SAMPLE: "#f0a0a0",
    MODEL_GARDEN: "#1f5a99",
    DENSE: "#1f5a99",
    MATMUL: "#8fb8de",
    ONNXRUNTIME: "#4d9a52",
    OPENVINO: "#a6d3a0",
    NCNN: "#2f6b3a",
    REGULAR: "#f0a0a0",
    MDCONV: "#c1272d",
    FROZEN: "#dd6a5c",
    MDPOOL: "#7d1518",
    TORCHVISION: "#1f5a99",
}
_OTHER_COLORS = ("#c1272d", "#1f5a99")
_LINES = ((NATIVE, FORWARD, "-"), (NATIVE, BOTH, "--"), (DENSE, FORWARD, "-"), (DENSE, BOTH, "--"))


def picture(sections: Sequence[Section]) -> bytes:
    """A PNG file of `figure`."""
    image = io.BytesIO()
    figure(sections).savefig(image, format="png", dpi=90)
    return image.getvalue()


def figure(sections: Sequence[Section]) -> Figure:
    """A panel for each group of measurements."""
    panels = [panel for section in sections for panel in _panels(section)]
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    drawn = Figure(figsize=(columns * _PANEL_INCHES[0], rows * _PANEL_INCHES[1]), layout="constrained")
    drawn.get_layout_engine().set(h_pad=_PADDING_INCHES, w_pad=_PADDING_INCHES)
    axes = drawn.subplots(rows, columns, squeeze=False).flat
    for draw, panel in zip(panels, axes, strict=False):
        draw(panel)
    for panel in axes[len(panels) :]:
        panel.set_axis_off()
    return drawn


def _panels(section: Section) -> list[Draw]:
    if section.name == "scaling":
        memory = section.extra["memory"]
        return [
            partial(_time_lines, groups=_about(section, "pixels"), title="Growing map", unit="pixels"),
            partial(_time_lines, groups=_about(section, "channels"), title="More channels", unit="channels"),
            partial(_speed_lines, groups=_about(section, "threads")),
            partial(_memory_lines, memory=memory),
        ]
    if section.name in _CONVOLUTIONS:
        return [
            partial(_bars, groups=groups, labels=_cases(groups), title=f"{_CONVOLUTIONS[section.name]}, {work}")
            for work in (FORWARD, BOTH)
            if (groups := [group for group in section.groups if group.work == work])
        ]
    if section.name == "roi":
        works = [group.work for group in section.groups]
        title = f"RoI pooling, {section.groups[0].case}"
        return [partial(_bars, groups=section.groups, labels=works, title=title)]
    if section.name == "step":
        return [partial(_bars, groups=section.groups, labels=_cases(section.groups), title="Training step")]
    if section.name == "detector":
        works = [group.work for group in section.groups]
        title = f"Mask R-CNN, {section.groups[0].case}"
        times = partial(_bars, groups=section.groups, labels=works, title=title)
        peaks = section.extra["peak_bytes"]
        known = None not in [peak for of_work in peaks.values() for peak in of_work.values()]
        return [times, *([partial(_memory_bars, peaks=peaks, title=f"{title}: peak memory")] if known else [])]
    raise ValueError(f"section must be one that there is a picture of. Received: {section.name!r}")


def _cases(groups: Sequence[Group]) -> list[str]:
    """A label for each, in lines where many stand side by side."""
    return [group.case.replace(", ", "\n") if len(groups) > _MOST_ONE_LINE_LABELS else group.case for group in groups]


def _about(section: Section, topic: str) -> list[Group]:
    return [group for group in section.groups if group.topic == topic]


def _bars(axes: Axes, groups: Sequence[Group], labels: Sequence[str], title: str) -> None:
    """A cluster of bars for each group, with quartiles."""
    milliseconds = [
        {
            name: tuple(1e3 * value for value in (series.median, *series.quartiles))
            for name, series in group.series.items()
        }
        for group in groups
    ]
    _clusters(axes, milliseconds, labels, "ms", title)


def _memory_bars(axes: Axes, peaks: Mapping[str, Mapping[str, int]], title: str) -> None:
    """A cluster of bars for each work."""
    megabytes = [{name: (peak / 1e6,) * 3 for name, peak in of_work.items()} for of_work in peaks.values()]
    _clusters(axes, megabytes, list(peaks), "MB", title)


def _clusters(
    axes: Axes,
    clusters: Sequence[Mapping[str, tuple[float, float, float]]],
    labels: Sequence[str],
    unit: str,
    title: str,
) -> None:
    """Clusters of bars: by contender the height of each, and from where to where it is uncertain."""
    contenders = list(dict.fromkeys(name for cluster in clusters for name in cluster))
    width = _BAR_WIDTH / len(contenders)
    for index, name in enumerate(contenders):
        left = -_BAR_WIDTH / 2 + (index + 0.5) * width
        positions = [position + left for position, cluster in enumerate(clusters) if name in cluster]
        heights, lower, upper = zip(*(cluster[name] for cluster in clusters if name in cluster), strict=True)
        errors = [
            [height - end for height, end in zip(heights, lower, strict=True)],
            [end - height for height, end in zip(heights, upper, strict=True)],
        ]
        color = _COLORS.get(name, _OTHER_COLORS[index % len(_OTHER_COLORS)])
        axes.bar(positions, heights, width, yerr=errors, label=name, color=color, error_kw={"lw": 0.8})
    axes.set_xticks(range(len(clusters)), labels)
    axes.set_ylabel(unit)
    _finish(axes, title, label_lines=1 + max(label.count("\n") for label in labels))


def _time_lines(axes: Axes, groups: Sequence[Group], title: str, unit: str) -> None:
    for name, work, style in _LINES:
        points = [(group.size, 1e3 * group.series[name].median) for group in groups if group.work == work]
        axes.plot(*zip(*points, strict=True), style, marker="o", ms=4, color=_COLORS[name], label=f"{name}, {work}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    _only_measured_ticks(axes, {group.size for group in groups})
    axes.set_xlabel(unit)
    axes.set_ylabel("ms")
    _finish(axes, title)


def _speed_lines(axes: Axes, groups: Sequence[Group]) -> None:
    by_key = {(group.work, group.size): group for group in groups}
    counts = sorted({group.size for group in groups})
    axes.plot(counts, counts, ":", color="grey", label="ideal")
    for name, work, style in _LINES:
        one = by_key[work, 1].series[name]
        speeds = [ratio(one, by_key[work, count].series[name]) for count in counts]
        axes.plot(counts, speeds, style, marker="o", ms=4, color=_COLORS[name], label=f"{name}, {work}")
    axes.set_xticks(counts)
    axes.set_xlabel("threads")
    axes.set_ylabel("speed relative to 1 thread")
    _finish(axes, "More threads")


def _memory_lines(axes: Axes, memory: Sequence[Mapping]) -> None:
    pixels = [entry["pixels"] for entry in memory]
    columns = [entry["column_bytes"] / 1e6 for entry in memory]
    axes.plot(pixels, columns, ":", color="grey", label="all columns at once")
    for key in memory[0]["workspace_bytes"]:
        used = [entry["workspace_bytes"][key] for entry in memory]
        if None in used:
            continue
        name, work = key.rsplit(", ", 1)
        style = "--" if work == BOTH else "-"
        # Less than can be told from nothing is drawn at the bottom: the axis is logarithmic.
        shown = [max(count, 1e5) / 1e6 for count in used]
        axes.plot(pixels, shown, style, marker="o", ms=4, color=_COLORS[name], label=key)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _only_measured_ticks(axes, set(pixels))
    axes.set_xlabel("pixels")
    axes.set_ylabel("MB on top of inputs and results")
    _finish(axes, "Peak memory")


def _only_measured_ticks(axes: Axes, sizes: set[int]) -> None:
    axes.set_xticks(sorted(sizes), map(str, sorted(sizes)))
    axes.set_xticks([], minor=True)


def _finish(axes: Axes, title: str, label_lines: int = 1) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    # Below the panel, where no line or bar can be in the way.
    top = _LEGEND_TOP - _LINE_OF_LABELS * (label_lines - 1)
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="upper left", bbox_to_anchor=(0, top))
