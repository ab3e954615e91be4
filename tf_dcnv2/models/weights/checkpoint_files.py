"""Checkpoint files of every kind as arrays by name."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_dcnv2.models.weights.unpickling import UnreadableCheckpoint, read_pickled

_CONTAINERS = ("state_dict", "model", "model_state_dict")


class Checkpoint(NamedTuple):
    """A network's weights as a project saved them.

    Attributes:
        weights: by the project's names, in its layout.
        meta: what is saved beside them, such as mmengine's configuration; empty if nothing is.
    """

    weights: dict[str, np.ndarray]
    meta: dict[str, Any]


def read_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Reads a `.pth`, `.pt`, `.pkl` or `.safetensors` file, whatever it is called; no code in it is run.

    Raises:
        FileNotFoundError: the file does not exist.
        ImportError: it is a `.safetensors` file, and the package that reads them is not installed.
        ValueError: the file is damaged, would run code, or holds no arrays by name.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"There is no checkpoint {path!r}.")
    if os.path.isdir(path):
        raise ValueError(f"{path!r} is a folder. Expected a file of weights.")
    content = _read_safetensors(path) if _is_safetensors(path) else read_pickled(path)
    meta: dict[str, Any] = {}
    while isinstance(content, Mapping) and any(isinstance(content.get(name), Mapping) for name in _CONTAINERS):
        meta |= content["meta"] if isinstance(content.get("meta"), Mapping) else {}
        content = next(content[name] for name in _CONTAINERS if isinstance(content.get(name), Mapping))
    arrays = content if isinstance(content, Mapping) else {}
    weights = {str(name): _number(value) for name, value in arrays.items() if isinstance(value, np.ndarray)}
    if not weights:
        raise ValueError(f"{path!r} holds no weights by name, but a {type(content).__name__}.")
    return Checkpoint(weights, meta)


def _number(value: np.ndarray) -> np.ndarray:
    """Half precisions as float32; integers as they are."""
    return value if value.dtype.kind in "iub" else value.astype(np.float32)


def _is_safetensors(path: str) -> bool:
    """The length of a header of JSON, then the header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return file.read(1) == b"{" and length <= os.path.getsize(path)


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(f"Reading {path!r} needs the package safetensors: pip install safetensors") from error
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise UnreadableCheckpoint(f"{path} is truncated or damaged: {error}") from error
