"""The folder of a run as the processes see it that are not its chief: they read it, and write nothing."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras

from tf_dcnv2.training.backups import Backups, RunState
from tf_dcnv2.training.run_folder import RunFolder


class FollowedRun(RunFolder):
    """The folder of a run that another process writes.

    Args:
        path: the same folder as the chief's.
    """

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.backups = _FollowedBackups(self.path / "backup")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Leaves it to the chief to keep others out."""
        yield

    def write_config(self, config: dict[str, Any]) -> None:
        """Leaves it to the chief."""

    def write_weight_report(self, lines: list[str]) -> None:
        """Leaves it to the chief."""

    def save_last(self, detector: keras.Model) -> None:
        """Leaves it to the chief."""

    def complete(self, state: RunState, detector: keras.Model) -> None:
        """Leaves it to the chief."""

    def remove_leftovers(self) -> None:
        """Leaves it to the chief."""


class _FollowedBackups(Backups):
    def save(self, state: RunState, variables: Sequence[Any]) -> None:
        """Leaves it to the chief."""
