"""No annotation file makes the commands crash, and none makes anything disappear unsaid."""

import contextlib
import json
import shutil
import warnings

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.detectors import MASK_HEAD, tiny_config
from tests.support.hard_cases import CASES
from tests.support.random_files import random_file
from tf_dcnv2.data import convert_coco, load_records, read_dataset_info
from tf_dcnv2.data.coco.annotation_file import load_json
from tf_dcnv2.data.coco.annotations import read_coco_annotations
from tf_dcnv2.data.findings import Findings
from tf_dcnv2.evaluation import evaluate_coco
from tf_dcnv2_cli import main
from tf_dcnv2_cli.errors import describe

PLAIN = json.loads((CASES / "plain" / "a.json").read_text())
FEW = {"batch_size": 4, "short_side": 32, "max_side": 64, "masks": False}


@pytest.fixture
def images(tmp_path):
    """The four images of the cases, one of them as a name that needs looking for."""
    folder = tmp_path / "img"
    folder.mkdir()
    for number in (1, 2, 3, 4):
        Image.new("RGB", (160, 120), (40 * number, 90, 90)).save(folder / f"im{number}.jpg")
    return folder


def converted(images, tmp_path, seed):
    """The report of a random file, or None where it is refused; checks that either way everything is said."""
    path, prefix = tmp_path / "a.json", tmp_path / "set"
    path.write_bytes(random_file(PLAIN, seed))
    for old in tmp_path.glob("set*"):
        old.unlink()
    try:
        report = convert_coco(images, path, prefix, num_shards=1)
    except (ValueError, OSError) as error:
        assert describe(error).strip(), seed
        assert not prefix.with_suffix(".json").exists(), seed
        return None
    content = load_json(path)
    skipped = [item.kind for item in report.skipped]
    assert report.images + skipped.count("image") == len(content["images"]), seed
    assert report.boxes + skipped.count("annotation") == len(content["annotations"]), seed
    assert report.boxes or not content["annotations"], seed
    if report.skipped or report.repaired:
        listed = json.loads((tmp_path / "set.skipped.json").read_text())
        assert len(listed["skipped"]) == len(report.skipped), seed
        assert len(listed["repaired"]) == len(report.repaired), seed
    return report


def nothing(inputs):
    """A detector that finds one object of category 1 in the corner of every image."""
    count = len(inputs["images"])
    boxes = np.tile(np.float32([0, 0, 9, 9]), [count, 1, 1])
    return {"boxes": boxes, "scores": np.full([count, 1], 0.5), "classes": np.ones([count, 1], int)}


def evaluated(tmp_path, report):
    """Scores a detector against the records and against the file; both know the same categories."""
    info = read_dataset_info(tmp_path / "set")
    dataset = load_records(tmp_path / "set", **{**FEW, "masks": info.has_masks})
    metrics = evaluate_coco(nothing, dataset)["bbox"]
    assert np.isfinite(metrics["AP"])
    from_file = evaluate_coco(nothing, dataset, annotations=read_coco_annotations(tmp_path / "a.json"))["bbox"]
    assert from_file["per_class"].keys() == report.categories.keys()


@pytest.mark.parametrize("first", [0, 20, 40, 60])
def test_random_files_are_refused_or_converted_with_everything_said(images, tmp_path, first):
    reports = [converted(images, tmp_path, seed) for seed in range(first, first + 20)]
    assert sum(report is not None for report in reports) > 5
    last = next(seed for seed in range(first + 19, -1, -1) if reports[seed - first] is not None)
    evaluated(tmp_path, converted(images, tmp_path, last))


def one_step(detector, prefix):
    """Trains on the first batch of records that have two images; returns how many batches that were."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more than eight objects on an image
        batches = load_records(
            prefix, batch_size=2, training=True, masks=True, max_boxes=8, short_side=96, max_side=128
        )
    steps = 0
    for batch in batches.take(1):
        assert np.isfinite(detector.train_on_batch(*batch)).all()
        steps += 1
    return steps


def commands_work(images, tmp_path, report):
    """Evaluates and predicts as a user does, with a detector of whatever categories the file had."""
    run, output = tmp_path / "run", tmp_path / "out"
    for folder in (run, output):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    config = tiny_config("fpn", **{"box_head.score_threshold": 0.0})
    config.build(tuple(report.categories)).save(run / "best.keras")
    categories = [{"id": key, "name": name} for key, name in report.categories.items()]
    (run / "config.yaml").write_text(yaml.safe_dump({"categories": categories}))
    size = ["--short-side", "96", "--max-side", "128"]
    results = output / "results.json"
    assert main(["evaluate", str(run), "--records", str(tmp_path / "set"), "--output", str(results), *size]) == 0
    assert json.loads(results.read_text())
    command = ["predict", str(run), "--images", str(images), "--output", str(output), "--min-score", "0", *size]
    assert main(command) == 0
    assert len(json.loads((output / "detections.json").read_text())) == len(list(images.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 200))
def test_two_thousand_random_files_convert_train_evaluate_and_predict(images, tmp_path, first):
    config = tiny_config("fpn", mask_head=MASK_HEAD)
    detector = config.build((1, 2))
    detector.compile(keras.optimizers.SGD(1e-4))
    trained = 0
    for seed in range(first, first + 200):
        report = converted(images, tmp_path, seed)
        if report is None or seed % 5:
            continue
        evaluated(tmp_path, report)
        info = read_dataset_info(tmp_path / "set")
        if info.has_masks and set(info.categories) <= {1, 2} and info.num_images >= 2:
            trained += one_step(detector, tmp_path / "set")
        if seed % 50 == 0:
            commands_work(images, tmp_path, report)
    assert trained > 5


def test_read_annotations_and_records_agree_on_what_is_usable(images, tmp_path):
    agreed = 0
    for seed in range(100, 120):
        report = converted(images, tmp_path, seed)
        if report is not None:
            with contextlib.suppress(ValueError):
                content = read_coco_annotations(tmp_path / "a.json")
                assert isinstance(content.findings, Findings)
                assert sum(1 for _ in content.all_annotations()) >= report.boxes
                agreed += 1
    assert agreed > 5
