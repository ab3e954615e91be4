"""Other Python interpreters, whose environments may hold what this one's lacks."""

import json
import subprocess
from collections.abc import Sequence

_PRINT_VERSIONS = """\
import json, sys
from importlib import metadata

def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

print(json.dumps({package: version(package) for package in sys.argv[1:]}))
"""


def package_versions(python: str, packages: Sequence[str]) -> dict[str, str | None]:
    """Versions of packages in an interpreter's environment; None for those that are not installed.

    Raises:
        ValueError: it is no Python interpreter.
    """
    command = [python, "-c", _PRINT_VERSIONS, *packages]
    try:
        return json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{python} is no Python interpreter.") from error
