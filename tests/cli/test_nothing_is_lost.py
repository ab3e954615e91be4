"""Work and files that the commands must not lose, and what they must not pass over in silence."""

import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.sizes import SIZE
from tf_dcnv2.data import make_synthetic_coco
from tf_dcnv2.evaluation import coco as evaluation
from tf_dcnv2_cli import main
from tf_dcnv2_cli.trained import load_trained


@pytest.fixture
def photos(tmp_path):
    """Three photographs, the second of which is damaged."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (64, 48), (90, 60, 30)).save(folder / f"{name}.jpg")
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:200])
    return folder


@pytest.fixture
def renamed_run(run_folder, tmp_path):
    """The run of `run_folder` with other names for its classes."""

    def make(names):
        folder = tmp_path / "renamed"
        folder.mkdir()
        (folder / "best.keras").write_bytes((run_folder / "best.keras").read_bytes())
        categories = [{"id": key, "name": name} for key, name in names.items()]
        (folder / "config.yaml").write_text(yaml.safe_dump({"categories": categories, "orientation": "stored"}))
        return folder

    return make


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_photographs_are_never_overwritten_by_pictures(run_folder, photos, tmp_path, capsys):
    before = contents(photos)
    link = tmp_path / "link"
    link.symlink_to(photos)
    for images, output in ([str(photos)], photos), ([str(photos / "a.jpg")], link), ([str(link)], photos):
        assert main(["predict", str(run_folder), "--images", *images, "--output", str(output), *SIZE]) == 2
        assert "would overwrite the input" in capsys.readouterr().err
    other = tmp_path / "x" / "a.jpg"
    other.parent.mkdir()
    Image.new("RGB", (64, 48)).save(other)
    # Not an input, but not a picture of ours either.
    assert main(["predict", str(run_folder), "--images", str(other), "--output", str(photos), *SIZE]) == 2
    assert "a.jpg exists and is not a picture of an earlier prediction" in capsys.readouterr().err
    assert contents(photos) == before


@pytest.mark.usefixtures("eagerly")
def test_a_damaged_file_costs_only_itself_and_is_said(run_folder, photos, tmp_path, capsys):
    output = tmp_path / "out"
    (photos / "notes.txt").write_text("no image")
    (photos / "more").mkdir()
    for _ in "12":  # pictures of an earlier prediction are replaced
        assert main(["predict", str(run_folder), "--images", str(photos), "--output", str(output), *SIZE]) == 1
        printed = capsys.readouterr().out
        assert "on 2 images" in printed
        assert re.search(r"^skipped +file .*b\.jpg: cannot be decoded: .*[Tt]runcated", printed, re.MULTILINE)
        assert "1 of 3 files could not be read" in printed
        assert re.search(r"1 files in .*notes\.txt", printed)
        assert re.search(r"1 folders in .*more", printed)
    report = json.loads((output / "detections.json").read_text())
    assert [Path(entry["file_name"]).name for entry in report] == ["a.jpg", "c.jpg"]
    [skipped] = json.loads((output / "detections.skipped.json").read_text())["skipped"]
    assert skipped["id"].endswith("b.jpg")


def test_what_was_found_before_an_interruption_is_written(run_folder, photos, tmp_path, monkeypatch):
    from tf_dcnv2 import visualization

    save, output = visualization.save_image, tmp_path / "out"

    def interrupted(image, path, **options):
        if Path(path).name == "c.jpg":
            raise KeyboardInterrupt
        save(image, path, **options)

    monkeypatch.setattr(visualization, "save_image", interrupted)
    assert main(["predict", str(run_folder), "--images", str(photos), "--output", str(output), *SIZE]) == 130
    [entry] = json.loads((output / "detections.json").read_text())
    assert entry["file_name"].endswith("a.jpg")


@pytest.mark.usefixtures("eagerly")
def test_images_are_turned_as_the_training_images_were(renamed_run, run_folder, tmp_path):
    image = Image.new("RGB", (64, 48))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    stored = renamed_run({2: "star", 5: "cross", 11: "moon", 17: "arrow"})
    assert load_trained(stored).orientation == "stored"
    sizes = []
    for number, (run, extra) in enumerate([(run_folder, []), (stored, []), (stored, ["--orientation", "upright"])]):
        output = tmp_path / f"out{number}"
        arguments = ["--images", str(tmp_path / "turned.jpg"), "--output", str(output), *SIZE, *extra]
        assert main(["predict", str(run), *arguments]) == 0
        [entry] = json.loads((output / "detections.json").read_text())
        sizes.append((entry["height"], entry["width"]))
    assert sizes == [(64, 48), (48, 64), (64, 48)]


def test_a_results_file_that_cannot_be_written_stops_before_the_work(
    run_folder, records, synthetic, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluation, "_detect", lambda *_: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    annotations = tmp_path / "annotations.json"
    annotations.write_text(Path(synthetic[1]).read_text())
    for output, reason in (
        (tmp_path / "file" / "results.json", "cannot be written"),
        (tmp_path, "is a folder|exists and is not"),
        (annotations, "overwrite the input|not a file of results"),
        (f"{records}.json", "not a file of results"),
        (run_folder / "best.keras", "overwrite the input"),
    ):
        for extra in ([], ["--annotations", str(annotations)]):
            arguments = ["--records", records, "--output", str(output), *SIZE, *extra]
            assert main(["evaluate", str(run_folder), *arguments]) == 2
            assert re.search(reason, capsys.readouterr().err)
    assert annotations.read_text() == Path(synthetic[1]).read_text()


def test_other_peoples_reports_and_lists_are_not_replaced(
    run_folder, records, synthetic, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(evaluation, "_detect", lambda *_: pytest.fail("the work has begun"))
    for name, text in (("val.skipped.json", Path(synthetic[1]).read_text()), ("tasks.json", '[{"image": "a.jpg"}]')):
        (tmp_path / name).write_text(text)
    (tmp_path / "out").mkdir()
    for name in ("notes.skipped.json", "out/detections.skipped.json"):
        (tmp_path / name).write_text("my notes")
    before = {path: path.read_text() for path in tmp_path.rglob("*.json")}
    images, annotations = synthetic
    evaluate = ["evaluate", str(run_folder), "--records", records, *SIZE]
    skipped = str(tmp_path / "val.skipped.json")
    for command, reason in (
        ([*evaluate, "--annotations", skipped, "--output", f"{tmp_path}/val.json"], "overwrite the input"),
        ([*evaluate, "--annotations", annotations, "--output", f"{tmp_path}/notes.json"], "not an earlier report"),
        ([*evaluate, "--output", f"{tmp_path}/tasks.json"], "not a file of results"),
        (
            ["convert", "--images", images, "--annotations", annotations, "--output", f"{tmp_path}/notes"],
            "not an earlier report",
        ),
        (
            ["predict", str(run_folder), "--images", str(photos), "--output", f"{tmp_path}/out"],
            "not an earlier report",
        ),
    ):
        assert main(command) == 2
        assert re.search(reason, capsys.readouterr().err), command
    assert {path: path.read_text() for path in tmp_path.rglob("*.json")} == before


@pytest.mark.usefixtures("eagerly")
def test_an_interruption_before_the_first_image_keeps_what_was_found_earlier(run_folder, photos, tmp_path, monkeypatch):
    command = ["predict", str(run_folder), "--images", str(photos), "--output", str(tmp_path / "out"), *SIZE]
    assert main(command) == 1
    before = (tmp_path / "out" / "detections.json").read_text()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tf_dcnv2.data.read_image", interrupted)
    assert main(command) == 130
    assert (tmp_path / "out" / "detections.json").read_text() == before


def test_a_box_format_without_the_annotations_it_is_of_is_a_usage_error(run_folder, records, capsys):
    assert main(["evaluate", str(run_folder), "--records", records, "--box-format", "xyxy"]) == 2
    assert "--annotations" in capsys.readouterr().err


@pytest.mark.usefixtures("eagerly")
def test_metrics_are_printed_even_if_the_results_can_no_longer_be_written(
    run_folder, records, tmp_path, capsys, monkeypatch
):
    def full(path, content):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(evaluation, "write_atomically", full)
    arguments = ["--records", records, "--output", str(tmp_path / "results.json"), "--max-images", "1", *SIZE]
    assert main(["evaluate", str(run_folder), *arguments]) == 2
    printed = capsys.readouterr().out
    assert re.search(r"^AP50 +(\d\.\d{3}|-) ", printed, re.MULTILINE)
    assert re.search(r"^failed +.*results\.json could not be written: No space left", printed, re.MULTILINE)


@pytest.mark.usefixtures("eagerly")
def test_classes_are_matched_by_name_and_results_have_the_data_sets_ids(
    renamed_run, run_folder, records, tmp_path, capsys
):
    permuted = renamed_run({2: "cross", 5: "star", 11: "moon", 17: "arrow"})
    counts = []
    for run in (run_folder, permuted):
        results = tmp_path / f"{run.name}.json"
        assert main(["evaluate", str(run), "--records", records, "--output", str(results), *SIZE]) == 0
        ids = [item["category_id"] for item in json.loads(results.read_text())]
        counts.append({key: ids.count(key) for key in (2, 5, 11, 17)})
    assert "cross 2 -> 5, star 5 -> 2" in capsys.readouterr().out
    assert counts[1] == {2: counts[0][5], 5: counts[0][2], 11: counts[0][11], 17: counts[0][17]}


def test_classes_that_the_detector_does_not_know_are_refused_by_name(renamed_run, records, capsys):
    other = renamed_run({2: "RBC", 5: "WBC", 11: "moon", 17: "arrow"})
    assert main(["evaluate", str(other), "--records", records, *SIZE]) == 2
    assert re.search(r"not trained on these classes.*'star', 'cross' \(known: 'RBC'", capsys.readouterr().err)


@pytest.mark.usefixtures("eagerly")
def test_two_validation_sets_with_the_same_ids_are_both_scored(run_folder, tmp_path, capsys):
    for name in ("a", "b"):
        paths = make_synthetic_coco(tmp_path / name, num_images=3, image_size=(96, 128), split=name)
        arguments = ["--images", paths[0], "--annotations", paths[1], "--output", str(tmp_path / "records" / name)]
        assert main(["convert", *arguments]) == 0
    both, results = str(tmp_path / "records" / "*"), tmp_path / "results.json"
    assert main(["evaluate", str(run_folder), "--records", both, "--output", str(results), *SIZE]) == 0
    assert "3 image ids of" in capsys.readouterr().out
    assert {item["image_id"] for item in json.loads(results.read_text())} == {1, 2, 3, 4, 5, 6}
    arguments = ["--records", both, "--output", str(results), "--annotations", paths[1], *SIZE]
    assert main(["evaluate", str(run_folder), *arguments]) == 2
    assert "same id in several data sets" in capsys.readouterr().err


@pytest.mark.usefixtures("eagerly")
def test_segmentations_of_an_annotation_file_are_checked_before_pycocotools_sees_them(
    mask_run_folder, records, synthetic, tmp_path, capsys
):
    content = json.loads(Path(synthetic[1]).read_text())
    bad = [[[0, 0, 2e8, 0, 0, 2e8]], {"size": [96, 128], "counts": "111111"}, {"size": [96, 128], "counts": ""}]
    for annotation, segmentation in zip(content["annotations"], bad, strict=False):
        annotation["segmentation"] = segmentation
    annotations = tmp_path / "annotations.json"
    annotations.write_text(json.dumps(content))
    output = tmp_path / "results.json"
    arguments = ["--records", records, "--annotations", str(annotations), "--output", str(output), *SIZE]
    assert main(["evaluate", str(mask_run_folder), *arguments]) == 0
    assert "3 annotations: the box was kept, its unusable mask was left out" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "results.skipped.json").read_text())["repaired"]) == 3


def test_converting_images_without_a_box_fails_unless_that_is_wanted(synthetic, tmp_path, capsys):
    content = json.loads(Path(synthetic[1]).read_text())
    annotations = tmp_path / "empty.json"
    annotations.write_text(json.dumps({**content, "annotations": []}))
    good = ["--images", synthetic[0], "--annotations", synthetic[1], "--output", str(tmp_path / "x")]
    empty = ["--images", synthetic[0], "--annotations", str(annotations), "--output", str(tmp_path / "x")]
    assert main(["convert", *good]) == 0
    before = contents(tmp_path)
    assert main(["convert", *empty]) == 2
    assert re.search(r"empty\.json has no annotation.*--allow-empty", capsys.readouterr().err)
    assert contents(tmp_path) == before
    assert main(["convert", *empty, "--allow-empty"]) == 0
    assert "there is not a single box" in capsys.readouterr().out


def test_an_unknown_box_format_is_named_with_those_that_exist(synthetic, tmp_path, capsys):
    arguments = ["--images", synthetic[0], "--annotations", synthetic[1], "--output", str(tmp_path / "x")]
    assert main(["convert", *arguments, "--box-format", "yolo"]) == 2
    assert re.search(r"one of xywh, xyxy.*'yolo'", capsys.readouterr().err)


def test_a_truncated_detector_is_called_that(run_folder, tmp_path, capsys):
    content = (run_folder / "best.keras").read_bytes()
    (tmp_path / "cut.keras").write_bytes(content[: len(content) // 2])
    assert main(["export", str(tmp_path / "cut.keras"), "--output", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "cut.keras is truncated, damaged, or no .keras file" in error
    assert "not found" not in error.lower()


def test_names_that_the_terminal_cannot_show_do_not_end_a_command(renamed_run, records, monkeypatch):
    run = renamed_run({2: "звезда", 5: "十字", 11: "moon", 17: "arrow"})
    terminal = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(terminal, encoding="ascii", write_through=True))
    assert main(["evaluate", str(run), "--records", records]) == 2
    error = terminal.getvalue().decode("ascii")
    assert "\\u0437" in error
    assert "Traceback" not in error


def test_an_average_precision_of_nothing_is_never_minus_one():
    from tf_dcnv2_cli.training_report import _precision

    assert "-1.000" not in _precision({f"val_{name}": -1.0 for name in ("AP", "AP50", "AP75")}, "val_")


@pytest.mark.usefixtures("eagerly")
def test_pictures_of_few_or_many_pixels_are_drawn(run_folder, tmp_path):
    images = []
    for name, shape in (
        ("dot", (1, 1, 3)),
        ("line", (2, 3000, 3)),
        ("endless", (2, 70_000, 3)),
        ("n" * 230, (9, 9, 3)),
    ):
        images.append(str(tmp_path / f"{name}.png"))
        Image.fromarray(np.zeros(shape, np.uint8)).save(images[-1])
    assert main(["predict", str(run_folder), "--images", *images, "--output", str(tmp_path / "out"), *SIZE]) == 0
