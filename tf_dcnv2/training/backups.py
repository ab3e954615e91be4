"""What a run needs to go on after a kill: weights, state of the optimizer and progress, as one atomic file."""

import dataclasses
import functools
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from tf_dcnv2._core.atomic_files import atomic_file, leftover_of

GENERATIONS = 2

_NAME = re.compile(r"step-(\d+)\.npz")


@dataclasses.dataclass(frozen=True)
class RunState:
    """The progress of a run.

    Attributes:
        steps: optimizer steps made.
        epochs: epochs that have ended, the last perhaps before its time.
        seconds: wall-clock time used.
        best_ap: highest AP of an evaluation so far, -1 before the first.
        best_steps: steps after which that was.
        is_finished: whether the budget is used up.
        history: the epochs' losses and metrics, the rows of log.csv.
    """

    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    best_ap: float = -1.0
    best_steps: int = 0
    is_finished: bool = False
    history: tuple[dict[str, float], ...] = ()

    @property
    def is_best(self) -> bool:
        """Whether the last epoch ended with the highest AP so far."""
        return self.best_steps == self.steps > 0


@dataclasses.dataclass(frozen=True)
class Backup:
    """A state, and the values of the model's and the optimizer's variables at that time."""

    state: RunState
    values: tuple[np.ndarray, ...]

    def restore(self, variables: Sequence[keras.Variable]) -> None:
        """Gives the variables their values back.

        Raises:
            ValueError: they are not those of the model that was backed up.
        """
        shapes, saved = [tuple(variable.shape) for variable in variables], [value.shape for value in self.values]
        if shapes != saved:
            raise ValueError(
                f"The backup is of another model or optimizer: it has {len(saved)} variables, this one {len(shapes)}, "
                f"and {sum(a != b for a, b in zip(shapes, saved, strict=False))} of them differ in shape."
            )
        for variable, value in zip(variables, self.values, strict=True):
            variable.assign(value)


class Backups:
    """The last generations of a run's backup.

    Each is one file, written under another name and renamed when it is complete: a kill at any moment leaves either
    the new one or those before it. Should the newest be damaged all the same, the one before it is read.

    Args:
        folder: where the files are.
    """

    def __init__(self, folder: Path):
        self._folder = folder

    def save(self, state: RunState, variables: Sequence[keras.Variable | np.ndarray]) -> None:
        """Writes a new generation, and then deletes all but this one and the one before it.

        Raises:
            OSError: it cannot be written; the generations before it are still there.
        """
        values = {f"{index:05}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(variables)}
        content = {**dataclasses.asdict(state), "variables": len(values)}
        description = np.frombuffer(json.dumps(content).encode(), np.uint8)
        path = self._folder / f"step-{state.steps:09}.npz"
        with atomic_file(path) as file:
            np.savez(file, state=description, **values)
        # A finished run is not written any more: one generation is enough.
        kept = 1 if state.is_finished else GENERATIONS
        newest_first = self._newest_first()
        position = newest_first.index(path)
        # What is of later steps cannot be read: otherwise the run would have gone on from there.
        for other in (*newest_first[:position], *newest_first[position + kept :]):
            other.unlink()

    def exist(self) -> bool:
        """Whether there is any, readable or not."""
        return bool(self._newest_first())

    def load(self) -> Backup | None:
        """The newest one that can be read; None if there is none."""
        return next((Backup(state, _read_values(path)) for path, state in self._readable()), None)

    def load_state(self) -> RunState | None:
        """The state of that one; without its values, so that asking again costs nothing."""
        return next((state for _, state in self._readable()), None)

    def remove_leftovers(self) -> None:
        """Deletes what a killed process had not written to its end."""
        for path in self._files():
            if _NAME.fullmatch(leftover_of(path.name) or ""):
                path.unlink()

    def _readable(self) -> Iterator[tuple[Path, RunState]]:
        """Yields the generations that can be read, newest first."""
        for path in self._newest_first():
            if (state := _state_of(path)) is not None:
                yield path, state

    def _newest_first(self) -> list[Path]:
        steps = {path: int(match[1]) for path in self._files() if (match := _NAME.fullmatch(path.name))}
        return sorted(steps, key=steps.__getitem__, reverse=True)

    def _files(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []


def _state_of(path: Path) -> RunState | None:
    """The state in a backup; None if the file is damaged anywhere, in its arrays too."""
    try:
        status = path.stat()
        return _read_state(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except Exception:
        # zipfile, its decompressors and json have errors of a dozen kinds for files that are cut off, overwritten or
        # of another version, MemoryError among them.
        return None


@functools.lru_cache(maxsize=64)
def _read_state(path: Path, *identity: int) -> RunState:
    """Reads the whole file, and a file of the same identity only once: resuming asks several times."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():  # compares the check sums of all that is in it
            raise zipfile.BadZipFile(f"{path}: {damaged} is damaged")
    with np.load(path) as arrays:
        state = json.loads(arrays["state"].tobytes())
        found = len(_names(arrays))
    # Damage to a zip file's list of contents may hide some of them. Earlier versions did not count the variables.
    if (expected := state.pop("variables", found)) != found:
        raise zipfile.BadZipFile(f"{path}: {found} variables of {expected} are left")
    return RunState(**{**state, "history": tuple(state["history"])})


def _read_values(path: Path) -> tuple[np.ndarray, ...]:
    with np.load(path) as arrays:
        return tuple(arrays[name] for name in _names(arrays))


def _names(arrays: np.lib.npyio.NpzFile) -> list[str]:
    """The names of the variables, in their order."""
    return sorted(set(arrays.files) - {"state"})
