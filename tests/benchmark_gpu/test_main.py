import json
import sys

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu.steps import Step


@pytest.fixture
def steps(monkeypatch):
    """Makes the command take other steps."""

    def replace(*codes, needed=False):
        steps = [Step(f"step {i}", [sys.executable, "-c", code], 60, needed=needed) for i, code in enumerate(codes)]
        monkeypatch.setattr(command, "planned_steps", lambda options: steps)

    return replace


def test_nothing_is_measured_with_a_build_that_failed(steps, monkeypatch, tmp_path, capsys):
    steps("raise SystemExit(1)", "pass", needed=True)
    monkeypatch.setattr(command, "_measure", lambda *arguments: pytest.fail("measured"))
    assert command.main(["--output", str(tmp_path)]) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["wrong"] == ["step 0: failed with status 1."] and list(results["steps"]) == ["step 0"]
    assert "WRONG: step 0: failed with status 1." in capsys.readouterr().out


def test_tests_that_fail_fail_the_command_and_still_it_measures(steps, monkeypatch, tmp_path):
    steps("raise SystemExit(1)")
    measured = []
    monkeypatch.setattr(command, "_measure", lambda *arguments: measured.append(arguments))
    assert command.main(["--output", str(tmp_path)]) == 1
    assert len(measured) == 1


def test_what_was_measured_before_an_error_is_kept(steps, monkeypatch, tmp_path, conv_measurement):
    steps("pass")

    def measure(options, findings, log, save):
        findings.measurements.append(conv_measurement())
        raise RuntimeError("the GPU is gone")

    monkeypatch.setattr(command, "_measure", measure)
    assert command.main(["--output", str(tmp_path)]) == 1
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["wrong"] == ["The measurements stopped: RuntimeError: the GPU is gone"]
    assert len(results["measurements"]) == 1


def test_goals_that_are_missed_leave_the_exit_status_at_zero(steps, monkeypatch, tmp_path, conv_measurement):
    steps("pass")
    monkeypatch.setattr(
        command, "_measure", lambda options, findings, log, save: findings.measurements.append(conv_measurement())
    )
    assert command.main(["--output", str(tmp_path)]) == 0
    assert any(not goal["met"] for goal in json.loads((tmp_path / "results.json").read_text())["goals"])
