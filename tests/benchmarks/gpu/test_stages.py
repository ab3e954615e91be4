"""Stages of a command that has to end in time (benchmarks/gpu/stages.sh)."""

import subprocess
import time

import pytest

from benchmarks import ROOT


@pytest.fixture
def stages(tmp_path):
    """Runs a script of stages: its exit status and output, and the folder of its logs."""

    def run(script, seconds=60):
        lines = [f"source {ROOT}/benchmarks/gpu/stages.sh", f"begin_stages {tmp_path} {seconds}", script, "end_stages"]
        done = subprocess.run(["bash", "-uc", "\n".join(lines)], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout, tmp_path

    return run


def table(output):
    """Outcomes by stage, of the table that is printed last."""
    lines = [line.split(maxsplit=2) for line in output.rpartition("outcome\n")[2].splitlines()]
    return {name: outcome[0] if outcome else "" for name, _, *outcome in lines}


def test_stages_that_pass_are_listed_with_their_logs(stages):
    status, output, folder = stages("stage first 10 echo hello; stage second 10 true")
    assert status == 0
    assert table(output) == {"first": "passed", "second": "passed", "all": ""}
    assert (folder / "first.log").read_text() == "hello\n"
    assert output.count("hello") == 1
    assert (folder / "summary.txt").read_text() in output


def test_a_stage_that_fails_stops_nothing_and_fails_the_whole(stages):
    status, output, folder = stages("stage first 10 bash -c 'echo why >&2; exit 3'; stage second 10 true")
    assert status == 1
    assert table(output) == {"first": "FAILED with status 3", "second": "passed", "all": ""}
    assert (folder / "first.log").read_text() == "why\n"


def test_a_stage_over_its_limit_is_ended_and_reported(stages):
    start = time.monotonic()
    status, output, folder = stages("stage slow 1 bash -c 'echo begun; sleep 50'; stage next 10 true")
    assert time.monotonic() - start < 20
    assert status == 1
    assert table(output) == {"slow": "FAILED: ended after its limit of 1 s", "next": "passed", "all": ""}
    assert (folder / "slow.log").read_text() == "begun\n"


def test_a_stage_that_does_not_listen_is_ended_too_with_what_it_started(stages):
    script = "trap '' INT TERM; sleep 50 & while true; do sleep 1; done"
    start = time.monotonic()
    _, output, _ = stages(f'stage deaf 1 bash -c "{script}"')
    assert time.monotonic() - start < 20
    assert table(output)["deaf"] == "FAILED: ended after its limit of 1 s"


def test_an_interrupted_program_may_say_what_it_knows(stages):
    code = "import time\ntry: time.sleep(50)\nexcept KeyboardInterrupt: print('half')"
    _, _, folder = stages(f'stage slow 1 python3 -c "{code}"')
    assert (folder / "slow.log").read_text() == "half\n"


def test_a_program_that_is_not_there_is_no_reason_to_stop(stages):
    status, output, folder = stages("stage tool 10 no-such-sanitizer; stage next 10 true")
    assert (status, table(output)["next"]) == (1, "passed")
    assert "no-such-sanitizer" in (folder / "tool.log").read_text()


def test_everything_ends_in_time(stages):
    start = time.monotonic()
    status, output, _ = stages("stage first 50 sleep 50; stage second 50 true", seconds=7)
    assert time.monotonic() - start < 20
    assert status == 1
    assert table(output) == {
        "first": "FAILED: ended after its limit of 2 s",
        "second": "FAILED: not run, no time left",
        "all": "",
    }


def test_a_long_log_keeps_its_beginning_and_its_end(stages):
    _, _, folder = stages(
        "stage long 30 python3 -c \"print('begin'); print('x' * 20_000_000); print('end')\" >/dev/null"
    )
    log = (folder / "long.log").read_text()
    assert log.startswith("begin\n") and log.endswith("\nend\n") and "bytes left out]" in log
    assert len(log) < 2**23 + 100
