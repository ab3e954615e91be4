import sys

import pytest

from benchmarks.gpu.findings import Findings
from benchmarks.gpu.options import parse
from benchmarks.gpu.steps import Step, planned_steps, take_steps


def python(code: str, **fields) -> Step:
    return Step("step", [sys.executable, "-c", code], fields.pop("limit_s", 60), **fields)


@pytest.fixture
def taken():
    """Takes steps: whether to go on, and the findings."""

    def take(*steps):
        findings = Findings()
        return take_steps(steps, findings, lambda topic, text: None), findings

    return take


def test_a_step_that_succeeds_is_noted_and_nothing_is_wrong(taken):
    go_on, findings = taken(python("pass"))
    assert go_on and not findings.wrong
    assert findings.steps["step"].startswith("passed in ")


@pytest.mark.parametrize("needed", [False, True])
def test_a_step_that_fails_is_wrong_and_stops_the_rest_only_if_that_needs_it(taken, needed):
    go_on, findings = taken(python("raise SystemExit(3)", needed=needed))
    assert go_on is not needed
    assert findings.wrong == ["step: failed with status 3."]


def test_a_step_that_hangs_is_ended(taken):
    _, findings = taken(python("import time; time.sleep(60)", limit_s=0.5))
    assert findings.wrong == ["step: ended without a result."]


def test_a_program_that_is_not_there_is_named(taken):
    _, findings = taken(Step("memcheck", ["no-such-sanitizer"], 60))
    assert findings.wrong == ["memcheck: not run (No such file or directory: no-such-sanitizer)."]


def test_a_step_sees_its_own_environment_and_ours(taken, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    code = "import os; raise SystemExit(0 if os.environ['OURS'] + os.environ['ITS'] == '12' else 1)"
    assert not taken(python(code, environment={"ITS": "2"}))[1].wrong


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["build", "tests"]),
        (["--sanitize"], ["build", "tests", "memcheck", "racecheck"]),
        (["--no-tests"], ["build"]),
    ],
)
def test_build_and_tests_come_first_unless_told_otherwise(arguments, names):
    assert [step.name for step in planned_steps(parse(arguments))] == names


def test_the_results_go_where_the_environment_says_or_the_user(monkeypatch):
    monkeypatch.delenv("OUT", raising=False)
    assert parse([]).output == "runs/benchmark-gpu"
    monkeypatch.setenv("OUT", "/elsewhere")
    assert parse([]).output == "/elsewhere"
    assert parse(["--output", "here"]).output == "here"


def test_no_rounds_are_refused(capsys):
    with pytest.raises(SystemExit):
        parse(["--rounds", "0"])
    assert "must be at least 1. Received: 0" in capsys.readouterr().err
