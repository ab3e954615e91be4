"""Builds and runs the C++ tests of cc/lib, which need neither Python nor TensorFlow, plainly or with a sanitizer."""

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import doctest_headers
from toolchain import INSTRUCTION_SETS, ROOT, Builder, sources

# Where setup.py leaves the library's objects.
LIBRARY_OBJECTS = ROOT / "build" / f"dcnv2_ops-{platform.machine()}"
# Emulated units are slow, and nothing but these cases makes use of them.
_CASES_OF_UNITS = "--test-case=*BFloat16*,*units*"

# What /proc/cpuinfo calls those that few processors have: elsewhere, asking for them would repeat another one's tests.
_RARE_SETS = {"avx512_bf16": "avx512_bf16", "amx": "amx_bf16"}


def build(name: str = "plain", sanitizer_flags: Sequence[str] = (), compiler: Sequence[str] = ()) -> Path:
    """Returns the test program, rebuilt where it is out of date, in build/kernel_tests-`name`.

    Without `sanitizer_flags` or a `compiler` of its own it is made of the very objects of the installed op library.

    Raises:
        doctest_headers.DoctestUnavailable: the framework of the tests is not there.
    """
    tests = Builder(ROOT / "build" / f"kernel_tests-{name}", compiler=compiler)
    framework = doctest_headers.include_flags(tests.compiler)
    library = tests if sanitizer_flags or compiler else Builder(LIBRARY_OBJECTS)
    objects = library.compile(sources("cc/lib"), sanitizer_flags)
    # The tests themselves need no speed, and compile in half the time without.
    objects += tests.compile(sources("tests/cc"), [*framework, *(sanitizer_flags or ["-O1"])])
    return tests.link("kernel_tests", objects, [*sanitizer_flags, "-pthread"])


def instruction_sets() -> list[str]:
    """The values of TF_DCNV2_SIMD to run the tests with on this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return [name for name in INSTRUCTION_SETS if _RARE_SETS.get(name, name) in flags or name not in _RARE_SETS]


def run_on(instruction_set: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[bool, str]:
    """Runs the test program that `command` starts, with the inner loops of one instruction set."""
    cases = [_CASES_OF_UNITS] if instruction_set.startswith("emulated") else []
    return run([*command, *cases], {**environment, "TF_DCNV2_SIMD": instruction_set})


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> tuple[bool, str]:
    """Runs the test program that `command` starts.

    Returns:
        Whether the tests passed, and what they printed.
    """
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode == 0, done.stdout
