"""Pictures in rows and columns, and pictures of offsets, as files."""

from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tf_dcnv2.analysis import LayerOffsets
from tf_dcnv2.visualization import Panel, figures, is_figure, save_offsets, save_panels

LONG = "a title that is much too long for the column that it stands above, and goes on for several lines"
COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30))
OPTIONS = {
    "row_titles": ("first\nrow", "second row"),
    "column_titles": ("left", LONG),
    "groups": [("one run", 1), (f"another run, {LONG}", 1)],
    "legend": {"strength": "strength", "node": "node", "box": "object"},
    "note": f"A note. {LONG}",
}


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    """Figures of a quarter of their resolution, which take less time."""
    monkeypatch.setattr(figures, "_DPI", 50)


def panels(height: int = 60, width: int = 80) -> list[list[Panel]]:
    """Two columns of two pictures in colours of their own."""
    pictures = [Panel(np.full((height, width, 3), color, np.uint8), f"{LONG} {color}") for color in COLORS]
    return [pictures[:2], pictures[2:]]


def centres(path, color) -> tuple[float, float]:
    """Where the pixels of a colour lie on average, as shares of the picture's height and width."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    rows, columns = np.nonzero((abs(pixels.astype(int) - color) < 6).all(axis=-1))
    return rows.mean() / pixels.shape[0], columns.mean() / pixels.shape[1]


def test_columns_stand_side_by_side_and_their_rows_below_each_other(tmp_path):
    save_panels(panels(), tmp_path / "new folder" / "figure.png", **OPTIONS)
    top_left, bottom_left, top_right, bottom_right = (centres(tmp_path / "new folder/figure.png", c) for c in COLORS)
    assert top_left[0] == pytest.approx(top_right[0], abs=0.01) and bottom_left[0] > top_left[0] + 0.1
    assert top_left[1] == pytest.approx(bottom_left[1], abs=0.01) and bottom_right[1] > bottom_left[1] + 0.1


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (20, 160)])
def test_nothing_is_clipped_at_the_border(shape, tmp_path):
    for options in ({}, OPTIONS):
        save_panels(panels(*shape), tmp_path / "figure.png", **options)
        pixels = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB"))
        for border in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (border == 255).all()


def test_an_svg_holds_every_picture(tmp_path):
    save_panels(panels(), tmp_path / "figure.svg", **{**OPTIONS, "legend": None})
    root = ElementTree.parse(tmp_path / "figure.svg").getroot()
    assert root.tag.endswith("svg")
    assert len(root.findall(".//{*}image")) == 4


@pytest.mark.parametrize("extension", ["png", "svg"])
def test_a_figure_is_known_as_ours_and_is_the_same_file_each_time(extension, tmp_path):
    first, second = tmp_path / f"first.{extension}", tmp_path / f"second.{extension}"
    for path in (first, second):
        save_panels(panels(), path, **OPTIONS)
    assert first.read_bytes() == second.read_bytes()
    assert is_figure(first)


def test_other_peoples_files_are_not_ours(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    (tmp_path / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "notes.png").write_text("no picture")
    assert not any(is_figure(path) for path in [*tmp_path.iterdir(), tmp_path / "missing.png"])


def test_titles_in_other_scripts_are_written_without_complaint(tmp_path, recwarn):
    save_panels(panels(), tmp_path / "figure.png", column_titles=["эритроцит", "κύτταρο"])
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match="columns is empty"):
        save_panels([], tmp_path / "figure.png")
    with pytest.raises(ValueError, match="column_titles must be for 2. Received: 1"):
        save_panels(panels(), tmp_path / "figure.png", column_titles=["one"])
    with pytest.raises(ValueError, match=r"\.png or \.svg"):
        save_panels(panels(), tmp_path / "figure.jpg")
    with pytest.raises(ValueError, match="no deformable layers"):
        save_offsets([], np.zeros([60, 80, 3]), tmp_path / "figure.png")
    assert not list(tmp_path.iterdir())


def test_offsets_of_convolutions_and_of_roi_pooling_are_drawn(rng, tmp_path):
    convolution = LayerOffsets(
        "conv",
        rng.normal(size=[6, 8, 1, 9, 2]),
        rng.uniform(size=[6, 8, 1, 9]),
        np.zeros([6, 8, 1, 9], bool),
        (8.0, 8.0),
    )
    pooling = LayerOffsets("pool", rng.normal(size=[5, 7, 7, 2]), None, None, (1.0, 1.0))
    nowhere = LayerOffsets("empty", np.zeros([0, 7, 7, 2]), np.zeros([0, 7, 7]), None, (1.0, 1.0))
    constant = convolution._replace(offsets=np.zeros([6, 8, 1, 9, 2]), modulation=np.full([6, 8, 1, 9], 0.5))
    save_offsets([convolution, pooling, nowhere, constant], np.full([60, 80, 3], 128.0), tmp_path / "offsets.png")
    assert is_figure(tmp_path / "offsets.png")
    pixels = np.asarray(Image.open(tmp_path / "offsets.png").convert("RGB"))
    for border in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
        assert (border == 255).all()
