import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.cases import BOTH, FORWARD
from benchmarks.cpu import plot
from benchmarks.cpu.conv_functions import DENSE, NATIVE
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


def test_a_section_that_has_no_picture_is_refused():
    with pytest.raises(ValueError, match="Received: 'nonsense'"):
        plot.figure([section("nonsense", ["a case"])])
