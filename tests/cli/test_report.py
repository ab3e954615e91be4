import json
import math
import re

import keras
import numpy as np
import pytest

from tf_dcnv2.training import RunFolder, RunState
from tf_dcnv2.visualization import draw_curves, save_image
from tf_dcnv2_cli import main

CONFIG = {
    "options": {"preset": "faster_rcnn_small_dcnv2", "train": "records/train", "val": "records/val"},
    "categories": [{"id": 1, "name": "star"}, {"id": 2, "name": "<cross>"}],
}
HISTORY = (
    {"epoch": 0, "loss": 3.0, "rpn_box_loss": 1.0, "val_AP": math.nan, "offset_mean": 1.0, "modulation": 0.5},
    {"epoch": 1, "loss": 2.0, "rpn_box_loss": 0.5, "val_AP": 0.25, "offset_mean": 2.0, "modulation": 0.6},
)
CLASS = {"name": "star", "objects": 7, "average_precision": 0.25, "average_precision_50": 0.5, "average_recall": 0.375}
ANALYSIS = {
    "format": "...",
    "bbox": {
        "images": 12,
        "classes": [
            {**CLASS, "best": {"score": 0.625, "precision": 0.75, "recall": 0.5, "f1": 0.6}},
            {**CLASS, "name": "<cross>", "objects": 0, "average_precision": -1.0, "best": None},
        ],
    },
}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "cells")
    folder.write_config(CONFIG)
    return folder


def save_state(run, **changes):
    state = {"steps": 8, "epochs": 2, "seconds": 90.0, "best_ap": 0.25, "best_steps": 8, "history": HISTORY, **changes}
    run.backups.save(RunState(**state), [keras.Variable(np.zeros(2))])


def report_of(run, *arguments):
    assert main(["report", str(run), *arguments]) == 0
    return (run.path / "report.html").read_text()


def save_picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(np.zeros([20, 30, 3], np.uint8), path)


def test_the_page_shows_how_far_the_run_is_and_its_curves(run):
    save_state(run)
    text = report_of(run)
    assert re.search(r"8 in 2 epochs and 1\.5 minutes, not at its end", text)
    assert re.search(r"best AP of boxes</td><td class=\"text\">0\.250 after 8 steps", text)
    assert text.count("<svg") == 1
    assert "star, &lt;cross&gt;" in text and "<cross>" not in text
    # It needs nothing but itself; a drawing's namespaces are names, not addresses that anything is read from.
    assert not re.search(r"<script|<link|src=\"(?!data:)|url\((?!#)|@import", text)


def test_the_last_drawing_is_shown(run):
    for epoch in (9, 10):
        save_picture(run.pictures / f"epoch-{epoch:04}" / f"image-{epoch}.jpg")
    text = report_of(run)
    assert "After epoch 10:" in text and "image-10</figcaption>" in text and "image-9<" not in text


def test_the_analysis_is_shown_with_classes_and_figures(run, tmp_path):
    folder = run.path / "analysis"
    assert "tf-dcnv2 evaluate" in report_of(run)
    save_picture(folder / "boxes_confusion.png")
    (folder / "analysis.json").write_text(json.dumps(ANALYSIS))
    text = report_of(run)
    assert "<td>star</td><td>7</td><td>0.250</td><td>0.500</td><td>0.375</td><td>0.625</td>" in text
    assert "<td>&lt;cross&gt;</td><td>0</td><td>-</td>" in text
    assert "boxes: confusion matrix" in text and text.count("<figure>") == 1
    assert report_of(run, "--analysis", str(folder)) == text


def test_a_run_that_has_only_begun_has_a_page(run):
    text = report_of(run)
    assert "0 in 0 epochs" in text and "<svg" not in text


def test_what_is_no_run_or_no_analysis_is_named_and_nothing_of_others_is_replaced(run, tmp_path, capsys):
    assert main(["report", str(tmp_path / "none")]) == 2
    assert re.search(r"none holds no training run: there is no config\.yaml", capsys.readouterr().err)
    assert main(["report", str(run), "--analysis", str(tmp_path)]) == 2
    assert "holds no analysis" in capsys.readouterr().err
    page = tmp_path / "page.html"
    page.write_text("mine")
    assert main(["report", str(run), "--output", str(page)]) == 2
    assert "is not an earlier page of report" in capsys.readouterr().err
    assert page.read_text() == "mine"
    report_of(run)
    report_of(run)  # but its own page is


def test_curves_leave_out_what_an_epoch_has_not_and_refuse_to_draw_nothing():
    text = draw_curves(HISTORY)
    assert text.startswith("<svg") and text.rstrip().endswith("</svg>")
    assert draw_curves(HISTORY) == text
    assert draw_curves([{"epoch": 0, "loss": 1.0}]) != text
    with pytest.raises(ValueError, match="no numbers"):
        draw_curves([{"epoch": 0, "val_AP": math.nan, "val_APl": -1.0}])
