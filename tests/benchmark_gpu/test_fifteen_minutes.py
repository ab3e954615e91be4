"""The whole command (benchmarks/gpu/fifteen_minutes.sh), with programs that do nothing in the place of Python's."""

import os
import subprocess

import pytest

from benchmarks.gpu import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu" / "fifteen_minutes.sh"


@pytest.fixture
def command(tmp_path):
    """Runs the command with a build that does as told: status, output, and what else was called with which library."""

    def run(*arguments, build, **environment):
        calls = tmp_path / "calls"
        python = tmp_path / "python"
        python.write_text(
            f"#!/bin/bash\n[[ $1 == cc/* ]] && {{ {build}; exit; }}\n"
            f'[[ $1 == -c ]] && exit 1\necho "$DCNV2_GPU_LIBRARY: $*" >> {calls}\n'
        )
        python.chmod(0o755)
        given = {**os.environ, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **environment}
        done = subprocess.run(["bash", SCRIPT, *arguments], env=given, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.fixture
def carried(tmp_path):
    """A library that was built elsewhere."""
    library = tmp_path / "carried.so"
    library.touch()
    return str(library)


def modules(calls):
    return [call.split("-m ")[1].split()[0] for call in calls]


def test_all_stages_run_with_the_library_that_was_built(command, tmp_path):
    status, output, calls = command("--emulated", build="echo compiling; echo /built.so")
    assert status == 0, output
    assert modules(calls) == ["benchmarks.gpu.machine", "benchmarks.gpu.small_run", "pytest", "benchmarks.gpu"]
    assert all(call.startswith("/built.so: ") for call in calls[1:])
    assert len(list((tmp_path / "out").iterdir())) <= 8 - len(["results.json", "results.md"])
    assert output.index("measure ") < output.rindex("passed")


def test_a_build_that_fails_is_reported_and_the_library_that_was_carried_is_taken(command, carried):
    status, output, calls = command("--emulated", build="exit 2", DCNV2_GPU_LIBRARY=carried)
    assert status == 1
    assert "FAILED with status 2" in output and f"going on with {carried}" in output
    assert [call.partition(":")[0] for call in calls[1:]] == [carried] * 3


def test_a_build_that_passes_goes_before_the_library_that_was_carried(command, carried):
    build = "[[ -z ${DCNV2_GPU_LIBRARY:-} ]] && echo /built.so"
    _, _, calls = command("--emulated", build=build, DCNV2_GPU_LIBRARY=carried)
    assert calls[-1].startswith("/built.so: ")


def test_without_a_library_the_rest_is_not_run(command):
    status, output, calls = command("--emulated", build="exit 2", DCNV2_GPU_LIBRARY="")
    assert status == 1
    assert modules(calls) == ["benchmarks.gpu.machine"]
    assert output.count("FAILED: not run, there is no library") == 2 * len(["small", "tests", "measure"])


def test_the_examination_rehearses_without_the_tools(command):
    status, output, calls = command("--examine", "--emulated", build="echo /built.so")
    assert status == 0, output
    assert modules(calls) == ["benchmarks.gpu.small_run", "benchmarks.gpu.small_run", "benchmarks.gpu.real_run"]


def test_tools_that_are_missing_fail_the_examination_and_not_the_command(command):
    status, output, _ = command("--examine", build="echo /built.so", PATH="/usr/bin:/bin")
    assert status == 1
    assert "compute-sanitizer" in output and output.rstrip().splitlines()[-1].startswith("all ")


def test_other_arguments_are_refused(command):
    status, output, calls = command("--fast", build="true")
    assert (status, calls) == (2, [])
    assert "takes --examine and --emulated. Received: --fast" in output
