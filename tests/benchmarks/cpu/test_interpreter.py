import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu.interpreter import package_versions


def script(folder: Path, *lines: str) -> str:
    path = folder / "python"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_packages_have_versions_or_are_not_installed():
    assert package_versions(sys.executable, ["numpy", "no-such-package"]) == {
        "numpy": np.__version__,
        "no-such-package": None,
    }


def test_another_interpreter_is_asked_about_its_own_packages(tmp_path):
    without_packages = script(tmp_path, f'exec "{sys.executable}" -I -S "$@"')
    assert package_versions(without_packages, ["numpy"]) == {"numpy": None}


@pytest.mark.parametrize("line", ["exit 3", "echo Python", "echo '{'"])
def test_what_is_no_interpreter_is_refused(line, tmp_path):
    path = script(tmp_path, line)
    with pytest.raises(ValueError, match=f"{path} is no Python interpreter"):
        package_versions(path, [])


def test_an_interpreter_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="/nowhere/python is no Python interpreter"):
        package_versions("/nowhere/python", [])
