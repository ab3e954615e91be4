"""Writes tensors as `torch.save` does, without PyTorch."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

_STORAGE_NAMES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}


class Call:
    """Pickles as the call of a function by name, whether there is one or not."""

    def __init__(self, module: str, name: str, *arguments: object):
        self.function, self.arguments = f"c{module}\n{name}\n".encode(), arguments


class _Pickler(pickle._Pickler):
    """Python's own pickler, which can be taught `Call` and storages."""

    def __init__(self, file, legacy: bool):
        super().__init__(file, protocol=2)
        self.storages: dict[str, np.ndarray] = {}
        self._legacy = legacy

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, np.ndarray):
            self._save_tensor(obj)
        elif isinstance(obj, Call):
            self.write(obj.function)
            super().save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)

    def _save_tensor(self, array):
        key = str(len(self.storages))
        array = self.storages[key] = array.copy(order="C")
        strides = tuple(stride // array.itemsize for stride in array.strides)
        self.write(b"ctorch._utils\n_rebuild_tensor_v2\n(")
        self._save_storage(_STORAGE_NAMES[array.dtype.str[1:]], key, array.size)
        for argument in (0, array.shape, strides, False, OrderedDict()):
            super().save(argument)
        self.write(pickle.TUPLE + pickle.REDUCE)

    def _save_storage(self, name, key, length):
        self.write(pickle.MARK)
        super().save("storage")
        self.write(f"ctorch\n{name}\n".encode())
        for part in (key, "cpu", length, None)[: 4 if self._legacy else 3]:
            super().save(part)
        self.write(pickle.TUPLE + pickle.BINPERSID)


def save(content: object, path: Path, *, legacy: bool = False) -> None:
    """Writes dictionaries and lists of arrays, numbers, texts and `Call`s; the format without zip if `legacy`."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, legacy)
    pickler.dump(content)
    if legacy:
        with open(path, "wb") as file:
            pickle.dump(0x1950A86A20F9469CFC6C, file, protocol=2)
            pickle.dump(1001, file, protocol=2)
            pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, file, protocol=2)
            file.write(stream.getvalue())
            pickle.dump(list(pickler.storages), file, protocol=2)
            for array in pickler.storages.values():
                file.write(array.size.to_bytes(8, "little") + array.tobytes())
        return
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/byteorder", "little")
        for key, array in pickler.storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
