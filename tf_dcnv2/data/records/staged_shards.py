"""Record files that get their names only when all of them are complete."""

import contextlib
import os
from collections.abc import Iterator

from tf_dcnv2._core.atomic_files import hidden_prefix
from tf_dcnv2.data.records import files as record_files


class StagedShards:
    """Record files under temporary names until `publish` gives them their final ones."""

    def __init__(self, prefix: str, num_shards: int):
        self._prefix = prefix
        self.final = record_files.shard_paths(prefix, num_shards)
        # Hidden names match no "train-*" pattern; the process id keeps concurrent conversions apart.
        self.staged = [
            os.path.join(os.path.dirname(path), f"{hidden_prefix(os.path.basename(path))}{index}.{os.getpid()}.tmp")
            for index, path in enumerate(self.final)
        ]

    def publish(self) -> None:
        """Gives the files their names, and deletes shards of earlier records of the prefix."""
        for stale in set(record_files.existing_shards(self._prefix)) - set(self.final):
            os.unlink(stale)
        for staged, final in zip(self.staged, self.final, strict=True):
            os.replace(staged, final)


@contextlib.contextmanager
def staged_shards(prefix: str, num_shards: int) -> Iterator[StagedShards]:
    """Shards to write to inside the block; after it, those without a final name are deleted."""
    shards = StagedShards(prefix, num_shards)
    try:
        yield shards
    finally:
        for path in shards.staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
