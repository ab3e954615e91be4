"""evaluate, predict and export on a run that was trained before."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from pycocotools import mask as coco_mask

from tests.support.sizes import SIZE
from tf_dcnv2 import data, export
from tf_dcnv2.data import load_records
from tf_dcnv2.evaluation import write_analyses
from tf_dcnv2.evaluation.coco_metrics import METRIC_NAMES
from tf_dcnv2.visualization import Panel, save_panels
from tf_dcnv2_cli import main
from tf_dcnv2_cli.trained import load_trained


def test_evaluation_prints_all_metrics_and_classes_and_writes_results(run_folder, records, tmp_path, capsys):
    results = tmp_path / "results.json"
    arguments = ["evaluate", str(run_folder), "--records", records, *SIZE, "--output", str(results)]
    assert main(arguments) == 0
    report = capsys.readouterr().out
    assert re.search(
        r"^offsets +mean 0\.0 px, 99 % of a layer's below 0\.0 px, \d+% of a layer's samples", report, re.MULTILINE
    )
    for name in METRIC_NAMES:
        assert re.search(rf"^{name} +(\d\.\d{{3}}|-) ", report, re.MULTILINE)
    for category in ("star", "cross", "moon", "arrow"):
        assert re.search(rf"^ +\d+ +{category} +(\d\.\d{{3}}|-) +(\d\.\d{{3}}|-)$", report, re.MULTILINE)
    detections = json.loads(results.read_text())
    assert {detection["category_id"] for detection in detections} <= {2, 5, 11, 17}


@pytest.mark.usefixtures("eagerly")
def test_evaluation_decodes_every_image_once(run_folder, records, tmp_path, monkeypatch):
    passes = []

    class Watched:
        def __init__(self, *arguments, **options):
            self.batches = load_records(*arguments, **options)

        def __iter__(self):
            passes.append(self)
            return iter(self.batches)

    monkeypatch.setattr(data, "load_records", Watched)
    results = tmp_path / "results.json"
    arguments = ["--records", records, *SIZE, "--output", str(results), "--batch-size", "4"]
    assert main(["evaluate", str(run_folder), *arguments]) == 0
    assert len(passes) == 1
    assert len({detection["image_id"] for detection in json.loads(results.read_text())}) == 6


@pytest.mark.usefixtures("eagerly")
def test_evaluation_against_the_annotation_file_of_some_images(run_folder, records, synthetic, tmp_path):
    results = tmp_path / "results.json"
    arguments = ["--annotations", synthetic[1], "--max-images", "2", *SIZE, "--output", str(results)]
    assert main(["evaluate", str(run_folder / "best.keras"), "--records", records, *arguments]) == 0
    assert len({detection["image_id"] for detection in json.loads(results.read_text())}) == 2


@pytest.mark.usefixtures("eagerly")
def test_an_analysis_is_printed_and_written_and_replaces_only_an_earlier_one(
    mask_run_folder, records, tmp_path, capsys
):
    folder = tmp_path / "analysis"
    arguments = ["--records", records, *SIZE, "--max-images", "2", "--output", str(tmp_path / "results.json")]
    arguments = ["evaluate", str(mask_run_folder), *arguments, "--analysis", str(folder), "--min-score", "0.1"]
    write_analyses(folder / "analysis.json", {}, {})  # an earlier one
    for name in ("boxes_errors.png", "boxes_missed.png"):
        save_panels([[Panel(np.zeros([8, 8, 3], np.uint8))]], folder / name)
    earlier = (folder / name).read_bytes()
    assert main(arguments) == 0
    report = capsys.readouterr().out
    assert re.search(r"^  2 +star +\d+ +[-\d.]+ +[-\d.]+ ", report, re.MULTILINE)
    assert len(re.findall(r"^errors +background +\d+ +AP50 \+\d\.\d{3} without them$", report, re.MULTILINE)) == 2
    content = json.loads((folder / "analysis.json").read_text())
    assert content["bbox"]["images"] == 2 and content["segm"]["confusion"]["names"] == [
        "star",
        "cross",
        "moon",
        "arrow",
    ]
    figures = {
        f"{kind}_{name}.png" for kind in ("boxes", "masks") for name in ("precision_recall", "confusion", "errors")
    }
    assert figures < {path.name for path in folder.iterdir()}
    assert earlier not in [path.read_bytes() for path in folder.iterdir()]
    (folder / "boxes_errors.png").write_text("mine")
    assert main(arguments) == 2
    assert "boxes_errors.png exists and is not a figure of an earlier analysis" in capsys.readouterr().err
    assert main([*arguments[:-1], "50"]) == 2


@pytest.mark.usefixtures("eagerly")
def test_predictions_are_drawn_and_written_in_pixels_of_the_file(run_folder, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, [60, 200, 3], np.uint8)
    Image.fromarray(pixels).save(folder / "wide.png")
    Image.fromarray(pixels.transpose(1, 0, 2)).save(tmp_path / "wide.jpg")
    images = [str(folder), str(tmp_path / "wide.jpg")]
    output = tmp_path / "output"
    arguments = ["predict", str(run_folder), "--images", *images, "--output", str(output), "--min-score", "0.1", *SIZE]
    assert main(arguments) == 0
    assert "on 2 images with a score of at least 0.1" in capsys.readouterr().out
    assert {path.name for path in output.iterdir()} == {"wide.jpg", "wide-2.jpg", "detections.json"}
    report = json.loads((output / "detections.json").read_text())
    assert [(entry["height"], entry["width"]) for entry in report] == [(60, 200), (200, 60)]
    for entry in report:
        assert entry["detections"]
        x, y, width, height = np.array([detection["bbox"] for detection in entry["detections"]]).T
        assert (x + width).max() <= entry["width"] + 0.1
        assert (y + height).max() <= entry["height"] + 0.1
        # A detector that has learnt nothing finds things everywhere, also at the far end of the longer side.
        assert max((x + width).max(), (y + height).max()) > 150
        scores = [detection["score"] for detection in entry["detections"]]
        assert scores == sorted(scores, reverse=True)
        assert min(scores) >= 0.1
        assert {detection["category"] for detection in entry["detections"]} <= {"star", "cross", "moon", "arrow"}


@pytest.mark.usefixtures("eagerly")
def test_a_mask_rcnn_is_scored_by_its_masks_too(mask_run_folder, records, synthetic, tmp_path, capsys):
    for extra in ([], ["--annotations", synthetic[1]]):
        results = tmp_path / "results.json"
        arguments = ["--records", records, *SIZE, "--max-images", "2", "--output", str(results), *extra]
        assert main(["evaluate", str(mask_run_folder), *arguments]) == 0
        report = capsys.readouterr().out
        assert re.search(r"^boxes +on 2 images$.*^masks +on 2 images$", report, re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^AP50 +(\d\.\d{3}|-) ", report, re.MULTILINE)) == 2
        detections = json.loads(results.read_text())
        assert all(detection["segmentation"]["size"] == [96, 128] for detection in detections)


@pytest.mark.usefixtures("eagerly")
def test_predicted_masks_are_drawn_and_written_in_pixels_of_the_file(mask_run_folder, tmp_path):
    Image.fromarray(np.full([60, 200, 3], 128, np.uint8)).save(tmp_path / "grey.png")
    output = tmp_path / "output"
    arguments = ["--images", str(tmp_path / "grey.png"), "--output", str(output), "--min-score", "0.1", *SIZE]
    assert main(["predict", str(mask_run_folder), *arguments]) == 0
    [entry] = json.loads((output / "detections.json").read_text())
    covered = 0
    for detection in entry["detections"]:
        mask = coco_mask.decode(detection["segmentation"])
        assert mask.shape == (60, 200)
        x, y, width, height = detection["bbox"]
        rows, columns = np.nonzero(mask)
        assert np.all((rows >= np.floor(y)) & (rows < y + height) & (columns >= np.floor(x)) & (columns < x + width))
        covered += mask.sum()
    assert covered > 0


def test_an_export_of_a_mask_rcnn_says_that_it_gives_masks(mask_run_folder, tmp_path, monkeypatch, capsys):
    exports = []
    # Tracing takes long, and tests/export tests what is written.
    monkeypatch.setattr(export, "export_saved_model", lambda *arguments, **_: exports.append(arguments))
    output = str(tmp_path / "model")
    assert main(["export", str(mask_run_folder), "--output", output, "--ops", "portable"]) == 0
    [(detector, *where)] = exports
    assert detector.has_mask_head and where == [output, "portable"]
    report = capsys.readouterr().out
    assert "masks [B,D,S,S]" in report and "or TensorFlow Serving" in report
    assert "tf.load_op_library" not in report


@pytest.mark.parametrize("ops", ["native", pytest.param("portable", marks=pytest.mark.slow)])
def test_an_export_says_how_to_load_it_and_is_not_overwritten(run_folder, ops, tmp_path, capsys):
    arguments = ["export", str(run_folder), "--output", str(tmp_path / "model"), "--ops", ops]
    assert main(arguments) == 0
    report = capsys.readouterr().out
    assert ("tf.load_op_library" in report) == (ops == "native")
    assert tf.saved_model.contains_saved_model(str(tmp_path / "model"))
    assert main(arguments) == 2
    assert "model already exists" in capsys.readouterr().err


def test_an_onnx_file_is_written_on_demand(run_folder, tmp_path, monkeypatch, capsys):
    exports = []
    monkeypatch.setattr(export, "export_onnx", lambda *arguments, **options: exports.append((*arguments, options)))
    output = str(tmp_path / "model.onnx")
    assert main(["export", str(run_folder), "--output", output, "--format", "onnx", "--opset", "20"]) == 0
    [(_, *where)] = exports
    assert where == [output, {"opset": 20, "overwrite": False}]
    assert f"onnxruntime.InferenceSession({output!r})" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--format", "onnx", "--ops", "native"], "--ops is for SavedModels"), (["--opset", "20"], "Add --format onnx")],
)
def test_a_flag_of_the_other_format_is_refused(run_folder, tmp_path, capsys, flags, message):
    assert main(["export", str(run_folder), "--output", str(tmp_path / "x"), *flags]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_detector_is_refused(tmp_path, capsys):
    (tmp_path / "broken.keras").write_text("not a zip file")
    assert main(["export", str(tmp_path / "broken.keras"), "--output", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "broken.keras" in error
    assert len(error.splitlines()) == 1


@pytest.fixture
def diverged(run_folder, tmp_path):
    """A detector with a weight that is not finite."""
    detector = load_trained(run_folder).detector
    kernel = detector.box_head.fc1.kernel
    kernel.assign(np.full(kernel.shape, np.nan))
    detector.save(tmp_path / "diverged.keras")
    return str(tmp_path / "diverged.keras")


@pytest.mark.usefixtures("eagerly")
def test_weights_that_are_not_finite_are_used_only_when_asked_for(diverged, records, tmp_path, capsys):
    Image.fromarray(np.zeros([60, 60, 3], np.uint8)).save(tmp_path / "image.png")
    predictions = tmp_path / "predictions"
    for command in (
        ["predict", diverged, "--images", str(tmp_path / "image.png"), "--output", str(predictions), *SIZE],
        ["evaluate", diverged, "--records", records, *SIZE],
        ["export", diverged, "--output", str(tmp_path / "exported")],
    ):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert "diverged.keras: " in error and "hold NaN or infinity" in error and "--allow-non-finite" in error
        assert len(error.splitlines()) == 1
    assert not predictions.exists() and not (tmp_path / "exported").exists()
    arguments = ["--images", str(tmp_path / "image.png"), "--output", str(predictions), *SIZE, "--allow-non-finite"]
    assert main(["predict", diverged, *arguments]) == 0


def test_a_minimal_score_beyond_its_range_is_a_usage_error(run_folder, tmp_path, capsys):
    arguments = ["--images", str(tmp_path), "--output", str(tmp_path / "x"), "--min-score", "50"]
    assert main(["predict", str(run_folder), *arguments]) == 2
    assert "--min-score must be between 0 and 1" in capsys.readouterr().err


def test_without_a_configuration_categories_are_named_by_their_ids(run_folder, tmp_path):
    (tmp_path / "alone.keras").write_bytes((run_folder / "best.keras").read_bytes())
    for foreign in (None, "categories: [cat, dog]", "!!python/object:os.system {}", "a: ["):
        if foreign is not None:
            (tmp_path / "config.yaml").write_text(foreign)
        assert load_trained(tmp_path / "alone.keras").names == {2: "2", 5: "5", 11: "11", 17: "17"}
