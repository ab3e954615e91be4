"""What `predict` takes, and what it leaves."""

import json
import re
import sys
import time

import numpy as np
import pytest
from PIL import Image

from tests.support.sizes import SIZE
from tests.support.worker_processes import start
from tf_dcnv2_cli import main

cv2 = pytest.importorskip("cv2")
FRAMES = 7


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder with two images, a video of seven frames, a video that is none, and a nested image."""
    folder = tmp_path_factory.mktemp("media")
    for name in ("a.png", "b.png", "deep/er/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(len(name)).integers(0, 255, [60, 80, 3], np.uint8)).save(folder / name)
    writer = cv2.VideoWriter(str(folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 5, (80, 60))
    for number in range(FRAMES):
        frame = np.zeros([60, 80, 3], np.uint8)
        frame[10:40, 10 + 5 * number : 40 + 5 * number] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    (folder / "broken.mp4").write_bytes(b"\0" * 5000)
    return folder


def predict(run, images, output, *extra):
    return main(["predict", str(run), "--images", *map(str, images), "--output", str(output), *SIZE, *extra])


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.usefixtures("eagerly")
def test_frames_of_a_video_are_looked_at_and_drawn(run_folder, media, tmp_path):
    out = tmp_path / "out"
    arguments = ("--every", "3", "--batch-size", "2", "--min-score", "0.1", "--format", "jsonl")
    assert predict(run_folder, [media / "clip.avi"], out, *arguments) == 0
    entries = read_lines(out / "detections.jsonl")
    assert [(entry["frame"], entry["time_s"]) for entry in entries] == [(0, 0.0), (3, 0.6), (6, 1.2)]
    assert all((entry["height"], entry["width"]) == (60, 80) and entry["detections"] for entry in entries)
    assert sorted(path.name for path in (out / "clip").iterdir()) == ["000000.jpg", "000003.jpg", "000006.jpg"]
    assert {path.name for path in out.iterdir()} == {"clip", "detections.jsonl"}


@pytest.mark.usefixtures("eagerly")
def test_patterns_reach_folders_below_and_a_video_that_is_none_costs_only_itself(run_folder, media, tmp_path, capsys):
    out = tmp_path / "out"
    assert predict(run_folder, [media / "**" / "*.png", media / "broken.mp4"], out, "--no-pictures") == 1
    printed = capsys.readouterr().out
    assert "on 3 images" in printed and "1 of 4 files could not be read" in printed
    assert re.search(r"^skipped +file .*broken\.mp4: cannot be decoded: it is no video", printed, re.MULTILINE)
    assert {path.name for path in out.iterdir()} == {"detections.json", "detections.skipped.json"}
    assert predict(run_folder, [media / "*.nothing"], out) == 2
    assert "*.nothing matches no file." in capsys.readouterr().err


@pytest.mark.usefixtures("eagerly")
def test_coco_results_have_the_ids_of_an_annotation_file(mask_run_folder, media, tmp_path, capsys):
    from pycocotools.coco import COCO

    annotations = tmp_path / "instances.json"
    images = [
        {"id": key, "file_name": f"x/{name}", "height": 60, "width": 80} for key, name in ((70, "a.png"), (8, "b.png"))
    ]
    categories = [{"id": key, "name": str(key)} for key in (2, 5, 11, 17)]
    annotations.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    extra = ("--format", "coco", "--no-pictures", "--min-score", "0.1")
    ids = ("--image-ids", str(annotations))
    out = tmp_path / "out"
    assert predict(mask_run_folder, [media / "a.png", media / "b.png"], out, *extra, *ids) == 0
    loaded = COCO(annotations).loadRes(str(out / "detections.coco.json"))
    assert {item["image_id"] for item in loaded.anns.values()} == {70, 8}
    assert all(item["segmentation"]["size"] == [60, 80] for item in loaded.anns.values())
    assert predict(mask_run_folder, [media / "deep" / "er" / "c.png"], out, *extra, *ids) == 2
    assert "has no image id for" in capsys.readouterr().err
    assert predict(mask_run_folder, [media / "a.png"], out, *ids) == 2


@pytest.mark.usefixtures("eagerly")
def test_batches_and_augmentation_find_what_there_is_in_each_image(run_folder, media, tmp_path):
    images = [media / "a.png", media / "b.png"]
    counts = []
    for number, extra in enumerate([(), ("--batch-size", "2"), ("--tta",), ("--tta", "0.5", "1")]):
        out = tmp_path / str(number)
        assert predict(run_folder, images, out, "--min-score", "0.0", "--no-pictures", *extra) == 0
        entries = json.loads((out / "detections.json").read_text())
        assert [(entry["height"], entry["width"]) for entry in entries] == [(60, 80)] * 2
        counts.append([[found["bbox"] for found in entry["detections"]] for entry in entries])
    for alone, together in zip(*counts[:2], strict=True):
        np.testing.assert_allclose(alone[:5], together[:5], atol=0.1)
    assert counts[2] != counts[0] and counts[3] != counts[2]


def test_what_a_killed_prediction_found_is_in_its_journal(run_folder, media, tmp_path):
    out = tmp_path / "out"
    images = [str(media / "clip.avi")] * 60
    words = ["predict", str(run_folder), "--images", *images, "--output", str(out), *SIZE, "--no-pictures"]
    process = start(words, tmp_path / "printed.txt")
    journal, deadline = out / "detections.jsonl", time.monotonic() + 120
    try:
        while not (journal.exists() and journal.read_bytes().count(b"\n") >= 3):
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.join()
    assert [entry["frame"] for entry in read_lines(journal)[:3]] == [0, 1, 2]


def test_a_full_disk_keeps_the_images_that_were_written(tmp_path, monkeypatch):
    from tf_dcnv2_cli.prediction_results import PredictionResults

    results = PredictionResults(tmp_path, ["json"])
    results.add({"file_name": "a", "detections": []})
    opened = results._opened()

    class Full:
        def write(self, line):
            return opened.write(line[:5])

        def close(self):
            opened.close()

    monkeypatch.setattr(results, "_journal", Full())
    with pytest.raises(OSError, match="No space left"):
        results.add({"file_name": "b", "detections": []})
    results.finish()
    assert [entry["file_name"] for entry in json.loads((tmp_path / "detections.json").read_text())] == ["a"]


def test_videos_need_opencv_and_the_command_says_how_to_install_it(run_folder, media, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert predict(run_folder, [media / "clip.avi"], tmp_path / "out") == 2
    assert "pip install opencv-python-headless" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
