"""`tf-dcnv2 import`."""

import numpy as np
import pytest
import yaml

from tests.support import torch_files
from tests.support.torch_detectors import mmdetection_weights, torchvision_weights
from tf_dcnv2_cli import main
from tf_dcnv2_cli.trained import load_trained


@pytest.fixture
def checkpoint(tmp_path):
    torch_files.save(torchvision_weights(), tmp_path / "model.pth")
    return tmp_path / "model.pth"


def test_an_imported_detector_is_taken_by_the_other_commands(checkpoint, tmp_path, capsys, rng):
    output = tmp_path / "run"
    assert main(["import", str(checkpoint), "--output", str(output), "--set", "short_side=96"]) == 0
    printed = capsys.readouterr().out
    assert "torchvision, 3 classes" in printed and "weights loaded" in printed
    config = yaml.safe_load((output / "config.yaml").read_text())
    assert config["source"]["project"] == "torchvision" and config["detector"]["short_side"] == 96
    assert "loaded   rpn/boxes/kernel\n" in (output / "weights.txt").read_text()
    trained = load_trained(output)
    assert trained.detector.short_side == 96 and trained.names == {1: "1", 2: "2", 3: "3"}
    assert trained.detector.detect(rng.integers(0, 256, [96, 96, 3], dtype=np.uint8)).keys() >= {"boxes", "masks"}


def test_an_imported_detector_is_fine_tuned_by_the_commands_of_the_documentation(records, tmp_path, capsys):
    torch_files.save(torchvision_weights(masks=False), tmp_path / "model.pth")
    imported, tuned = tmp_path / "imported", tmp_path / "tuned"
    assert main(["import", str(tmp_path / "model.pth"), "--output", str(imported), "--set", "short_side=96"]) == 0
    start = ["--preset", f"{imported}/config.yaml", "--weights", f"{imported}/best.keras"]
    steps = ["--steps", "2", "--batch-size", "2", "--set", "rpn.proposals=[20,20]"]
    assert main(["train", *start, "--train", records, "--output", str(tuned), *steps]) == 0
    assert capsys.readouterr().out.count("loss") == 1
    # Four classes instead of three: all weights but the classifiers' are taken.
    lines = (tuned / "weights.txt").read_text().splitlines()
    new = {line.split()[1] for line in lines if line.startswith("new")}
    assert {name.rpartition("/")[0] for name in new} == {"box_head/classifier", "box_head/regressor"}
    trained = load_trained(tuned)
    assert trained.names == {2: "star", 5: "cross", 11: "moon", 17: "arrow"}
    assert trained.detector.rpn.config.anchor_rounding and trained.detector.resizing == "torchvision"


def test_what_is_there_is_not_replaced(checkpoint, tmp_path, capsys):
    output = tmp_path / "run"
    output.mkdir()
    (output / "best.keras").write_text("mine")
    assert main(["import", str(checkpoint), "--output", str(output)]) != 0
    assert "best.keras, which a run would replace" in capsys.readouterr().err
    assert (output / "best.keras").read_text() == "mine"
    (output / "config.yaml").write_text("")
    assert main(["import", str(checkpoint), "--output", str(output)]) != 0
    assert "holds a detector already" in capsys.readouterr().err


VIT = {"blocks.0.attn.qkv.weight": np.zeros([12, 4], np.float32)}
FIRST_MMDETECTION = {name.replace("roi_head.", ""): value for name, value in mmdetection_weights().items()}
CODE = {"state_dict": {}, "attack": torch_files.Call("posix", "system", "true")}


def write(content, path):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch_files.save(content, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "truncated, damaged, or no checkpoint"),
        (b"cposix\nsystem\n(S'true'\ntR.", "names posix.system"),
        (CODE, "names posix.system"),
        (VIT, "blocks.0.attn.qkv.weight"),
        (FIRST_MMDETECTION, "those of mmdetection 1"),
    ],
    ids=["empty", "pickle with code", "archive with code", "vit", "mmdetection 1"],
)
def test_a_file_that_is_none_leaves_nothing_behind(tmp_path, capsys, content, message):
    write(content, tmp_path / "model.pth")
    assert_refused(tmp_path, capsys, message)


def test_a_truncated_file_leaves_nothing_behind(checkpoint, tmp_path, capsys):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    assert_refused(tmp_path, capsys, "truncated")


def test_a_configuration_of_other_classes_leaves_nothing_behind(tmp_path, capsys):
    write(mmdetection_weights(num_classes=3), tmp_path / "model.pth")
    (tmp_path / "config.py").write_text("model = dict(roi_head=dict(bbox_head=dict(num_classes=80)))\n")
    options = ["--config", str(tmp_path / "config.py")]
    assert_refused(tmp_path, capsys, "number of classes is 80, that of the weights 3", *options)


def test_settings_that_do_not_fit_the_weights_leave_nothing_behind(checkpoint, tmp_path, capsys):
    assert_refused(tmp_path, capsys, "box_head/fc1/kernel has the shape", "--set", "box_head.units=64")
    assert_refused(tmp_path, capsys, "Unknown setting 'short_sid'", "--set", "short_sid=64")


def assert_refused(tmp_path, capsys, message, *options):
    """The command says why in one line, and writes nothing."""
    before = sorted(tmp_path.iterdir())
    assert main(["import", str(tmp_path / "model.pth"), "--output", str(tmp_path / "run"), *options]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert sorted(tmp_path.iterdir()) == before
