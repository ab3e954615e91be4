"""The files of a training run, and who writes them when.

    config.yaml     options, detector configuration, categories, and what the data were
    backup/         what resuming needs, see `Backups`: the one truth about how far the run is
    last.keras      the detector after the last epoch
    best.keras      the detector with the highest AP so far
    log.csv         losses and metrics of every epoch
    pictures/       what is annotated and detected in a few images, by epoch
    tensorboard/    losses, learning rate, metrics and pictures by step, for TensorBoard
    state.json      steps, epochs, minutes and best AP, for other programs to read
    weights.txt     what was loaded from the starting weights
    .lock           empty; locked while a process trains the run

Every file but TensorBoard's is replaced as a whole. At the end of an epoch the backup is written first, and the others
follow from it: `complete` repeats what a kill in between has left out.
"""

import contextlib
import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import yaml

from tf_dcnv2._core.atomic_files import atomic_file, leftover_of, write_atomically
from tf_dcnv2._core.folder_lock import exclusive_lock
from tf_dcnv2._core.yaml_files import read_yaml
from tf_dcnv2.models.weights import require_finite_weights
from tf_dcnv2.training.backups import Backups, RunState

_FILES = ("backup", "last.keras", "best.keras", "log.csv", "state.json", "weights.txt", "pictures", "tensorboard")


class RunFolder:
    """The folder of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.backups = Backups(self.path / "backup")

    def __str__(self) -> str:
        return str(self.path)

    @property
    def _state_path(self) -> Path:
        return self.path / "state.json"

    @property
    def last(self) -> Path:
        """The detector after the last epoch."""
        return self.path / "last.keras"

    @property
    def best(self) -> Path:
        """The detector with the highest AP."""
        return self.path / "best.keras"

    @property
    def pictures(self) -> Path:
        """The folder of pictures of detections."""
        return self.path / "pictures"

    @property
    def summaries(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    def holds_a_run(self) -> bool:
        """Whether a run was started here."""
        return (self.path / "config.yaml").exists()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps other processes from training in the folder inside the block.

        The folder is made if need be, and removed again where no run has begun in the end.

        Raises:
            RuntimeError: another process trains there.
            OSError: the folder cannot be made or written.
        """
        lock = self.path / ".lock"
        new = [path for path in (lock, self.path, *self.path.parents) if not os.path.lexists(path)]
        self.path.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(lock, "is being trained"):
            try:
                yield
            finally:
                if not self.holds_a_run():
                    _remove_if_empty(new)

    def refuse_foreign_files(self) -> None:
        """Checks that a new run would replace nothing.

        A run's configuration is written first: without one, the files of a run are somebody else's.

        Raises:
            FileExistsError: there are such files; the message names them.
        """
        if names := [name for name in _FILES if os.path.lexists(self.path / name)]:
            raise FileExistsError(
                f"{self.path} holds no run, but {', '.join(names)}, which a run would replace. Choose another output "
                "folder."
            )

    def read_config(self) -> dict[str, Any]:
        """Reads what `write_config` wrote.

        Raises:
            ValueError: the file is not the configuration of a run.
        """
        path = self.path / "config.yaml"
        config = read_yaml(path)
        if not isinstance(config, dict) or not isinstance(config.get("options"), dict):
            raise ValueError(f"{path} is not the configuration of a run: it has no options.")
        return config

    def write_config(self, config: dict[str, Any]) -> None:
        """Makes the folder that of a run, or says what the run is from now on."""
        write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def write_weight_report(self, lines: list[str]) -> None:
        """Lists what was loaded from the starting weights."""
        write_atomically(self.path / "weights.txt", "\n".join(lines) + "\n")

    def save_last(self, detector: keras.Model) -> None:
        """Writes the detector that a run ends with before its time."""
        save_detector(detector, self.last)

    def complete(self, state: RunState, detector: keras.Model) -> None:
        """Writes what follows from a backup: detectors, log and state.

        Args:
            state: of the backup.
            detector: with the weights that were evaluated.
        """
        save_detector(detector, self.last)
        if state.is_best:
            save_detector(detector, self.best)
        write_atomically(self.path / "log.csv", _as_csv(state.history))
        write_atomically(self._state_path, self.state_text(state))

    def is_complete(self, state: RunState) -> bool:
        """Whether `complete` came to its end after the backup of this state."""
        return self._state_path.exists() and self._state_path.read_text(encoding="utf-8") == self.state_text(state)

    def lacks_its_backup(self) -> bool:
        """Whether an epoch has ended here, but what it left for resuming cannot be read."""
        return (self.backups.exist() or self._state_path.exists()) and self.backups.load_state() is None

    @staticmethod
    def state_text(state: RunState) -> str:
        """The content of state.json."""
        return json.dumps({name: value for name, value in dataclasses.asdict(state).items() if name != "history"})

    def remove_leftovers(self) -> None:
        """Deletes what a killed process of this run had not written to its end, and no files of other programs."""
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if leftover_of(path.name) in ("config.yaml", *_FILES):
                path.unlink()
        for path in self.pictures.glob("epoch-*/*"):
            if re.fullmatch(r"image-\d+\.jpg", leftover_of(path.name) or ""):
                path.unlink()
        self.backups.remove_leftovers()


def _remove_if_empty(paths: list[Path]) -> None:
    """Deletes files, and folders with nothing in them, in this order."""
    for path in paths:
        with contextlib.suppress(OSError):
            path.rmdir() if path.is_dir() else path.unlink()


def save_detector(detector: keras.Model, path: str | os.PathLike) -> None:
    """Saves to `path` all at once: an interrupted save leaves the previous file.

    Raises:
        ValueError: the weights are not finite; such a detector is not worth the file it would replace.
        OSError: the file cannot be written; the error names it.
    """
    require_finite_weights(detector, f"{os.fspath(path)} is not written")
    # In memory first: on a full disk HDF5, inside the file, fails in ways that can end the process.
    content = _KerasFile()
    # Keras makes an optimizer to compare with. In the scope of a strategy its variables would wait for those of the
    # other processes, which do not save; a thread of its own is in no scope.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(keras.saving.save_model, detector, content).result()
    with atomic_file(path) as file:
        file.write(content.getbuffer())


class _KerasFile(io.BytesIO):
    """A file in memory that Keras recognises by its name."""

    def __str__(self) -> str:
        return "detector.keras"


def _as_csv(rows: tuple[dict[str, float], ...]) -> str:
    columns = sorted({name for row in rows for name in row} - {"epoch"})
    text = io.StringIO()
    writer = csv.DictWriter(text, ["epoch", *columns], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
