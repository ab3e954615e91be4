"""The example that measures spatial support on the ablation's detectors."""

import json
import runpy
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

from tests.support.detectors import CATEGORY_IDS, tiny_config
from tests.support.reference_vectors import REPOSITORY

MEASURE = REPOSITORY / "examples" / "spatial_support" / "measure.py"


@pytest.fixture(scope="module")
def example() -> dict:
    return runpy.run_path(str(MEASURE))


@pytest.fixture
def ablation(tmp_path):
    """What `ablate.py` leaves: one image with three whole objects and one at the border, and one run."""
    folder = tmp_path / "ablation"
    images, annotations = folder / "data" / "images" / "val", folder / "data" / "annotations"
    run = folder / "dcnv2+mimicking-7-seed3"
    for path in (images, annotations, run):
        path.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, [64, 96, 3], np.uint8)).save(images / "a.png")
    boxes = [[10, 10, 8, 8], [30, 10, 20, 20], [20, 5, 60, 50], [0, 0, 5, 5]]
    objects = [{"image_id": 1, "bbox": box, "iscrowd": 0} for box in boxes]
    content = {"images": [{"id": 1, "file_name": "a.png", "width": 96, "height": 64}], "annotations": objects}
    (annotations / "instances_val.json").write_text(json.dumps(content))
    (run / "metrics.json").write_text("{}")
    (folder / "regular-7-seed0").mkdir()  # not finished
    return folder


def test_finished_runs_are_found_and_whole_objects_sampled_by_size(example, ablation):
    [(variant, seed, folder)] = example["runs_in"](ablation, 7)
    assert (variant, seed, folder.name) == ("DCNv2 + mimicking", 3, "dcnv2+mimicking-7-seed3")
    objects = example["sample_objects"](ablation / "data", 5, 0)
    assert [(one.size, one.box) for one in objects] == [
        ("small", (10, 10, 18, 18)),
        ("medium", (10, 30, 30, 50)),
        ("large", (5, 20, 55, 80)),
    ]


def test_every_measure_is_taken_of_an_object(example, ablation):
    keras.utils.set_random_seed(0)
    detector = tiny_config("fpn", **{"short_side": 64, "max_side": 96}).build(CATEGORY_IDS)
    search = {"bound": 0.9, "steps": 4, "superpixels": 2}
    file = ablation / "data" / "images" / "val" / "a.png"
    numbers = example["measure"](detector, str(file), (5.0, 20.0, 55.0, 80.0), **search)
    assert numbers.keys() == example["MEASURES"].keys()
    assert all(np.isfinite(value) and value >= 0 for value in numbers.values())


def test_what_was_measured_of_a_run_is_not_measured_again(example, ablation, tmp_path):
    objects = example["sample_objects"](ablation / "data", 5, 0)
    means = {"small": {"roi_bins": 0.5}}
    (tmp_path / "run.json").write_text(json.dumps({"objects": [list(one) for one in objects], "means": means}))
    # There is no detector to load in this folder.
    assert example["measure_run"](tmp_path / "run", objects, tmp_path, "run") == means
    with pytest.raises((ValueError, OSError)):
        example["measure_run"](tmp_path / "run", objects[:1], tmp_path, "run")


@pytest.mark.slow
def test_an_ablation_ends_in_a_table_and_a_figure(ablation, tmp_path):
    tiny_config("fpn", **{"short_side": 64, "max_side": 96}).build(CATEGORY_IDS).save(
        ablation / "dcnv2+mimicking-7-seed3" / "last.keras"
    )
    output = tmp_path / "output"
    command = [sys.executable, MEASURE, "--runs", ablation, "--output", output, "--steps", "7", "--objects", "1"]
    for _ in "12":  # the second time nothing is measured
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "DCNv2 + mimicking, seed 3" not in printed
    assert (output / "table.md").read_text() in printed
    assert len(json.loads((output / "results.json").read_text())["DCNv2 + mimicking"]) == 1
    assert (output / "support.png").exists()


def test_the_radius_of_a_field_is_the_mean_distance_from_its_centre(example):
    field = np.zeros([20, 20])
    field[5, 4] = field[5, 10] = 2.0
    assert example["radius"](field) == pytest.approx(3.0)


def test_the_table_and_the_figure_have_mean_and_deviation_over_the_seeds(example, tmp_path):
    runs = [
        {
            size: dict.fromkeys(example["MEASURES"], value * factor)
            for size, factor in (("small", 1), ("medium", 2), ("large", 3))
        }
        for value in (0.1, 0.2)
    ]
    table = example["make_table"]({"regular": runs, "DCNv2": runs[:1]})
    assert "Runs: 2 of regular, 1 of DCNv2." in table
    assert "| effective bins in the box, % | 30.0 ± 14.1 | 20.0 |" in table
    assert "| radius on large objects / on small ones | 3.00 ± 0.00 | 3.00 |" in table
    example["plot"]({"regular": runs, "DCNv2": runs[:1]}, tmp_path / "support.png")
    assert Image.open(tmp_path / "support.png").width > 1000
