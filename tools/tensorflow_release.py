"""Which TensorFlow the ops are compiled against: the one that is installed, of those they are known to work with.

The op library works with the minor release it was compiled against, and with no other.
"""

import importlib.metadata
import sysconfig
from collections.abc import Sequence

OLDEST, NEWEST = (2, 16), (2, 21)
SUPPORTED = "tensorflow>=2.16,<2.22"
# Where none is installed yet: the release of Model Garden, which the detectors need.
DEFAULT = "tensorflow>=2.20,<2.21"


def installed_version(path: Sequence[str] | None = None) -> str:
    """Version of the TensorFlow on `path`, by default Python's own; empty if there is none or it has another name."""
    found = importlib.metadata.distributions() if path is None else importlib.metadata.distributions(path=list(path))
    versions = {distribution.metadata["Name"]: distribution.version for distribution in found}
    return versions.get("tensorflow") or versions.get("tensorflow-cpu") or ""


def release(version: str) -> tuple[int, int]:
    """Major and minor number of a version."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def build_requirement() -> str:
    """What an isolated build has to install: the release of the environment that the package is going to.

    The isolated Python does not import from there, but knows where it is.
    """
    version = installed_version({sysconfig.get_path(kind) for kind in ("purelib", "platlib")})
    return runtime_requirement(version) if version and OLDEST <= release(version) <= NEWEST else DEFAULT


def runtime_requirement(version: str) -> str:
    """What a package needs whose ops are compiled against `version`; any supported one where that is empty."""
    return "tensorflow=={}.{}.*".format(*release(version)) if version else SUPPORTED
