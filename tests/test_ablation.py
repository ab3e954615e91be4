"""The example that compares regular, DCNv1, DCNv2 and mimicking."""

import json
import runpy
import subprocess
import sys

import pytest

from tests.support.reference_vectors import REPOSITORY

ABLATE = REPOSITORY / "examples" / "ablation" / "ablate.py"


def test_the_table_has_mean_and_deviation_over_the_seeds():
    make_table = runpy.run_path(str(ABLATE))["make_table"]
    runs = [{"AP": ap, "AP50": 0.9, "AP75": 0.8, "minutes": minutes} for ap, minutes in ((0.5, 4), (0.52, 5))]
    assert "| regular | 51.0 ± 1.4 | 90.0 ± 0.0 | 80.0 ± 0.0 | 4.0 |\n" in make_table({"regular": runs})


@pytest.mark.slow
def test_seeds_trained_side_by_side_end_in_one_table(native_ops, tmp_path):
    command = [sys.executable, ABLATE, "--output", tmp_path, "--steps", "2", "--train-images", "8", "--val-images", "4"]
    subprocess.run([*command, "--only-seed", "1"], check=True)
    assert not (tmp_path / "table.md").exists()
    done = sorted(path.stat().st_mtime for path in tmp_path.glob("*-seed1/metrics.json"))
    subprocess.run([*command, "--seeds", "2"], check=True)
    assert done == sorted(path.stat().st_mtime for path in tmp_path.glob("*-seed1/metrics.json"))
    assert [len(runs) for runs in json.loads((tmp_path / "results.json").read_text()).values()] == [2, 2, 2, 2]
    assert (tmp_path / "table.md").exists() and (tmp_path / "ablation.png").exists()
