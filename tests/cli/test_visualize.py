"""`tf-dcnv2 visualize` on detectors that have learnt nothing."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.detectors import tiny_config
from tests.support.sizes import SIZE
from tf_dcnv2 import visualization
from tf_dcnv2.analysis import ConvNode
from tf_dcnv2.visualization import is_figure
from tf_dcnv2_cli import main
from tf_dcnv2_cli.places import background_box, places_among


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph of 96 x 128 pixels."""
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, [96, 128, 3], np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def regular_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regular")
    tiny_config("fpn", "none", **{"box_head.score_threshold": 0.0}).build((2, 5, 11, 17)).save(folder / "best.keras")
    return folder


def visualize(figure, runs, photo, output, *options):
    """The exit status, also where argparse leaves by SystemExit."""
    runs = [str(run) for run in (runs if isinstance(runs, list) else [runs])]
    try:
        return main(["visualize", figure, *runs, "--image", str(photo), "--output", str(output), *SIZE, *options])
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture
def asked_for(monkeypatch) -> list:
    """The nodes, and boxes of objects, that pictures are asked of, in place of the pictures."""
    asked = []

    def panels(detector, image, node, *, box=None, **_):
        asked.append((node, box))
        return [visualization.Panel(np.zeros([8, 8, 3], np.uint8), "caption")]

    monkeypatch.setattr(visualization, "support_panels", panels)
    monkeypatch.setattr(visualization, "roi_panels", panels)
    return asked


def test_nodes_points_and_boxes_choose_places_of_every_run(run_folder, regular_run, photo, tmp_path, capsys, asked_for):
    places = ["--node", "C4:2,3", "--point", "20,30", "--box", "10,10,60,70", "0,60,96,120", "--level", "C4"]
    # The networks see the image at half its size; a cell of C4 has 16 pixels there.
    options = [*places, "--short-side", "48", "--max-side", "64", "--titles", "ours", "regular"]
    assert visualize("support", [run_folder, regular_run], photo, tmp_path / "out.png", *options) == 0
    expected = [
        (ConvNode("C4", 2, 3), None),
        # The point lies in the first box, which therefore is no place of its own.
        (ConvNode("C4", 1, 1), (5, 5, 30, 35)),
        (ConvNode("C4", 1, 3), (0, 30, 48, 60)),
    ]
    assert asked_for == [*expected, *expected]
    titles = ("C4: row 2, column 3", "y 20, x 30", "box 2")
    lines = [f"node       {run}, {title}: " for run in ("ours", "regular") for title in titles]
    found = re.findall("^node .*$", capsys.readouterr().out, re.MULTILINE)
    assert all(line.startswith(start) for line, start in zip(found, lines, strict=True))


def test_without_a_choice_objects_and_background_are_looked_at(run_folder, photo, tmp_path, capsys, asked_for):
    assert visualize("support", run_folder, photo, tmp_path / "out.svg") == 0
    printed = capsys.readouterr().out
    for title in ("small object: ", "large object: ", "background"):
        assert re.search(rf"^node +\S+, {title}.*caption$", printed, re.MULTILINE)
    (_, small), (_, large), (_, background) = asked_for
    assert np.prod(np.subtract(small[2:], small[:2])) < np.prod(np.subtract(large[2:], large[:2]))
    assert background is None
    assert is_figure(tmp_path / "out.svg")


def test_annotations_choose_the_rois(run_folder, synthetic, tmp_path, capsys, asked_for):
    images, annotations = synthetic
    content = json.loads(Path(annotations).read_text())
    image = max(content["images"], key=lambda one: sum(a["image_id"] == one["id"] for a in content["annotations"]))
    photo = f"{images}/{image['file_name']}"
    assert visualize("rois", run_folder, photo, tmp_path / "out.png", "--annotations", str(annotations)) == 0
    mine = [annotation for annotation in content["annotations"] if annotation["image_id"] == image["id"]]
    boxes = [(y, x, y + height, x + width) for x, y, width, height in (annotation["bbox"] for annotation in mine)]
    (small, _), (large, _), (background, _) = asked_for
    for roi in (small, large):
        assert min(abs(np.subtract(box, roi.box)).max() for box in boxes) < 0.01
    assert background.box[0] >= 0 and background.box[2] <= image["height"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    found = re.findall(r"(?:small|large) object: (\w+)", capsys.readouterr().out)
    assert len(found) == 2 and set(found) <= {names[annotation["category_id"]] for annotation in mine}


def test_numbers_are_told_with_the_region_and_its_error(run_folder, photo, tmp_path, capsys):
    options = ["--box", "10,10,60,70", "--bound", "0.9", "--titles", "ours"]
    assert visualize("rois", run_folder, photo, tmp_path / "out.png", *options) == 0
    shares = r"effective bin locations \d+ % inside the box \| effective receptive field \d+ % inside the box"
    region = r"error-bounded saliency region error 0\.\d+ < 0\.9; \S+ times the box"
    assert re.search(rf"^node +ours, box: {shares} \| {region}$", capsys.readouterr().out, re.MULTILINE)
    assert is_figure(tmp_path / "out.png")


def test_offsets_are_told_layer_by_layer(run_folder, photo, tmp_path, capsys):
    assert visualize("offsets", run_folder, photo, tmp_path / "out.png", "--layers", "conv5") == 0
    printed = capsys.readouterr().out
    # A new layer moves nothing and halves everything.
    lines = re.findall(r"^ +conv\S+ +mean +0\.00 .* modulation 0\.50 \(0\.50 to 0\.50\)$", printed, re.MULTILINE)
    assert len(lines) == 1 and "conv5" in lines[0]
    assert is_figure(tmp_path / "out.png")


def test_detections_are_drawn_and_counted(run_folder, photo, tmp_path, capsys):
    output = tmp_path / "out.png"
    visualization.save_panels([[visualization.Panel(np.zeros([8, 8, 3], np.uint8))]], output)  # ours is replaced
    assert visualize("detections", run_folder, photo, output, "--min-score", "0.1") == 0
    count = re.search(r"^found .* (\d+) objects with a score of at least 0\.1$", capsys.readouterr().out, re.MULTILINE)
    assert int(count[1]) > 0
    assert Image.open(output).width > 500


@pytest.mark.parametrize(
    ("figure", "options", "status", "message"),
    [
        ("support", ["--node", "C4:99,0"], 2, r"node must be a cell of C4, which has \d+ rows"),
        ("support", ["--point", "5,5", "--level", "C9"], 2, r"layer must name a feature map .*C2, C3, .*'C9'"),
        ("support", ["--node", "C4:1,1", "--layers", "conv9"], 2, "layers must choose convolutions"),
        ("support", ["--point", "5,500"], 2, "--point must lie on the image of 96 x 128 pixels"),
        ("rois", ["--box", "5,5,50,500"], 2, "--box must lie on the image of 96 x 128 pixels"),
        ("offsets", ["--layers", "conv9"], 2, "has no deformable layer like conv9, but conv4"),
    ],
)
def test_a_place_or_layer_that_does_not_exist_costs_one_line(
    figure, options, status, message, run_folder, photo, tmp_path, capsys
):
    assert visualize(figure, run_folder, photo, tmp_path / "out.png", *options) == status
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(
    ("figure", "options", "message"),
    [
        ("support", ["--node", "C4"], "argument --node: invalid LEVEL:ROW,COL value: 'C4'"),
        ("rois", ["--box", "30,40,20,50"], "argument --box: invalid Y1,X1,Y2,X2 value"),
        ("rois", ["--level", "C4"], "--level is for support, not for rois"),
        ("detections", ["--no-saliency"], "--no-saliency is for support and rois, not for detections"),
        ("support", ["--layers", "conv(4"], "--layers is no regular expression"),
        ("support", ["--bound", "1.5"], "--bound must be between 0 and 1"),
        ("support", ["--titles", "one", "two"], "--titles: 1 are needed"),
        ("support", ["--annotations", "x.json", "--node", "C4:1,1"], "leave --node, --point and --box out"),
        ("support", ["--output", "out.jpg"], r"--output must end in \.png or \.svg"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_before_anything_is_loaded(
    figure, options, message, tmp_path, photo, capsys
):
    assert visualize(figure, tmp_path / "no run", photo, tmp_path / "out.png", *options) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_detector_without_deformable_layers_has_no_offsets_to_draw(regular_run, photo, tmp_path, capsys):
    assert visualize("offsets", regular_run, photo, tmp_path / "out.png") == 2
    assert "has no deformable layers" in capsys.readouterr().err


def test_an_unreadable_image_is_named(run_folder, tmp_path, capsys):
    (tmp_path / "notes.jpg").write_text("no image")
    for name in ("notes.jpg", "missing.jpg"):
        assert visualize("detections", run_folder, tmp_path / name, tmp_path / "out.png") == 2
        error = capsys.readouterr().err
        assert name in error and error.count("\n") == 1


def test_annotations_without_the_image_are_refused(run_folder, synthetic, photo, tmp_path, capsys):
    assert visualize("rois", run_folder, photo, tmp_path / "out.png", "--annotations", str(synthetic[1])) == 2
    assert "has 0 images of the name photo.png" in capsys.readouterr().err


def test_photographs_are_never_overwritten(run_folder, photo, tmp_path, capsys):
    before = photo.read_bytes()
    link, other = tmp_path / "link.png", tmp_path / "other.png"
    link.symlink_to(photo)
    Image.new("RGB", (8, 8)).save(other)
    for output, message in ((photo, "would overwrite the input"), (link, "same file"), (other, "is not a figure")):
        assert visualize("detections", run_folder, photo, output) == 2
        assert message in capsys.readouterr().err
    assert photo.read_bytes() == before and link.is_symlink()


def test_whole_objects_are_preferred_and_the_background_is_far_from_all():
    boxes = [(0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 40.0, 40.0), (5.0, 45.0, 50.0, 95.0), (60.0, 10.0, 75.0, 20.0)]
    small, large, background = places_among([(box, str(n)) for n, box in enumerate(boxes)], (100, 100))
    assert (small.title, small.box, small.point) == ("small object: 3", boxes[3], (67.5, 15.0))
    assert (large.title, large.box) == ("large object: 2", boxes[2])
    y, x = background.point
    assert y > 60 and x > 40 and background.box is None
    y1, x1, y2, x2 = background_box([small, large, background], (100, 100))
    assert (y2 - y1, x2 - x1) == (30, 30) and 0 <= y1 < y < y2 <= 100 and 0 <= x1 < x < x2 <= 100


def test_an_image_without_objects_has_a_background():
    [place] = places_among([], (100, 200))
    assert place.point == pytest.approx((50, 100), abs=3)
