import re
from pathlib import Path

import pytest

from tf_dcnv2_cli import main

SMALL = ["--short-side", "96", "--max-side", "128", "--samples", "3"]


@pytest.fixture(scope="module")
def inspected(records, tmp_path_factory):
    """The page of a small data set, and what was printed."""
    page = tmp_path_factory.mktemp("inspected") / "data.html"
    assert main(["inspect-data", records, *SMALL, "--scale-range", "0.7", "1.4", "--output", str(page)]) == 0
    return page


def test_the_terminal_tells_classes_anchors_and_problems(records, tmp_path, capsys):
    assert main(["inspect-data", records, *SMALL, "--output", str(tmp_path / "data.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(re.match(r"data +6 images", line) for line in lines)
    assert any(re.search(r"\ball +17 +5 +1 ", line) for line in lines)
    assert any(line.startswith("anchors    preset: sizes 24, 64, 128") for line in lines)
    assert any(re.match(r"problem +\d+ x class of fewer than 10 boxes: ", line) for line in lines)


def test_the_page_needs_nothing_but_itself(inspected):
    text = inspected.read_text()
    assert text.count("<figure>") == text.count('src="data:image/png;base64,') == 3
    assert not re.search(r"<script|<link|https?://|url\(|@import", text)


def test_pictures_are_captioned_with_the_file_and_what_the_network_gets(inspected):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", inspected.read_text())
    assert all(re.fullmatch(r"\S+\.jpg: \d+x\d+ pixels in (96|128)x96, \d+ objects", text) for text in captions)


def test_only_an_earlier_page_is_overwritten(records, inspected, tmp_path, capsys):
    assert main(["inspect-data", records, *SMALL, "--output", str(inspected)]) == 0
    foreign = tmp_path / "page.html"
    foreign.write_text("<html>mine</html>")
    assert main(["inspect-data", records, *SMALL, "--output", str(foreign)]) == 2
    assert "exists and is not an earlier page of inspect-data" in capsys.readouterr().err
    assert foreign.read_text() == "<html>mine</html>"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "faster_rcnn_smal"], "faster_rcnn_small"),
        (["--set", "rpn.anchor_size=[1]"], "Did you mean 'rpn.anchor_sizes'"),
        (["--short-side", "2000"], "short_side must be in (0, max_side]"),
    ],
)
def test_wrong_settings_are_usage_errors(records, arguments, message, capsys):
    assert main(["inspect-data", records, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_annotations_and_images_are_inspected_as_their_records_are(synthetic, records, tmp_path, capsys):
    assert main(["inspect-data", records, *SMALL, "--output", str(tmp_path / "records.html")]) == 0
    expected = capsys.readouterr().out.splitlines()
    annotations = tmp_path / "mine.json"
    annotations.write_text(Path(synthetic.annotations_file).read_text())
    command = ["inspect-data", str(annotations), "--images", synthetic.images_dir, *SMALL]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"records    {tmp_path}/mine.inspection.records/mine-")
    assert lines[1:-1] == expected[:-1]
    assert lines[-1] == f"page       {tmp_path}/mine.inspection.html"
    [shard] = tmp_path.rglob("*.tfrecord")
    written = shard.stat().st_mtime_ns
    assert main(command) == 0
    assert shard.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{annotations}"], "is an annotation file, no set of records: give the folder of its images by --images"),
        (["{annotations}", "{annotations}", "--images", "{images}"], "Received: 1 for 2"),
        (["{annotations}", "--images", "{images}", "--output", "{annotations}"], "would overwrite the input"),
    ],
)
def test_annotations_that_cannot_be_inspected_are_usage_errors(synthetic, arguments, message, capsys):
    before = Path(synthetic.annotations_file).read_text()
    places = {"annotations": synthetic.annotations_file, "images": synthetic.images_dir}
    assert main(["inspect-data", *(argument.format(**places) for argument in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert Path(synthetic.annotations_file).read_text() == before
