import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.cases import BOTH, FORWARD, STEP
from benchmarks.cpu import plot
from benchmarks.cpu.conv_functions import DENSE, NATIVE
from benchmarks.cpu.detector import MDCONV, MDPOOL, REGULAR, TORCHVISION
from benchmarks.cpu.section import Section
from benchmarks.cpu.sizes import FULL
from benchmarks.results import Group
from benchmarks.timing import Series


def section(name: str, cases: list[str]) -> Section:
    times = {NATIVE: Series((0.02, 0.03)), DENSE: Series((0.01,))}
    return Section(name, [Group(work, case, times) for work in (FORWARD, BOTH) for case in cases], [], [])


@pytest.mark.parametrize(
    ("name", "cases", "title"),
    [("conv", FULL.conv, "Deformable convolution"), ("groups", FULL.groups, "With groups")],
)
def test_every_case_has_bars_under_a_title_of_its_section_and_a_label_that_can_be_read(name, cases, title):
    figure = plot.figure([section(name, list(map(str, cases)))])
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title(loc="left") for axes in figure.axes] == [f"{title}, {FORWARD}", f"{title}, {BOTH}"]
    for axes in figure.axes:
        labels = axes.get_xticklabels()
        assert [label.get_text().replace("\n", ", ") for label in labels] == list(map(str, cases))
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
        assert not any(box.overlaps(axes.get_legend().get_window_extent()) for box in boxes)


def detector_section(peak: int | None) -> Section:
    series = {name: Series((1.0, 1.2)) for name in (REGULAR, MDCONV, MDPOOL, TORCHVISION)}
    groups = [Group(work, str(FULL.detector), series) for work in (FORWARD, STEP)]
    peaks = {group.work: dict.fromkeys(series, peak) for group in groups}
    return Section("detector", groups, [], [], {"peak_bytes": peaks})


def test_detectors_have_bars_of_time_and_of_memory_in_the_same_colours():
    figure = plot.figure([detector_section(peak=2_000_000_000)])
    FigureCanvasAgg(figure).draw()
    times, memory = figure.axes
    assert (times.get_ylabel(), memory.get_ylabel()) == ("ms", "MB")
    assert [bar.get_height() for bar in times.patches] == [pytest.approx(1100)] * 8
    assert [bar.get_height() for bar in memory.patches] == [2000] * 8
    colors = [[bar.get_facecolor() for bar in axes.patches] for axes in figure.axes]
    assert colors[0] == colors[1] and len(set(colors[0])) == 4
    for axes in figure.axes:
        assert [label.get_text() for label in axes.get_xticklabels()] == [FORWARD, STEP]
        legend = axes.get_legend().get_window_extent()
        assert not any(label.get_window_extent().overlaps(legend) for label in axes.get_xticklabels())
        assert axes.get_window_extent().x0 <= legend.x0 and legend.x1 <= axes.get_window_extent().x1


def test_memory_that_no_system_tells_has_no_bars():
    (times,) = plot.figure([detector_section(peak=None)]).axes
    assert times.get_ylabel() == "ms"


def test_a_section_that_has_no_picture_is_refused():
    with pytest.raises(ValueError, match="Received: 'nonsense'"):
        plot.figure([section("nonsense", ["a case"])])
