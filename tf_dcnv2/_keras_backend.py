"""Which backend Keras has. The layers and detectors are made of TensorFlow ops and work with no other."""

import json
import os
import sys
from pathlib import Path

_REMEDY = 'Set "backend": "tensorflow" in ~/.keras/keras.json, or unset KERAS_BACKEND.'


class UnsupportedBackendError(ImportError):
    """Keras has another backend than TensorFlow.

    Attributes:
        backend: its name.
        remedy: what to do.
    """

    def __init__(self, backend: str):
        self.backend, self.remedy = backend, _REMEDY
        super().__init__(f"tf-dcnv2 works with Keras' TensorFlow backend only, not with {backend!r}. {_REMEDY}")


def keras_backend() -> str:
    """Name of Keras' backend, or of the one that it will have.

    Read as Keras reads it rather than asked: importing Keras fails where its backend is not installed.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"].config.backend()
    if os.environ.get("KERAS_BACKEND"):
        return os.environ["KERAS_BACKEND"]
    try:
        settings = json.loads((Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json").read_text())
        return settings.get("backend", "tensorflow")
    except (OSError, ValueError, AttributeError):
        return "tensorflow"


def require_tensorflow_backend() -> None:
    """Refuses every other backend, with what to do.

    Raises:
        UnsupportedBackendError: Keras has another backend.
    """
    backend = keras_backend()
    if backend != "tensorflow":
        raise UnsupportedBackendError(backend)
