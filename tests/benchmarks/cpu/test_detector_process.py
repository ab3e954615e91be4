import os
import subprocess
import sys

import pytest

from benchmarks import ROOT
from benchmarks.cases import FORWARD, STEP
from benchmarks.cpu import detector_tensorflow
from benchmarks.cpu.detector_process import DetectorProcess
from benchmarks.cpu.interpreter import package_versions
from benchmarks.cpu.sizes import QUICK

CASE = QUICK.detector
SETTINGS = {"preset": CASE.deformable, "overrides": CASE.overrides, "image_size": CASE.image_size}
LOSSES = {"loss", "rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss", "regularization_loss"}


@pytest.mark.usefixtures("native_ops")
def test_a_process_detects_as_many_objects_as_there_can_be_and_tells_its_time_and_memory():
    module = "benchmarks.cpu.detector_tensorflow"
    with DetectorProcess("ours", FORWARD, threads=1, module=module, settings=SETTINGS) as process:
        assert process.outcome() == {"detections": 100}
        assert 0 < process.seconds() < 60
        peak = process.peak_bytes()
        assert peak is None or 50e6 < peak < 20e9
        process._process.kill()
        with pytest.raises(RuntimeError, match="when it was to run ours, forward. Is there enough memory?"):
            process.seconds()


@pytest.mark.usefixtures("native_ops")
def test_a_training_step_computes_all_losses_again_and_again():
    step = detector_tensorflow.step(**SETTINGS)
    losses = step()
    assert set(losses) == LOSSES
    assert all(loss >= 0 for loss in losses.values()) and losses["mask_loss"] > 0
    assert step()["mask_loss"] > 0


def test_torchvision_is_run_by_a_module_that_needs_no_tensorflow(tmp_path):
    for package in ("tensorflow", "tf_dcnv2"):
        (tmp_path / f"{package}.py").write_text(f"raise OSError('{package} imported')")
    program = (
        "import sys; from unittest.mock import MagicMock\n"
        "for name in ('torch', 'torchvision', 'torchvision.models', 'torchvision.models.detection',\n"
        "             'torchvision.models.detection.backbone_utils', 'torchvision.ops', 'torchvision.ops.misc'):\n"
        "    sys.modules[name] = MagicMock()\n"
        "import benchmarks.cpu.detector_torchvision"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("work", [FORWARD, STEP])
def test_torchvision_computes_in_a_process_where_it_is_installed(work):
    if None in package_versions(sys.executable, ["torch", "torchvision"]).values():
        pytest.skip("torchvision is not installed")
    settings = {"image_size": CASE.image_size}
    module = "benchmarks.cpu.detector_torchvision"
    with DetectorProcess("theirs", work, threads=1, module=module, settings=settings) as process:
        outcome = process.outcome()
        assert outcome == {"detections": 100} if work == FORWARD else len(outcome) == 5 and outcome["loss_mask"] > 0
        assert 0 < process.seconds() < 60
