"""Memory that notices writes outside of what was asked for."""

import ctypes

import numpy as np


class HostBuffer:
    """Bytes at an address that is a multiple of 256, plus `shift`, between bytes that nobody may write."""

    GUARD = 1024

    def __init__(self, size: int, shift: int = 0):
        self._memory = np.full(size + shift + 2 * self.GUARD + 256, 0xFF, np.uint8)
        self._first = -self._memory.ctypes.data % 256 + self.GUARD + shift
        self.size = size
        self.address = self._memory.ctypes.data + self._first

    def write(self, array: np.ndarray) -> None:
        self._memory[self._first : self._first + self.size] = array.reshape(-1).view(np.uint8)

    def read(self) -> np.ndarray:
        """The bytes; an AssertionError if those around them have changed."""
        return inside_guards(self._memory, self._first, self.size)


def inside_guards(memory: np.ndarray, first: int, size: int) -> np.ndarray:
    before, inside, after = np.split(memory, [first, first + size])
    assert (before == 0xFF).all() and (after == 0xFF).all(), "a kernel wrote outside of its arrays"
    return inside


class CheckedBuffer:
    """As HostBuffer, for the address sanitizer, which watches both ends."""

    _libc = ctypes.CDLL(None)

    def __init__(self, size: int, shift: int = 0):
        address = ctypes.c_void_p()
        if self._libc.posix_memalign(ctypes.byref(address), 256, ctypes.c_size_t(max(size + shift, 1))) != 0:
            raise MemoryError
        self._allocated = address
        self.size = size
        self.address = address.value + shift
        ctypes.memset(self.address, 0xFF, size)

    def __del__(self):
        self._libc.free(self._allocated)

    def write(self, array: np.ndarray) -> None:
        ctypes.memmove(self.address, np.ascontiguousarray(array).ctypes.data, self.size)

    def read(self) -> np.ndarray:
        """The bytes."""
        return np.frombuffer(ctypes.string_at(self.address, self.size), np.uint8)
