"""Builds and runs the C++ tests of cc/lib, which need neither Python nor TensorFlow, once per instruction set.

They link the very objects of the installed library. Needs the header-only test framework doctest.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = ROOT / "build" / f"dcnv2_ops-{platform.machine()}"


@pytest.fixture(scope="module")
def test_program(tmp_path_factory):
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler")
    probe = subprocess.run([compiler, "-fsyntax-only", "-x", "c++", "-include", "doctest/doctest.h", os.devnull])
    if probe.returncode != 0:
        pytest.skip("doctest is not installed (Debian package doctest-dev)")
    objects = sorted(map(str, OBJECTS.glob("cc-lib-*.o")))
    if not objects:
        pytest.skip("the library was built elsewhere; `python setup.py build_ext --inplace` builds it here")
    directory = tmp_path_factory.mktemp("cc")
    builds = []
    for source in sorted((ROOT / "tests" / "cc").glob("*.cc")):
        target = str(directory / f"{source.name}.o")
        command = [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", f"-I{ROOT}", "-c", str(source), "-o", target]
        builds.append((target, subprocess.Popen(command)))
    assert [build.wait() for _, build in builds] == [0] * len(builds)
    program = directory / "kernel_library_test"
    subprocess.run([compiler, *(t for t, _ in builds), *objects, "-o", str(program), "-lpthread"], check=True)
    return str(program)


@pytest.mark.parametrize("instruction_set", ["baseline", "avx2", "avx512"])
def test_kernels_of_every_instruction_set_pass_their_own_tests(test_program, instruction_set):
    # Where the processor lacks the set, the best one it has is tested again.
    environment = dict(os.environ, TF_DCNV2_SIMD=instruction_set)
    done = subprocess.run([test_program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
