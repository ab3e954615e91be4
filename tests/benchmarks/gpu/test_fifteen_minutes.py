"""The whole command (benchmarks/gpu/fifteen_minutes.sh), with programs that do nothing in the place of Python's."""

import os
import re
import shutil
import subprocess

import pytest

from benchmarks import ROOT

SCRIPT = ROOT / "benchmarks" / "gpu" / "fifteen_minutes.sh"
MANUAL = ROOT / "docs" / "performance-gpu.md"


@pytest.fixture
def command(tmp_path):
    """Runs the command with a build that does as told: status, output, and what else was called with which library."""

    def run(*arguments, build, script=SCRIPT, **environment):
        calls = tmp_path / "calls"
        python = tmp_path / "python"
        python.write_text(
            f"#!/bin/bash\n[[ $1 == tools/* ]] && {{ {build}; exit; }}\n"
            f'[[ $1 == -c ]] && exit 1\necho "$DCNV2_GPU_LIBRARY: $*" >> {calls}\n'
        )
        python.chmod(0o755)
        given = {**os.environ, "PYTHON": str(python), "OUT": str(tmp_path / "out"), **environment}
        done = subprocess.run(["bash", script, *arguments], env=given, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr, calls.read_text().splitlines() if calls.exists() else []

    return run


@pytest.fixture
def carried(tmp_path):
    """A library that was built elsewhere."""
    library = tmp_path / "carried.so"
    library.touch()
    return str(library)


def limits(output):
    """Seconds by stage, of those that ran."""
    return {name: int(limit) for name, limit in re.findall(r"=== (\w+): at most (\d+) s", output)}


def modules(calls):
    return [call.split("-m ")[1].split()[0] for call in calls]


def test_all_stages_run_with_the_library_that_was_built(command, tmp_path):
    status, output, calls = command("--emulated", build="echo compiling; echo /built.so")
    assert status == 0, output
    assert modules(calls) == ["benchmarks.gpu.machine", "benchmarks.gpu.small_run", "pytest", "benchmarks.gpu"]
    assert all(call.startswith("/built.so: ") for call in calls)
    assert len(list((tmp_path / "out").iterdir())) <= 8 - len(["results.json", "results.md"])
    assert output.index("measure ") < output.rindex("passed")


@pytest.mark.parametrize("arguments, modules_run", [((), 4), (("--examine",), 4)], ids=["measuring", "examining"])
def test_a_library_that_was_carried_is_taken_without_building(command, carried, arguments, modules_run):
    status, output, calls = command(*arguments, "--emulated", build="exit 2", DCNV2_GPU_LIBRARY=carried)
    assert status == 0, output
    assert "build" not in limits(output)
    assert [call.partition(":")[0] for call in calls] == [carried] * modules_run


def test_a_library_that_does_not_exist_is_refused_before_anything_runs(command):
    status, output, calls = command("--emulated", build="echo /built.so", DCNV2_GPU_LIBRARY="missing.so")
    assert (status, calls) == (2, [])
    assert "missing.so" in output


def test_stages_can_be_had_alone_in_the_order_that_is_asked_for(command):
    status, output, calls = command("measure", "machine", "--emulated", build="exit 2", MEASURE_SECONDS="30")
    assert status == 0, output
    assert modules(calls) == ["benchmarks.gpu", "benchmarks.gpu.machine"]
    assert "--seconds 30 " in calls[0]
    assert limits(output) == {"measure": 40, "machine": 40}


def test_tests_on_a_gpu_leave_out_what_needs_tensorflow_or_the_emulator_or_takes_minutes(command):
    _, _, calls = command(build="echo /built.so")
    (tests,) = (call for call in calls if "-m pytest" in call)
    left_out = set(re.findall(r"--ignore=(\S+)", tests))
    assert left_out == {f"tests/gpu/test_{name}.py" for name in ("emulator", "tf_harness", "real_sizes")}
    assert all((ROOT / name).exists() for name in left_out)
    assert "tests/gpu" in tests.split()


@pytest.mark.parametrize(
    "arguments, total, table", [([], 540, "| stage |"), (["--examine"], 200, "| stage of `--examine` |")]
)
def test_limits_are_those_of_the_manual(command, arguments, total, table):
    text = MANUAL.read_text()
    assert re.search(rf"{' '.join(['fifteen_minutes.sh', *arguments])} +#.*; {total} seconds at most", text)
    stated = {}
    for row in text.partition(table)[2].partition("\n\n")[0].splitlines()[2:]:
        names, seconds = row.split(" | ")[:2]
        stated |= zip(names.removeprefix("| ").split(", "), map(int, re.findall(r"\d+", seconds)), strict=True)
    _, output, _ = command(*arguments, build="echo /built.so", PATH="/usr/bin:/bin")
    assert limits(output).items() <= stated.items()


def test_without_a_library_the_rest_is_not_run(command):
    status, output, calls = command("--emulated", build="exit 2", DCNV2_GPU_LIBRARY="")
    assert status == 1
    assert modules(calls) == ["benchmarks.gpu.machine"]
    assert output.count("FAILED: not run, there is no library") == 2 * len(["small", "tests", "measure"])


def test_the_examination_rehearses_without_the_tools(command):
    status, output, calls = command("--examine", "--emulated", build="echo /built.so")
    assert status == 0, output
    small, real = "benchmarks.gpu.small_run", "benchmarks.gpu.real_run"
    assert modules(calls) == [small, real, small, small]


def test_the_two_commands_have_folders_of_their_own(command, tmp_path):
    """A copy, which writes to runs beside itself."""
    script = tmp_path / "copy" / "benchmarks" / "gpu" / "fifteen_minutes.sh"
    script.parent.mkdir(parents=True)
    for name in ("fifteen_minutes.sh", "stages.sh"):
        shutil.copy(SCRIPT.with_name(name), script.with_name(name))
    for arguments in (["--emulated"], ["--examine", "--emulated"]):
        command(*arguments, build="echo /built.so", script=script, OUT="")
    folders = {path.name: path for path in (tmp_path / "copy" / "runs").iterdir()}
    assert set(folders) == {"fifteen-minutes", "fifteen-minutes-examine"}
    assert (folders["fifteen-minutes"] / "measure.log").exists()
    assert (folders["fifteen-minutes-examine"] / "memcheck.log").exists()


def test_tools_that_are_missing_fail_the_examination_and_not_the_command(command):
    status, output, _ = command("--examine", build="echo /built.so", PATH="/usr/bin:/bin")
    assert status == 1
    assert "compute-sanitizer" in output and output.rstrip().splitlines()[-1].startswith("all ")


def test_other_arguments_are_refused(command):
    status, output, calls = command("--fast", build="true")
    assert (status, calls) == (2, [])
    assert "takes --examine, --emulated, and stages: build machine" in output and "Received: --fast" in output
