"""Accesses to shared memory that no barrier orders, which the emulated device shows to the thread sanitizer."""

import os
import re
import subprocess
import sys

import gpu_library
import pytest
from toolchain import ROOT, find_compiler


def watched(command: list[str], **environment: str) -> subprocess.CompletedProcess:
    """Runs Python in a process with the thread sanitizer, which ends it by status 66 at the first race."""
    search = subprocess.run([*find_compiler(), "-print-file-name=libtsan.so"], capture_output=True, text=True)
    runtime = search.stdout.strip()
    if not os.path.isabs(runtime):
        pytest.skip("the compiler comes without libtsan.so")
    environment |= {"LD_PRELOAD": runtime, "TSAN_OPTIONS": "halt_on_error=1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, *command]
    done = subprocess.run(command, env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this kernel randomises addresses more than the thread sanitizer can bear")
    return done


@pytest.mark.parametrize(
    ("call", "races"),
    [
        ("hand_over(0, keep)", True),
        ("hand_over(1, keep)", True),
        ("hand_over(2, keep)", False),
        ("hand_over(3, keep)", False),
        ("copy(keep, other, 3, 128, True, False)", True),
        ("copy(keep, other, 3, 128, True, True)", False),
        ("multiply(0, keep, keep, other)", False),
        ("add(keep, 5)", False),
    ],
)
def test_what_no_barrier_orders_is_a_race(call, races):
    library = gpu_library.build_self_test("emulated-races")
    script = (
        "import ctypes, sys\nimport numpy as np\n"
        "arrays = np.zeros((2, 4096), np.float32)\n"
        "keep, other = (ctypes.c_void_p(array.ctypes.data) for array in arrays)\n"
        f"sys.exit(ctypes.CDLL(sys.argv[1]).{call})"
    )
    done = watched(["-c", script, str(library)])
    assert (done.returncode, "data race" in done.stderr) == ((66, True) if races else (0, False)), done.stderr
    if races:
        assert re.search(r"#\d .*(HandOver|Copy)Kernel", done.stderr)


@pytest.mark.slow
def test_kernels_have_no_races():
    """Of all types, sizes of tiles and conventions, on problems small enough for a device so slow."""
    gpu_library.build("emulated-races")
    chosen = "mmcv or mxnet or whole_positions or (inside_and_outside and plain) or tiles_of_all_sizes or ordered"
    # Blocks of a cluster take turns at the same addresses, which the sanitizer would take for the same memory.
    chosen += " or (hopper and values and groups and not halved)"
    names = ("deform_conv2d", "deform_conv2d_hopper", "deform_roi_pool", "devices", "gradient_window")
    files = [f"tests/gpu/test_{name}.py" for name in names]
    command = ["-m", "pytest", "-x", "-s", "-p", "no:cacheprovider", "-k", chosen, *files]
    done = watched(command, DCNV2_TEST_DEVICES="emulated-races")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-10000:]
