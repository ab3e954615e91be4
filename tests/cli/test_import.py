"""`tf-dcnv2 import`."""

import numpy as np
import pytest
import yaml

from tests.support import torch_files
from tests.support.torch_detectors import torchvision_weights
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


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "truncated, damaged, or no checkpoint"), (b"cposix\nsystem\n(S'true'\ntR.", "names posix.system")],
    ids=["empty", "code"],
)
def test_a_file_that_is_none_leaves_nothing_behind(tmp_path, capsys, content, message):
    (tmp_path / "model.pth").write_bytes(content)
    output = tmp_path / "run"
    assert main(["import", str(tmp_path / "model.pth"), "--output", str(output)]) != 0
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not output.exists()
