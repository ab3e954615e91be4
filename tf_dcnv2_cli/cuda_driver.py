"""The NVIDIA driver of this machine and its GPUs, and which driver a library that was built with CUDA needs.

The driver is asked through its own library, without any package.
"""

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

# By major release of CUDA, the oldest Linux driver that runs its programs: "CUDA Minor Version Compatibility" in the
# release notes of the toolkits.
OLDEST_DRIVERS = {12: "525.60.13", 13: "580.65.06"}

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_LIBRARY = "libcuda.so.1"
# CUdevice_attribute
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NO_DEVICE = 100


class DriverError(RuntimeError):
    """There is a driver, but it does not work."""


class Gpu(NamedTuple):
    name: str
    capability: tuple[int, int]


class Driver(NamedTuple):
    cuda: tuple[int, int]  # the newest release of CUDA that it knows
    gpus: tuple[Gpu, ...]
    version: str = ""  # such as "580.65.06"; empty where the system does not tell, as Windows' for Linux

    def runs(self, cuda: str) -> bool:
        """Whether it runs machine code of this release of CUDA: it must know one of the same major release."""
        return self.cuda[0] >= _numbers(cuda)[0]

    def compiles(self, cuda: str) -> bool:
        """Whether it compiles PTX of this release of CUDA: it must know that very release, or a newer one."""
        return self.cuda >= _numbers(cuda)


def needed_driver(cuda: str) -> str:
    """The oldest driver that runs programs of this release of CUDA, such as "580.65.06 or newer"."""
    major = _numbers(cuda)[0]
    return f"{OLDEST_DRIVERS[major]} or newer" if major in OLDEST_DRIVERS else f"of CUDA {major} or newer"


def query_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver | None:
    """The driver and the GPUs that it shows to this process, or None where none is installed.

    Args:
        load: opens a library by name, or raises OSError.

    Raises:
        DriverError: the driver reports an error; the message has its name.
    """
    try:
        library = load(_LIBRARY)
    except OSError:
        return None
    version, count = ctypes.c_int(), ctypes.c_int()
    status = library.cuInit(0)
    _check(library, library.cuDriverGetVersion(ctypes.byref(version)))
    cuda = (version.value // 1000, version.value % 1000 // 10)
    if status == _NO_DEVICE:
        return Driver(cuda, (), _driver_version())
    _check(library, status)
    _check(library, library.cuDeviceGetCount(ctypes.byref(count)))
    return Driver(cuda, tuple(_gpu(library, ordinal) for ordinal in range(count.value)), _driver_version())


def _driver_version() -> str:
    """The version that the kernel module tells, or nothing."""
    try:
        text = _KERNEL_MODULE.read_text()
    except OSError:
        return ""
    found = re.search(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text, re.MULTILINE)
    return found[1] if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _gpu(library: Any, ordinal: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)

    def attribute(number: int) -> int:
        value = ctypes.c_int()
        _check(library, library.cuDeviceGetAttribute(ctypes.byref(value), number, device))
        return value.value

    _check(library, library.cuDeviceGet(ctypes.byref(device), ordinal))
    _check(library, library.cuDeviceGetName(name, len(name), device))
    capability = (attribute(_CAPABILITY_MAJOR), attribute(_CAPABILITY_MINOR))
    return Gpu(name.value.decode(errors="replace"), capability)


def _check(library: Any, status: int) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    known = library.cuGetErrorName(status, ctypes.byref(text)) == 0
    name = text.value.decode() if known and text.value else f"error {status}"
    raise DriverError(f"{_LIBRARY} reports {name}")
