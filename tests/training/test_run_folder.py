"""What a run keeps, through kills at every moment, damaged files and full disks: no detector is needed for this."""

import collections
import contextlib
import csv
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from tests.support.reference_vectors import REPOSITORY
from tf_dcnv2._core import atomic_files
from tf_dcnv2.training.averages import AveragedWeights
from tf_dcnv2.training.backups import Backups, RunState
from tf_dcnv2.training.budget import Budget
from tf_dcnv2.training.checkpoints import KeepRun, run_variables
from tf_dcnv2.training.progress import RunProgress
from tf_dcnv2.training.run_folder import RunFolder, save_detector


def small_model(value: float = 0.0, units: int = 2) -> keras.Model:
    """A model whose variables, and those of its optimizer, all have one value."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="mse")
    set_all(model, value)
    return model


def set_all(model: keras.Model, value: float) -> None:
    for variable in run_variables(model):
        variable.assign(np.full(variable.shape, value))


def values_of(model: keras.Model) -> set[float]:
    return {float(value) for variable in run_variables(model) for value in np.ravel(variable)}


class Epochs:
    """Ends the epochs of a run that trains nothing: after its n-th all variables are n.

    Args:
        folder: of the run; `like` gives the progress of another one, whose files are copied there.
    """

    def __init__(self, folder, steps=100, like=None):
        self.model = like.model if like else small_model()
        if like:
            shutil.copytree(like.run.path, folder)
        self.run = RunFolder(folder)
        state = like.progress.state if like else RunState()
        self.progress = RunProgress(Budget(steps=steps), steps_per_epoch=10, state=state)
        self.keep = KeepRun(self.run, self.model, self.progress, {"options": {}}, AveragedWeights(self.model))
        self.keep.set_model(self.model)

    def end(self, epoch, **logs):
        set_all(self.model, epoch + 1)
        self.progress.budget.steps_done = 10 * epoch + 9
        self.progress.budget.count_step()
        self.keep.on_epoch_end(epoch, {"loss": 1.0, **logs})


def kernel_in(path) -> float:
    return float(keras.saving.load_model(path, compile=False).layers[0].kernel[0, 0])


def test_the_best_detector_is_not_overwritten_by_a_worse_one(tmp_path):
    epochs = Epochs(tmp_path)
    for epoch, ap in enumerate([0.2, 0.5, 0.3, float("nan"), 0.5]):
        epochs.end(epoch, val_AP=ap)
        assert kernel_in(tmp_path / "last.keras") == epoch + 1
    assert kernel_in(tmp_path / "best.keras") == 2
    assert (epochs.progress.state.best_ap, epochs.progress.state.best_steps) == (0.5, 20)
    epochs.end(5, val_AP=0.6)
    assert kernel_in(tmp_path / "best.keras") == 6


def test_without_an_evaluation_no_detector_is_called_the_best(tmp_path):
    Epochs(tmp_path).end(0)
    assert (tmp_path / "last.keras").exists()
    assert not (tmp_path / "best.keras").exists()


def test_the_log_has_a_row_for_every_epoch_whatever_they_measured(tmp_path):
    epochs = Epochs(tmp_path)
    epochs.end(0)
    epochs.end(1, val_AP=0.25)
    with open(tmp_path / "log.csv") as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "0", "loss": "1.0", "val_AP": ""},
            {"epoch": "1", "loss": "1.0", "val_AP": "0.25"},
        ]


def test_the_state_is_there_for_other_programs_to_read(tmp_path):
    epochs = Epochs(tmp_path, steps=20)
    epochs.end(0, val_AP=0.25)
    state = json.loads((tmp_path / "state.json").read_text())
    assert {"steps": 10, "epochs": 1, "best_ap": 0.25, "is_finished": False}.items() <= state.items()
    epochs.end(1, val_AP=0.5)
    assert json.loads((tmp_path / "state.json").read_text())["is_finished"]


def test_a_backup_gives_weights_and_the_optimizers_state_back(tmp_path):
    state = RunState(steps=30, epochs=2, seconds=1.5, best_ap=0.25, best_steps=15, history=({"epoch": 0, "loss": 2.0},))
    Backups(tmp_path).save(state, run_variables(small_model(7.0)))
    backup = Backups(tmp_path).load()
    assert backup.state == state
    model = small_model()
    backup.restore(run_variables(model))
    assert values_of(model) == {7.0}


def test_a_backup_of_an_earlier_version_which_did_not_count_its_variables_is_read(tmp_path):
    state = json.dumps({**vars(RunState(steps=10)), "history": []}).encode()
    np.savez(tmp_path / "step-000000010.npz", **{"state": np.frombuffer(state, np.uint8), "00000": np.ones(3)})
    backup = Backups(tmp_path).load()
    assert backup.state == RunState(steps=10)
    np.testing.assert_array_equal(backup.values, [np.ones(3)])


def test_a_backup_of_another_model_is_refused(tmp_path):
    Backups(tmp_path).save(RunState(), run_variables(small_model()))
    with pytest.raises(ValueError, match="of another model or optimizer"):
        Backups(tmp_path).load().restore(run_variables(small_model(units=3)))


def test_two_generations_are_kept_while_a_run_lasts_and_one_when_it_is_over(tmp_path):
    backups, variables = Backups(tmp_path), run_variables(small_model())
    for steps in (10, 20, 30):
        backups.save(RunState(steps=steps), variables)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020.npz", "step-000000030.npz"]
    backups.save(RunState(steps=40, is_finished=True), variables)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000040.npz"]


def cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def one_bit_changed(content: bytes) -> bytes:
    where = content.rindex(np.float32(2.0).tobytes())  # in a weight
    return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]


def last_variable_hidden(content: bytes) -> bytes:
    """The entry before the last in the zip file's list of contents takes the last for its comment."""
    *_, before, last = (where.start() for where in re.finditer(rb"PK\x01\x02", content))
    length = content.rindex(b"PK\x05\x06") - last
    return content[: before + 32] + length.to_bytes(2, "little") + content[before + 34 :]


DAMAGES = [cut_off, one_bit_changed, last_variable_hidden, lambda content: b"", lambda content: b"no zip file"]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_backup_makes_way_for_the_one_before_it(tmp_path, damage):
    backups, model = Backups(tmp_path), small_model(1.0)
    backups.save(RunState(steps=10), run_variables(model))
    set_all(model, 2.0)
    backups.save(RunState(steps=20), run_variables(model))
    newest = tmp_path / "step-000000020.npz"
    newest.write_bytes(damage(newest.read_bytes()))
    backup = backups.load()
    assert backup.state.steps == 10
    backup.restore(run_variables(model))
    assert values_of(model) == {1.0}


def corrupted(content: bytes, choose: random.Random) -> bytes:
    """With bytes changed, cut off or overwritten somewhere; most often where zip files have their structure."""
    changed = bytearray(content)
    places = [
        where.start() + choose.randrange(46) for where in re.finditer(rb"PK(\x01\x02|\x03\x04|\x05\x06)", content)
    ]
    kind = choose.choice(["structure"] * 5 + ["byte", "cut", "zeros"])
    where = choose.choice(places) if kind == "structure" else choose.randrange(len(content))
    where = min(where, len(content) - 1)
    if kind == "cut":
        return content[:where]
    if kind == "zeros":
        changed[where : where + 512] = bytes(len(changed[where : where + 512]))
    else:
        changed[where] = choose.choice([changed[where] ^ 1 << choose.randrange(8), choose.randrange(256)])
    return bytes(changed)


def test_no_corruption_of_a_backup_hides_the_one_before_it(tmp_path):
    backups, model, choose = Backups(tmp_path), small_model(1.0), random.Random(0)
    backups.save(RunState(steps=10), run_variables(model))
    set_all(model, 2.0)
    backups.save(RunState(steps=20), run_variables(model))
    content = (tmp_path / "step-000000020.npz").read_bytes()
    (tmp_path / "step-000000020.npz").unlink()
    seen = collections.Counter()
    for number in range(600):
        path = tmp_path / f"step-{100 + number}.npz"
        path.write_bytes(corrupted(content, choose))
        state, backup = backups.load_state(), backups.load()
        assert state == backup.state
        # Either the damage is noticed, or it is where it does not matter, such as in a date.
        assert len(backup.values) == len(run_variables(model))
        assert {float(x) for value in backup.values for x in np.ravel(value)} == {state.steps / 10}
        seen[state.steps] += 1
        path.unlink()
    assert seen[10] > 300


@pytest.mark.parametrize(("is_finished", "kept"), [(False, [200, 240]), (True, [240])])
def test_a_damaged_backup_outlives_no_good_one(tmp_path, is_finished, kept):
    backups, model = Backups(tmp_path), small_model()
    for steps in (200, 250):
        backups.save(RunState(steps=steps), run_variables(model))
    (tmp_path / "step-000000250.npz").write_bytes(b"damaged")
    assert backups.load().state.steps == 200
    # By the clock, the run ends earlier than it had come before.
    backups.save(RunState(steps=240, is_finished=is_finished), run_variables(model))
    assert backups.load().state.steps == 240
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{steps:09}.npz" for steps in kept]


def test_the_newest_backup_is_that_of_most_steps_however_many_digits_they_have(tmp_path):
    backups, variables = Backups(tmp_path), run_variables(small_model())
    for steps in (999_999_999, 1_000_000_000):
        backups.save(RunState(steps=steps), variables)
    assert backups.load().state.steps == 1_000_000_000


class Killed(BaseException):
    """The end of a process; no more files are touched after it, not even to tidy up."""


class DyingFileSystem:
    """Replaces the calls that change files: the one with number `last` is cut short, and none works after it."""

    def __init__(self, monkeypatch, last):
        self.calls, self.last = 0, last
        for name in ("fsync", "replace", "unlink", "chmod"):
            monkeypatch.setattr(os, name, self._wrap(name, getattr(os, name)))

    def _wrap(self, name, function):
        def call(*arguments, **named):
            self.calls += 1
            if self.calls == self.last and name == "fsync":
                with contextlib.suppress(OSError):  # a folder
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)  # half of it had been written
            if self.calls >= self.last:
                raise Killed
            return function(*arguments, **named)

        return call


def test_a_kill_at_any_moment_of_writing_leaves_a_run_that_can_be_resumed(tmp_path, monkeypatch):
    before = Epochs(tmp_path / "before")
    for epoch in (0, 1):
        before.end(epoch, val_AP=0.1 * (epoch + 1))
    counted = Epochs(tmp_path / "counted", like=before)
    with monkeypatch.context() as patch:
        files = DyingFileSystem(patch, last=10**6)
        counted.end(2, val_AP=0.3)
    assert files.calls > 15
    for last in range(1, files.calls + 1):
        folder = tmp_path / str(last)
        epochs = Epochs(folder, like=before)
        with monkeypatch.context() as patch:
            DyingFileSystem(patch, last)
            with pytest.raises(Killed):
                epochs.end(2, val_AP=0.3)
        # Whatever is there under its own name is whole.
        assert all(zipfile.ZipFile(folder / name).testzip() is None for name in ("last.keras", "best.keras"))
        run, model = epochs.run, epochs.model
        backup = run.backups.load()
        assert backup.state.epochs in (2, 3)
        set_all(model, 0.0)
        backup.restore(run_variables(model))
        assert values_of(model) == {backup.state.epochs}
        # Resuming repeats what the kill has left out.
        run.remove_leftovers()
        run.complete(backup.state, model)
        assert run.is_complete(backup.state)
        assert {kernel_in(folder / name) for name in ("last.keras", "best.keras")} == {backup.state.epochs}
        assert len((folder / "log.csv").read_text().splitlines()) == 1 + backup.state.epochs
        assert not list(folder.rglob("*.tmp"))


def everything_in(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_a_run_that_never_began_leaves_no_folder_behind(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".lock").touch()
    before = everything_in(tmp_path)
    for folder in (tmp_path / "new" / "run", tmp_path / "empty", tmp_path / "empty" / "run", tmp_path / "mine"):
        with pytest.raises(ValueError, match="a mistake"), RunFolder(folder).in_use():
            assert (folder / ".lock").exists()
            raise ValueError("a mistake")
    assert everything_in(tmp_path) == before


def test_a_folder_in_use_keeps_what_appeared_there(tmp_path):
    with RunFolder(tmp_path / "new" / "run").in_use():
        (tmp_path / "new" / "notes.txt").touch()
    assert everything_in(tmp_path) == {"new", "new/notes.txt"}
    with RunFolder(tmp_path / "run").in_use():
        RunFolder(tmp_path / "run").write_config({"options": {}})
    assert everything_in(tmp_path / "run") == {"config.yaml", ".lock"}


def test_only_a_runs_own_temporary_files_are_deleted(tmp_path):
    run = RunFolder(tmp_path)
    (tmp_path / "backup").mkdir()
    own = ["config.yaml", "last.keras", "best.keras", "log.csv", "state.json", "weights.txt"]
    for path in (*map(tmp_path.joinpath, own), tmp_path / "backup" / "step-000000010.npz"):
        path.with_name(f".{path.name}.a1b2c3_4.tmp").touch()
    others = {".editor.tmp", ".log.csv.tmp", ".thesis.txt.a1b2c3_4.tmp", ".train-00000-of-00001.tfrecord.0.42.tmp"}
    for name in others:
        (tmp_path / name).touch()
        (tmp_path / "backup" / name).touch()
    run.remove_leftovers()
    for folder in (tmp_path, tmp_path / "backup"):
        assert {path.name for path in folder.iterdir() if path.is_file()} == others


def test_a_detector_with_weights_that_are_not_finite_is_not_saved(tmp_path):
    save_detector(small_model(1.0), tmp_path / "last.keras")
    with pytest.raises(ValueError, match=r"last.keras is not written: .*kernel and 1 more weights hold NaN"):
        save_detector(small_model(float("nan")), tmp_path / "last.keras")
    assert kernel_in(tmp_path / "last.keras") == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["last.keras"]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from tests.training.test_run_folder import Epochs
epochs = Epochs(Path(sys.argv[1]))
epochs.end(0)
# Writes beyond so many bytes of a file fail, as they do on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    epochs.end(1)
except OSError as error:
    print(f"{error.filename}: {error.strerror}")
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system has no limit of file sizes")
def test_a_full_disk_is_one_clean_error_and_loses_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path), "500"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{tmp_path / 'backup' / 'step-000000020.npz'}: File too large"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert RunFolder(tmp_path).backups.load().state.steps == 10
    assert kernel_in(tmp_path / "last.keras") == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_write_that_fails_names_its_file(tmp_path, monkeypatch):
    def no_space(handle):
        raise OSError(28, "No space left on device")

    (tmp_path / "log.csv").write_text("kept")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left on device") as error:
        atomic_files.write_atomically(tmp_path / "log.csv", "new")
    assert error.value.filename == str(tmp_path / "log.csv")
    assert (tmp_path / "log.csv").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["log.csv"]


def test_moving_averages_are_in_the_model_only_while_they_are_used(tmp_path):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), loss="mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(1)
    kernel, (average,) = model.layers[0].kernel, model.optimizer._model_variables_moving_average
    kernel.assign([[1.0]])
    average.assign([[2.0]])
    with AveragedWeights(model).in_use():
        assert (float(kernel[0, 0]), float(average[0, 0])) == (2.0, 1.0)
    assert (float(kernel[0, 0]), float(average[0, 0])) == (1.0, 2.0)


def test_before_the_first_step_there_are_no_averages_to_use():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.1, use_ema=True), loss="mse")
    model.optimizer.build(model.trainable_variables)
    with AveragedWeights(model).in_use():
        assert float(model.layers[0].kernel[0, 0]) == 1.0
