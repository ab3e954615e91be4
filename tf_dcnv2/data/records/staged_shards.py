"""Record files in the making, which get their names only when all of them are complete."""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_dcnv2._core.atomic_files import hidden_prefix, write_atomically
from tf_dcnv2._core.folder_lock import exclusive_lock
from tf_dcnv2.data.records import files as record_files


class StagedShards:
    """Shards in a hidden folder until `publish` gives them their names.

    Each finished shard is kept with a description, so that work that was interrupted goes on after it.
    """

    def __init__(self, prefix: str, num_shards: int, folder: Path):
        self._prefix, self._folder = prefix, folder
        self.final = record_files.shard_paths(prefix, num_shards)

    def absolute(self) -> "StagedShards":
        """The same shards, for a process with another working directory."""
        return StagedShards(os.path.abspath(self._prefix), len(self.final), self._folder.absolute())

    def path(self, index: int) -> str:
        """Where a shard is until `publish`."""
        return str(self._folder / f"{index}.tfrecord")

    @contextlib.contextmanager
    def new_shard(self, index: int) -> Iterator[str]:
        """A file to write a shard to inside the block, whose end puts it in place.

        Each block has a file of its own: runners of Beam try again, and may let two workers do the same work.
        """
        path = self._folder / f"{index}.{uuid.uuid4().hex}.tmp"
        try:
            yield str(path)
            os.rename(path, self.path(index))
        finally:
            path.unlink(missing_ok=True)

    def finish(self, index: int, description: dict[str, Any]) -> None:
        """Marks a shard as complete, with a description in plain JSON."""
        size = os.path.getsize(self.path(index))
        write_atomically(str(self._description(index)), json.dumps({"bytes": size, "description": description}))

    def description(self, index: int) -> dict[str, Any] | None:
        """The description of a finished shard; None if it is still to be written."""
        try:
            content = json.loads(self._description(index).read_text(encoding="utf-8"))
            is_whole = content["bytes"] == os.path.getsize(self.path(index))
        except (OSError, ValueError):
            return None
        return content["description"] if is_whole else None

    def sizes(self) -> list[int]:
        """The sizes of all shards in bytes."""
        return [os.path.getsize(self.path(index)) for index in range(len(self.final))]

    def publish(self) -> None:
        """Gives the files their names, and deletes shards of earlier records of the prefix."""
        for stale in set(record_files.existing_shards(self._prefix)) - set(self.final):
            os.unlink(stale)
        for index, final in enumerate(self.final):
            os.replace(self.path(index), final)
        shutil.rmtree(self._folder)

    def discard(self) -> None:
        """Deletes all of them."""
        shutil.rmtree(self._folder)

    def _description(self, index: int) -> Path:
        return self._folder / f"{index}.json"


@contextlib.contextmanager
def staged_shards(prefix: str, num_shards: int, source: str) -> Iterator[StagedShards]:
    """Shards to write to inside the block.

    Those that were finished in an earlier block, which ended before `publish`, are there already, if they have the same
    source. A block that finishes none leaves nothing behind.

    Args:
        prefix: of the records.
        num_shards: how many there are to be.
        source: what the shards follow from, in a form that is the same only for the same shards.

    Raises:
        RuntimeError: another process is writing records of the same prefix.
    """
    # A hidden name matches no "train-*" pattern.
    folder = Path(os.path.dirname(prefix) or os.curdir) / f"{hidden_prefix(os.path.basename(prefix))}parts"
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / ".lock", "is being written"):
        shards = StagedShards(prefix, num_shards, folder)
        known = folder / "source"
        if not (known.exists() and known.read_text() == source):
            for path in folder.iterdir():
                if path.name != ".lock":
                    path.unlink()
            write_atomically(str(known), source)
        try:
            yield shards
        finally:
            if folder.exists() and all(shards.description(index) is None for index in range(num_shards)):
                shutil.rmtree(folder)
