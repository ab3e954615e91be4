"""Runs that are killed, and resumed by the command that the user would give. Each part is a process of its own."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support.reference_vectors import REPOSITORY
from tests.support.sizes import TINY
from tf_dcnv2.training import RunFolder

# The command `tf-dcnv2`, in a process that kills itself within the n-th call that brings a file to the disk.
PROGRAM = """
import os, signal, stat, sys
die_in = int(sys.argv.pop(1))
calls, fsync = 0, os.fsync
def fsync_or_die(handle):
    global calls
    calls += 1
    if calls == die_in:
        if stat.S_ISREG(os.fstat(handle).st_mode):  # and not a folder
            os.truncate(handle, os.fstat(handle).st_size // 2)  # half of it had been written
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)
if die_in:
    os.fsync = fsync_or_die
from tests.support.eagerly import run_eagerly
from tf_dcnv2_cli import main
with run_eagerly(sys.argv.pop(1) == "1"):
    sys.exit(main())
"""


class Run:
    """A run, started and resumed in processes that may be killed."""

    def __init__(self, records, folder, epochs, eagerly=False):
        self.epochs, self.eagerly = epochs, eagerly
        settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
        data = ["--preset", "faster_rcnn_small_dcnv1", "--train", records, "--val", records]
        images = ["--short-side", "64", "--max-side", "96", "--batch-size", "4"]
        training = f"--epochs {epochs} --optimizer adam --warmup-steps 0 --evaluate-every 3 --seed 0".split()
        self.first = [*data, *images, *training, *settings]
        self.folder = RunFolder(folder)

    def start(self, die_in: int = 0) -> subprocess.Popen:
        """Starts the run, or continues it if there is one."""
        words = ["--resume"] if self.folder.holds_a_run() else self.first
        numbers = map(str, (die_in, int(self.eagerly)))
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *numbers, "train", *words, "--output", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def steps(self) -> int:
        state = self.folder.backups.load_state()
        return 0 if state is None else state.steps

    def kill_in_write(self, number: int) -> None:
        """Lets it kill itself in the middle of a file."""
        process = self.start(die_in=number)
        output, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL, output

    def kill_after(self, epochs: int, seconds: float) -> None:
        """Kills it so long after its n-th epoch; after none, while it builds the graph."""
        process = self.start()
        for line in process.stdout:
            epochs -= line.startswith("epoch")
            if epochs <= 0 and line.startswith(("model", "epoch")):
                break
        time.sleep(seconds)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def finish(self) -> None:
        process = self.start()
        output, _ = process.communicate()
        assert process.returncode == 0, output
        state = self.folder.backups.load_state()
        assert (state.steps, state.is_finished) == (2 * self.epochs, True)
        assert self.folder.is_complete(state)
        assert [row["epoch"] for row in state.history] == list(range(self.epochs))
        assert np.isfinite([row["loss"] for row in state.history]).all()


def kill_and_finish(run: Run, kills) -> None:
    done = 0
    for kill, *arguments in kills:
        kill(*arguments)
        # No kill takes anything back.
        assert run.steps() >= done
        done = run.steps()
    run.finish()


def test_a_run_that_is_killed_within_writes_and_between_them_comes_to_its_end(synthetic_records, tmp_path):
    # Eagerly, since four processes would trace the same graph; those of the slow test do.
    run = Run(synthetic_records, tmp_path / "run", epochs=6, eagerly=True)
    # In the backup of its second epoch, in last.keras after it was resumed, and while it trains.
    kill_and_finish(run, [(run.kill_in_write, 14), (run.kill_in_write, 2), (run.kill_after, 1, 0.2)])


@pytest.mark.slow
def test_a_run_comes_to_its_end_through_twenty_kills(synthetic_records, tmp_path):
    run, choose = Run(synthetic_records, tmp_path / "run", epochs=80), random.Random(0)
    kills = [(run.kill_in_write, choose.randint(1, 30)) for _ in range(10)]
    kills += [(run.kill_after, choose.randint(0, 3), choose.uniform(0, 0.5)) for _ in range(10)]
    choose.shuffle(kills)
    kill_and_finish(run, kills)
