"""One process at a time works in a folder."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# What flock reports where a file system, or the way in which it is mounted, knows no locks.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextlib.contextmanager
def exclusive_lock(path: Path, work: str) -> Iterator[None]:
    """Holds a lock on the file `path` inside the block; the file is made if there is none.

    The lock ends with its process, however that ends. Where the file system knows no locks, the block runs without.

    Args:
        path: the file.
        work: what another process may be doing there, such as "is being trained", for the message about it.

    Raises:
        RuntimeError: another process holds the lock.
        OSError: the file cannot be made.
    """
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have deleted the file in the meantime, and then the lock excludes nobody.
            is_held_elsewhere = os.fstat(file.fileno()).st_nlink == 0
        except BlockingIOError:
            is_held_elsewhere = True
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            is_held_elsewhere = False
        if is_held_elsewhere:
            raise RuntimeError(
                f"{path.parent} {work} by another process. Wait for its end or stop it, or choose another output."
            )
        yield
