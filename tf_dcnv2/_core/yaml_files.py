"""YAML files of this package."""

import os
from pathlib import Path
from typing import Any


def read_yaml(path: str | os.PathLike) -> Any:
    """The plain data in a YAML file.

    Raises:
        ValueError: it is not valid YAML; the message names the file.
        OSError: it cannot be read.
    """
    import yaml  # part of the [detection] extra

    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{os.fspath(path)} is not valid YAML: {' '.join(str(error).split())}") from None
