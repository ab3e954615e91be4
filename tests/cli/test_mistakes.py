"""What every command does with what it cannot use: one line, status 2, nothing half-written, and nothing old lost."""

import functools
import io
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support import torch_files
from tests.support.eagerly import run_eagerly
from tests.support.sizes import SIZE, TINY
from tests.support.torch_detectors import torchvision_weights
from tf_dcnv2.data import convert_coco
from tf_dcnv2.training import RunFolder, RunState
from tf_dcnv2.visualization import Panel, html, save_panels
from tf_dcnv2_cli import _COMMANDS, inspect_data, main, report, trained

SMALL = " ".join(SIZE)

# Every command that writes, with what it reads, to somewhere in {out}.
WRITERS = {
    "demo": "demo --train-images 4 --val-images 2 --output {out}/demo",
    "convert": "convert --images {images} --annotations {annotations} --output {out}/shapes",
    "inspect-data": f"inspect-data {{records}} --samples 1 {SMALL} --output {{out}}/page.html",
    "inspect-data of annotations": "inspect-data {annotations} --images {images} --samples 1 --output {out}/page.html",
    "train": f"train --preset {{preset}} --train {{records}} --steps 1 {SMALL} --output {{out}}/run",
    "evaluate": f"evaluate {{run}} --records {{records}} --max-images 1 {SMALL} --output {{out}}/results.json",
    "report": "report {run} --output {out}/report.html",
    "predict": f"predict {{run}} --images {{photo}} {SMALL} --output {{out}}/found",
    "visualize": f"visualize detections {{run}} --image {{photo}} {SMALL} --output {{out}}/figure.png",
    "import": "import {checkpoint} --output {out}/imported --set short_side=96",
    "export": "export {run} --ops portable --output {out}/exported",
}

BAD_FLAGS = {
    "demo --max-minutes 0": "--max-minutes: must be positive",
    "presets --filter (": "no regular expression",
    "presets --all --filter small": "not allowed with argument --all",
    "convert --images {images} --annotations {annotations} --output {out}/x --jobs 0": "--jobs: must be at least 1",
    "convert --images {images} --annotations {annotations} --output {out}/x --format xml": "invalid choice: 'xml'",
    "convert --images {images} --annotations {annotations} --output {out}/": "The output needs a name",
    "inspect-data {records} --samples few": "--samples: invalid int value: 'few'",
    "inspect-data {records} --scale-range 2 1 --output {out}/x.html": "scale_range",
    "train --preset {preset} --train {records} --output {out}/x --strategy two": "invalid choice: 'two'",
    "train --preset {preset} --train {records} --output {out}/x --steps 0": "steps must be",
    "train --preset {preset} --train {records} --output {out}/x --set rpn.anchor_size=[1]": "rpn.anchor_sizes",
    "train --preset {preset} --train {records} --output {out}/x --patience 3": "patience counts evaluations",
    "train --preset {preset} --output {out}/x": "required: --train",
    "evaluate {run} --records {records} --min-score 2": "--min-score must be between 0 and 1",
    "evaluate {run} --records {records} --tta 0": "--tta: must be positive",
    "report {run} --page {out}/x.html": "unrecognized arguments: --page",
    "predict {run} --images {photo} --output {out}/x --min-score -1": "--min-score must be between 0 and 1",
    "predict {run} --images {photo} --output {out}/x --format xml": "invalid choice: 'xml'",
    "visualize maps {run} --image {photo} --output {out}/x.png": "invalid choice: 'maps'",
    "visualize offsets {run} --image {photo} --output {out}/x.jpg": "--output must end in .png or .svg",
    "visualize offsets {run} --image {photo} --output {out}/x.png --layers (": "--layers is no regular expression",
    "import {checkpoint} --output {out}/x --set short_side": "--set takes KEY=VALUE",
    "import {checkpoint} --output {out}/x --preset detectron": "detectron",
    "export {run} --output {out}/x --ops fast": "invalid choice: 'fast'",
    "benchmark --size 10x10": "HEIGHTxWIDTHxCHANNELS",
    "benchmark --threads 100000": "cores for this process",
    "doctor --repair": "unrecognized arguments: --repair",
}

# In each, {none} does not exist and {photo} is no file of the kind that is wanted.
WRONG_PATHS = [
    "convert --images {none} --annotations {annotations} --output {out}/x",
    "convert --images {images} --annotations {none} --output {out}/x",
    "convert --images {images} --annotations {photo} --output {out}/x",
    "inspect-data {none} --output {out}/x.html",
    "inspect-data {photo} --output {out}/x.html",
    "inspect-data {annotations} --images {none} --output {out}/x.html",
    "inspect-data {none} --images {images} --output {out}/x.html",
    "inspect-data {records} --preset {none} --output {out}/x.html",
    "train --preset {preset} --train {none} --output {out}/x",
    "train --preset {preset} --train {photo} --output {out}/x",
    "train --preset {none} --train {records} --output {out}/x",
    "train --preset {preset} --train {records} --val {none} --output {out}/x",
    "train --preset {preset} --train {records} --weights {none} --output {out}/x",
    "train --preset {preset} --train {records} --weights {photo} --output {out}/x",
    "train --preset {preset} --train {annotations} --train-images {none} --output {out}/x",
    "train --resume --output {none}",
    "evaluate {none} --records {records}",
    "evaluate {photo} --records {records}",
    "evaluate {run} --records {none}",
    "evaluate {run} --records {photo} --output {out}/x.json",
    "evaluate {run} --records {records} --annotations {none} --output {out}/x.json",
    "evaluate {run} --records {records} --annotations {photo} --output {out}/x.json",
    "evaluate {run} --records {annotations} --images {none}",
    "report {none}",
    "report {photo}",
    "report {run} --analysis {none} --output {out}/x.html",
    "predict {none} --images {photo} --output {out}/x",
    "predict {run} --images {none} --output {out}/x",
    "predict {run} --images {images}/*.xyz --output {out}/x",
    "predict {run} --images {photo} --format coco --image-ids {none} --output {out}/x",
    "visualize offsets {none} --image {photo} --output {out}/x.png",
    "visualize offsets {run} --image {none} --output {out}/x.png",
    "visualize offsets {run} --image {annotations} --output {out}/x.png",
    "visualize support {run} --image {photo} --annotations {none} --output {out}/x.png",
    "import {none} --output {out}/x",
    "import {photo} --output {out}/x",
    "import {checkpoint} --config {none} --output {out}/x",
    "export {none} --output {out}/x",
    "export {photo} --output {out}/x",
]

# Classes, and images, that are not those of the detector or of the other file.
MISMATCHES = {
    "train --preset {preset} --train {records} --val {others} --output {out}/x": "'circle'",
    "train --resume --train {others} --output {started}": "circle",
    "evaluate {run} --records {others} --output {out}/x.json": "was not trained on these classes of the data set",
    "evaluate {run} --records {records} --annotations {other_annotations} --output {out}/x.json": "these classes",
    "predict {run} --images {photo} --format coco --image-ids {annotations} --output {out}/x": "photo.png",
    "visualize support {run} --image {photo} --annotations {annotations} --output {out}/x.png": "photo.png",
}

# What is too small, or too slow, to see a disk of two free pages become full: it finds a full one.
NO_PAGE_FREE = ("inspect-data", "train", "evaluate", "report")


@pytest.fixture(scope="module")
def places(synthetic, records, run_folder, tmp_path_factory) -> dict[str, object]:
    """What the commands read."""
    folder = tmp_path_factory.mktemp("places")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, [96, 128, 3], np.uint8)).save(folder / "photo.png")
    torch_files.save(torchvision_weights(masks=False), folder / "model.pth")
    run = folder / "run"
    shutil.copytree(run_folder, run)
    config = yaml.safe_load((run / "config.yaml").read_text())
    options = {"preset": "faster_rcnn_small_dcnv2", "train": records, "val": None}
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "options": options}))
    return {
        "images": synthetic.images_dir,
        "annotations": synthetic.annotations_file,
        "records": records,
        "run": run,
        "photo": folder / "photo.png",
        "checkpoint": folder / "model.pth",
        "none": folder / "none",
        "preset": "faster_rcnn_small_regular",
    }


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture(scope="module", autouse=True)
def load_once() -> Iterator[None]:
    """Loads each detector once: it takes most of the time of a mistake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "load_trained", functools.cache(trained.load_trained))
        yield


def run_command(line: str, capsys, **places) -> tuple[int, str]:
    """Status and error of a command."""
    command = [word.format(**places) for word in line.split()]
    if "{preset}" in line:
        command += [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
    try:
        status = main(command)
    except SystemExit as exit_:
        status = exit_.code
    return status, capsys.readouterr().err


def assert_is_one_line(error: str, line: str) -> None:
    assert len(error.splitlines()) == 1 and "--debug" not in error, error
    assert re.match(rf"tf-dcnv2( {line.split()[0]})?: error: ", error), error


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_no_command_is_forgotten():
    tried = {line.split()[0] for line in (*WRITERS.values(), *BAD_FLAGS)}
    assert tried == set(_COMMANDS)


@pytest.mark.parametrize(("line", "message"), BAD_FLAGS.items())
def test_bad_flags_are_usage_errors(line, message, places, out, capsys):
    status, error = run_command(line, capsys, **places, out=out)
    assert status == 2 and message in error
    assert_is_one_line(error, line)
    assert not contents(out)


@pytest.mark.parametrize("line", WRONG_PATHS)
def test_wrong_paths_are_named(line, places, out, capsys):
    before = contents(places["run"])
    status, error = run_command(line, capsys, **places, out=out)
    assert status == 2
    assert_is_one_line(error, line)
    wanted = next(name for name in ("none", "xyz", "photo", "annotations") if re.search(rf"\b{name}\b", line))
    assert str(places.get(wanted, wanted)) in error
    assert not contents(out) and contents(places["run"]) == before and not places["none"].exists()


@pytest.fixture(scope="module")
def others(places, tmp_path_factory) -> dict[str, object]:
    """Annotations and records with another class, and a run of the first ones that can be resumed."""
    folder = tmp_path_factory.mktemp("others")
    annotations = folder / "annotations.json"
    annotations.write_text(Path(places["annotations"]).read_text().replace('"star"', '"circle"'))
    convert_coco(places["images"], annotations, folder / "others")
    run = RunFolder(folder / "run")
    run.write_config(yaml.safe_load((places["run"] / "config.yaml").read_text()))
    run.backups.save(RunState(steps=1), [np.zeros(2)])
    (run.path / ".lock").touch()
    return {"others": folder / "others", "other_annotations": annotations, "started": run.path}


@pytest.mark.parametrize(("line", "message"), MISMATCHES.items())
def test_classes_and_images_that_do_not_match_are_named(line, message, places, others, out, capsys):
    before = contents(others["started"])
    status, error = run_command(line, capsys, **places, **others, out=out)
    assert status == 2 and message in error
    assert_is_one_line(error, line)
    assert not contents(out) and contents(others["started"]) == before


@pytest.mark.parametrize("command", WRITERS)
def test_a_file_in_place_of_the_folder_to_write_to_stays(command, places, out, capsys):
    out.write_text("mine")
    status, error = run_command(WRITERS[command], capsys, **places, out=out)
    assert status == 2 and str(out) in error
    assert_is_one_line(error, WRITERS[command])
    assert out.read_text() == "mine"


@pytest.fixture
def disk(out) -> Iterator[Path]:
    """A disk of 512 KiB."""
    out.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", out], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here: only root may do that")
    yield out
    subprocess.run(["umount", "--lazy", out], check=True)


@pytest.mark.parametrize("command", WRITERS)
def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(command, places, disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    status, error = run_command(WRITERS[command], capsys, **places, out=disk)
    assert status == 2 and str(disk) in error and "Read-only file system. Choose another " in error
    assert_is_one_line(error, WRITERS[command])


@pytest.fixture(scope="module")
def earlier_outputs(places, tmp_path_factory) -> Path:
    """What the commands wrote at another time, as far as they replace it."""
    folder = tmp_path_factory.mktemp("earlier")
    for path in Path(places["records"]).parent.iterdir():
        shutil.copy(path, folder)
    for name, generator in (("page.html", inspect_data.GENERATOR), ("report.html", report.GENERATOR)):
        (folder / name).write_text(html.page("earlier", generator=generator))
    save_panels([[Panel(np.zeros([8, 8, 3], np.uint8), "earlier")]], folder / "figure.png")
    for name, text in {"results.json": "[]", "found/detections.json": "[]", "exported/saved_model.pb": ""}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


class Boxless(keras.Model):
    """Takes what a detector does. Nothing of a detector itself but its size matters to a disk."""

    has_mask_head = False
    category_ids = ()
    short_side, max_side, resizing = 32, 32, "tensorflow"

    def __init__(self):
        super().__init__(name="boxless")
        self.scores = self.add_weight(shape=(10_000,), initializer="ones", name="scores")
        self.box_head = SimpleNamespace(classifier=SimpleNamespace(bias=self.scores))
        self.built = True

    def call(self, images, image_sizes):
        return {"scores": self.scores + keras.ops.sum(images), "boxes": keras.ops.zeros([1, 1, 4])}


@pytest.fixture
def quick_export(monkeypatch) -> None:
    """Exports in a moment: to trace a detector takes many seconds."""
    model = Boxless()
    monkeypatch.setattr(trained, "load_trained", lambda path, **_: trained.Trained(model, {}, path))


@pytest.mark.parametrize("command", WRITERS)
def test_a_disk_that_becomes_full_keeps_what_it_holds_and_gets_no_part_of_a_file(
    command, places, disk, earlier_outputs, capsys, request
):
    if command == "export":
        request.getfixturevalue("quick_export")
    shutil.copytree(earlier_outputs, disk, dirs_exist_ok=True)
    status = os.statvfs(disk)
    pages = status.f_bfree - 2 * (command not in NO_PAGE_FREE)
    (disk / "filler").write_bytes(bytes(pages * status.f_frsize))
    line = WRITERS[command] + (" --overwrite" if command == "export" else "")
    with run_eagerly():
        status, error = run_command(line, capsys, **places, out=disk)
    assert status == 2 and str(disk) in error and "No space left on device" in error
    assert_is_one_line(error, line)
    (disk / "filler").unlink()
    left = contents(disk)
    earlier = contents(earlier_outputs)
    assert {name: left.pop(name, None) for name in earlier} == earlier
    # Images that are whole, of a set that the same command draws again.
    images = [left.pop(name) for name in list(left) if command == "demo" and name.endswith(".jpg")]
    assert all(Image.open(io.BytesIO(jpeg)).load() for jpeg in images)
    assert not left
