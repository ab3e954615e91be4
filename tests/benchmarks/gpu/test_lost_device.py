import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# A GPU that is lost when a test says so.
TORCH = """
class cuda:
    lost = False
    is_initialized = staticmethod(lambda: True)

    @staticmethod
    def synchronize():
        if cuda.lost:
            raise RuntimeError("an illegal memory access was encountered")
"""
TESTS = """
import torch

def test_first():
    pass

def test_second():
    torch.cuda.lost = True
    assert False, "wrong values"

def test_third():
    assert not torch.cuda.lost
"""


@pytest.fixture
def outcomes(tmp_path):
    """Runs the tests above and returns their number by outcome, and the output."""

    def run(*arguments):
        (tmp_path / "torch.py").write_text(TORCH)
        (tmp_path / "test_it.py").write_text(TESTS)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        folder = Path(__file__).resolve().parents[2] / "gpu"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(folder)])}
        environment.pop("PYTEST_XDIST_WORKER", None)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "lost_device",
            "-p",
            "no:cacheprovider",
            *arguments,
            "test_it.py",
        ]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        counts = re.findall(r"(\d+) (passed|failed)\b", done.stdout)
        return {outcome: int(count) for count, outcome in counts}, done.stdout

    return run


def test_nothing_runs_on_a_lost_device(outcomes):
    counts, output = outcomes()
    assert counts == {"passed": 1, "failed": 1}
    assert "the GPU is lost to this process since test_it.py::test_second: an illegal memory access" in output


@pytest.mark.skipif(importlib.util.find_spec("xdist") is None, reason="pytest-xdist is not installed")
def test_another_process_takes_over_where_there_is_one(outcomes):
    counts, output = outcomes("-n", "1")
    # The second test counts twice: its values were wrong, and its process ended.
    assert counts == {"passed": 2, "failed": 2}
    assert "wrong values" in output
