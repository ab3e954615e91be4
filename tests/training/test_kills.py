"""Runs that are killed, and resumed by the command that the user would give. Each part is a process of its own."""

import contextlib
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TextIO

import keras
import numpy as np
import pytest

from tests.support.eagerly import run_eagerly
from tests.support.sizes import TINY
from tests.support.worker_processes import PROCESSES
from tf_dcnv2.training import RunFolder
from tf_dcnv2_cli import main


def train(words: list[str], die_in: int, eagerly: bool, output: Connection) -> None:
    """The command `tf-dcnv2 train`, which kills itself within the n-th call that brings a file to the disk."""
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115 - until the process ends
    calls, fsync = 0, os.fsync

    def fsync_or_die(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == die_in:
            if stat.S_ISREG(os.fstat(handle).st_mode):  # and not a folder
                os.truncate(handle, os.fstat(handle).st_size // 2)  # half of it had been written
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    os.fsync = fsync_or_die
    with run_eagerly(eagerly):
        sys.exit(main(["train", *words]))


class Run:
    """A run, started and resumed in processes that may be killed."""

    def __init__(self, records, folder, epochs, eagerly=False, steps_per_epoch=2, more=()):
        self.epochs, self.eagerly, self.steps_per_epoch = epochs, eagerly, steps_per_epoch
        settings = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]
        data = ["--preset", "faster_rcnn_small_dcnv1", "--train", records, "--val", records]
        images = ["--short-side", "64", "--max-side", "96", "--batch-size", str(8 // steps_per_epoch)]
        optimizer = "sgd" if eagerly else "adam"  # whose many small ops take a third of an eager step
        training = f"--epochs {epochs} --optimizer {optimizer} --warmup-steps 0 --evaluate-every 3 --seed 0".split()
        self.first = [*data, *images, *training, "--pictures", "0", "--no-tensorboard", *settings, *more]
        self.folder = RunFolder(folder)

    @contextlib.contextmanager
    def started(self, die_in: int = 0) -> Iterator[tuple[BaseProcess, TextIO]]:
        """Starts the run, or continues it if there is one, in a process; gives it and its output, and waits for it."""
        words = [*(["--resume"] if self.folder.holds_a_run() else self.first), "--output", str(self.folder)]
        reader, writer = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=train, args=(words, die_in, self.eagerly, writer))
        process.start()
        writer.close()
        with reader, open(reader.fileno(), closefd=False) as output:
            yield process, output
            process.join()

    def steps(self) -> int:
        state = self.folder.backups.load_state()
        return 0 if state is None else state.steps

    def kill_in_write(self, number: int) -> None:
        """Lets it kill itself in the middle of a file."""
        with self.started(die_in=number) as (process, output):
            printed = output.read()
        assert process.exitcode == -signal.SIGKILL, printed

    def kill_after(self, epochs: int, seconds: float) -> None:
        """Kills it so long after its n-th epoch; after none, while it builds the graph."""
        with self.started() as (process, output):
            for line in output:
                epochs -= line.startswith("epoch")
                if epochs <= 0 and line.startswith(("model", "epoch")):
                    break
            time.sleep(seconds)
            process.kill()
        assert process.exitcode == -signal.SIGKILL

    def stop_after(self, epochs: int) -> None:
        """Asks it to stop after its n-th epoch, as Ctrl-C, Slurm and Kubernetes do."""
        with self.started() as (process, output):
            for line in output:
                epochs -= line.startswith("epoch")
                if epochs == 0:
                    break
            process.terminate()
            rest = output.read()
        assert process.exitcode == 0, rest
        assert "stopping   SIGTERM" in rest
        assert f"next       tf-dcnv2 train --resume --output {self.folder}" in rest

    def finish(self) -> None:
        with self.started() as (process, output):
            printed = output.read()
        assert process.exitcode == 0, printed
        state = self.folder.backups.load_state()
        assert (state.steps, state.is_finished) == (self.steps_per_epoch * self.epochs, True)
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
    run = Run(synthetic_records, tmp_path / "run", epochs=6, eagerly=True, steps_per_epoch=1)
    # In the backup of its second epoch, in last.keras after it was resumed, and while it trains.
    kill_and_finish(
        run, [(run.kill_in_write, 14), (run.kill_in_write, 2), (run.kill_after, 1, 0.2), (run.stop_after, 1)]
    )


@pytest.mark.slow
def test_a_run_ends_with_the_weights_it_would_have_had_after_twenty_kills(synthetic_records, tmp_path):
    options = ["--checkpoint-steps", "1", "--deterministic", "--ema", "0.9"]
    run = Run(synthetic_records, tmp_path / "run", epochs=80, more=options)
    choose = random.Random(0)
    kills = [(run.kill_in_write, choose.randint(1, 30)) for _ in range(10)]
    kills += [(run.kill_after, choose.randint(0, 3), choose.uniform(0, 0.5)) for _ in range(10)]
    choose.shuffle(kills)
    kill_and_finish(run, kills)
    whole = Run(synthetic_records, tmp_path / "whole", epochs=80, more=options)
    whole.finish()
    detectors = [keras.saving.load_model(one.folder.last, compile=False) for one in (run, whole)]
    for weight, other in zip(*(detector.get_weights() for detector in detectors), strict=True):
        np.testing.assert_array_equal(weight, other)
