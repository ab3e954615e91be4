"""The NVIDIA driver of this machine and its GPUs, asked through the driver's own library, without any package."""

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

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
    cuda: tuple[int, int]  # the newest release of CUDA whose programs it runs
    gpus: tuple[Gpu, ...]


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
        return Driver(cuda, ())
    _check(library, status)
    _check(library, library.cuDeviceGetCount(ctypes.byref(count)))
    return Driver(cuda, tuple(_gpu(library, ordinal) for ordinal in range(count.value)))


def _gpu(library: Any, ordinal: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library, library.cuDeviceGet(ctypes.byref(device), ordinal))
    _check(library, library.cuDeviceGetName(name, len(name), device))
    capability = []
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        value = ctypes.c_int()
        _check(library, library.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
        capability.append(value.value)
    return Gpu(name.value.decode(errors="replace"), tuple(capability))


def _check(library: Any, status: int) -> None:
    if status == 0:
        return
    text = ctypes.c_char_p()
    known = library.cuGetErrorName(status, ctypes.byref(text)) == 0 and text.value
    raise DriverError(f"{_LIBRARY} reports {text.value.decode() if known else f'error {status}'}")
