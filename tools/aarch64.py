"""Builds the C++ tests of cc/lib for 64-bit ARM and runs them under QEMU.

    python tools/aarch64.py

Needs a cross-compiler and the emulator, which are Debian's and Ubuntu's packages g++-aarch64-linux-gnu and qemu-user.
"""

import shutil
import sys

import kernel_tests
from doctest_headers import DoctestUnavailable

COMPILER = "aarch64-linux-gnu-g++"
EMULATOR = "qemu-aarch64"
LIBRARIES = "/usr/aarch64-linux-gnu"


class EmulationUnavailable(RuntimeError):
    """This machine cannot build or run programs for 64-bit ARM; the message says what to do."""


def build() -> list[str]:
    """Returns the command that runs the test program, which is rebuilt where it is out of date.

    Raises:
        EmulationUnavailable: there is no cross-compiler or no emulator.
        DoctestUnavailable: the framework of the tests is not there.
    """
    missing = [name for name in (COMPILER, EMULATOR) if not shutil.which(name)]
    if missing:
        raise EmulationUnavailable(
            f"64-bit ARM needs {' and '.join(missing)}: `apt-get install g++-aarch64-linux-gnu qemu-user`"
        )
    program = kernel_tests.build("aarch64", compiler=[COMPILER])
    return [EMULATOR, "-L", LIBRARIES, str(program)]


if __name__ == "__main__":
    try:
        passed, output = kernel_tests.run(build())
    except (EmulationUnavailable, DoctestUnavailable) as error:
        sys.exit(str(error))
    print(output, end="")
    sys.exit(not passed)
