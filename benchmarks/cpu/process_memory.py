"""The memory of this process, as Linux tells it. Needs no framework."""

from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """What it holds now.

    Raises:
        OSError: the system does not tell.
        KeyError: likewise.
    """
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The most that it has held since it started, or since its peak was reset.

    `ru_maxrss` would not do: it begins with what the parent of this process held.

    Raises:
        OSError: the system does not tell.
        KeyError: likewise.
    """
    return _status_bytes("VmHWM")


def _status_bytes(field: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return 1024 * int(lines[field].split()[0])
