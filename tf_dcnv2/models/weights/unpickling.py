"""Reads the arrays in pickles of PyTorch and NumPy without running anything that a pickle names.

A pickle is a program: it names functions and calls them. This module knows the few names that tensors and arrays are
made of, and gives each of them a meaning of its own, which builds data and nothing else. Every other name is refused.
"""

import contextlib
import dataclasses
import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

# Beyond any checkpoint: what a pickle says besides its arrays.
_LARGEST_PICKLE = 2**28
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


class UnreadableCheckpoint(ValueError):
    """A file that is no checkpoint, is damaged, or would run code."""


def read_pickled(path: str | os.PathLike) -> Any:
    """Dictionaries, lists, numbers, texts and arrays that `torch.save`, or `pickle.dump`, wrote; tensors as arrays.

    Both formats of PyTorch are read, with a zip archive and, before version 1.6, without. Objects that hold nothing of
    a network, such as mmengine's history of losses, are None.

    Args:
        path: of a `.pth`, `.pt`, `.bin` or `.pkl` file.

    Raises:
        UnreadableCheckpoint: the file is no such file, is truncated, or names anything but data.
        OSError: it does not exist, or may not be read.
    """
    with _as_unreadable(path):
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        with open(path, "rb") as file:
            first = _Unpickler(file).load()
            return _read_legacy(file) if first == _LEGACY_MAGIC else _resolved(first, {})


@contextlib.contextmanager
def _as_unreadable(path: str | os.PathLike) -> Iterator[None]:
    """Turns what damaged data raises, of a dozen classes, into `UnreadableCheckpoint` with the path."""
    try:
        yield
    except UnreadableCheckpoint as error:
        raise UnreadableCheckpoint(f"{os.fspath(path)} {error}") from None
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        raise UnreadableCheckpoint(f"{os.fspath(path)} is truncated, damaged, or no checkpoint: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Storage:
    """The numbers of one or several tensors, which are elsewhere in the file."""

    key: str
    dtype: np.dtype
    length: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, numbers: np.ndarray) -> np.ndarray:
        """The tensor, once its storage has been read."""
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        sound = (
            min(self.offset, *self.shape, *self.strides, 0) == 0
            and (0 in self.shape or last < len(numbers))
            and math.prod(self.shape) <= len(numbers)
        )
        if not sound:
            raise UnreadableCheckpoint("is damaged: a tensor reaches beyond its numbers.")
        steps = [stride * numbers.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, steps).copy()


class _Dtype:
    """A NumPy dtype while a pickle describes it."""

    def __init__(self, code: str, *_: object) -> None:
        self._code, self._order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self._order = state[1]

    def dtype(self) -> np.dtype:
        kinds = "fiub"
        if not isinstance(self._code, str) or self._code[:1] not in kinds or self._order not in "<>|=":
            raise UnreadableCheckpoint(f"holds an array of {self._code!r}, not of numbers.")
        return np.dtype(self._order.replace("|", "=") + self._code)


class _Array:
    """A NumPy array while a pickle describes it."""

    def __init__(self, *_: object) -> None:
        self._state: tuple | None = None

    def __setstate__(self, state: tuple) -> None:
        self._state = state

    def array(self) -> np.ndarray:
        if self._state is None:
            raise UnreadableCheckpoint("is damaged: an array has no content.")
        _, shape, dtype, fortran_order, data = self._state
        return np.frombuffer(data, dtype.dtype()).reshape(shape, order="F" if fortran_order else "C").copy()


class _Inert:
    """Stands for an object whose content nobody asks for, such as mmengine's HistoryBuffer."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _rebuilt_tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise UnreadableCheckpoint("is damaged: a tensor has no storage.")
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _array_of_buffer(data: bytes, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    """An array as protocol 5 of pickle writes it."""
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", data))
    return array


def _rebuilt_scalar(dtype: _Dtype, data: bytes) -> np.generic:
    return np.frombuffer(data, dtype.dtype())[0]


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    """Bytes as protocol 2 of pickle writes them."""
    if encoding != "latin1":
        raise UnreadableCheckpoint(f"is damaged: bytes in the encoding {encoding!r}.")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): lambda: b"",  # protocol 2 has no empty bytes
    # What `mmengine.runner.Runner` saves of the losses that it printed, and the functions that average them.
    ("mmengine.logging.history_buffer", "HistoryBuffer"): _Inert,
    ("__builtin__", "getattr"): _Inert,
    ("builtins", "getattr"): _Inert,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NAMES[_module, "_reconstruct"] = _Array
    _NAMES[_module, "scalar"] = _rebuilt_scalar
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    _NAMES[_module, "_frombuffer"] = _array_of_buffer


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows `_NAMES` alone."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return name  # to be named in the identifier of a storage
        try:
            return _NAMES[module, name]
        except KeyError:
            raise UnreadableCheckpoint(
                f"names {module}.{name}, which is no data: reading it could run code, so it is not read."
            ) from None

    def persistent_load(self, identifier: Any) -> _Storage:
        kind, storage, key, _, length = identifier[:5]
        if kind != "storage" or storage not in _STORAGES:
            raise UnreadableCheckpoint(f"holds a {storage!r}, which is no kind of numbers known here.")
        if len(identifier) > 5 and identifier[5] is not None:
            raise UnreadableCheckpoint("holds views of storages, as PyTorch wrote them before version 0.4.")
        return _Storage(str(key), np.dtype(_STORAGES[storage]), int(length))


def _read_zip(path: str | os.PathLike) -> Any:
    with zipfile.ZipFile(path) as archive:
        pickles = [entry for entry in archive.infolist() if entry.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UnreadableCheckpoint("is a zip archive, but none of PyTorch's: it holds no data.pkl.")
        if pickles[0].file_size > _LARGEST_PICKLE:
            raise UnreadableCheckpoint("holds more than 256 MiB besides its arrays.")
        folder = pickles[0].filename.removesuffix("data.pkl")
        content = _Unpickler(io.BytesIO(archive.read(pickles[0]))).load()
        storages = _storages(content)
        order = "little"
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder").decode("ascii", "replace")
        if order != "little":
            raise UnreadableCheckpoint(f"has numbers in {order!r} byte order, and only little-endian ones are read.")
        numbers = {}
        for key, storage in storages.items():
            entry = archive.getinfo(f"{folder}data/{key}")
            size = storage.length * storage.dtype.itemsize
            if entry.file_size != size:
                raise UnreadableCheckpoint(
                    f"is damaged: {entry.filename} has {entry.file_size} bytes instead of {size}."
                )
            numbers[key] = np.frombuffer(archive.read(entry), storage.dtype)
        return _resolved(content, numbers)


def _read_legacy(file: BinaryIO) -> Any:
    """The rest of a file of the older format: four pickles, and the storages one after the other."""
    _, system, content, keys = (_Unpickler(file).load() for _ in range(4))
    if not system.get("little_endian", True):
        raise UnreadableCheckpoint("has big-endian numbers, and only little-endian ones are read.")
    storages, numbers = _storages(content), {}
    for key in keys:
        storage = storages[str(key)]
        length = int.from_bytes(file.read(8), "little")
        if length != storage.length:
            raise UnreadableCheckpoint(f"is damaged: a storage has {length} numbers instead of {storage.length}.")
        data = file.read(length * storage.dtype.itemsize)
        numbers[str(key)] = np.frombuffer(data, storage.dtype, count=length)
    return _resolved(content, numbers)


def _storages(content: Any) -> dict[str, _Storage]:
    """The storages that the tensors of a structure are in, by key."""
    if isinstance(content, _Tensor):
        return {content.storage.key: content.storage}
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    found: dict[str, _Storage] = {}
    for part in parts:
        found.update(_storages(part))
    return found


def _resolved(content: Any, numbers: Mapping[str, np.ndarray]) -> Any:
    """The structure with arrays in it, and None for what is not read."""
    if isinstance(content, _Tensor):
        return content.array(numbers[content.storage.key])
    if isinstance(content, _Array):
        return content.array()
    if isinstance(content, Mapping):
        return {name: _resolved(value, numbers) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_resolved(value, numbers) for value in content]
    return None if isinstance(content, _Inert | _Dtype) else content
