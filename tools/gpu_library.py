"""Builds the CUDA kernels as a library with a C interface (cc/c_api/c_api.h), which needs no TensorFlow.

    python tools/gpu_library.py emulated            the kernels run on the CPU
    python tools/gpu_library.py emulated-checked    likewise, with every access to memory checked
    python tools/gpu_library.py emulated-races      likewise, looking for accesses that no barrier orders
    python tools/gpu_library.py cuda                they run on a GPU; DCNV2_CUDA_ARCHS says which, by default those
                                                    of this machine

The library goes to build/gpu-*/libdcnv2_gpu.so. Only what changed is compiled again. DCNV2_GPU_LIBRARY names one
that was built before, perhaps on another machine: it is taken as it is, whatever the device.
"""

import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cuda_toolkit import CudaUnavailable, find_toolkit
from toolchain import LANGUAGE_FLAGS, ROOT, WARNING_FLAGS, Builder, BuildError, cuda_sources, sources

LIBRARY = "libdcnv2_gpu.so"
C_API = "cc/c_api/c_api.cu"
EMULATION = "tests/gpu/emulation"
EMULATOR = [f"{EMULATION}/{name}.cc" for name in ("fiber", "block", "device")]
SELF_TEST = f"{EMULATION}/self_test.cu"

# Where setup.py leaves the objects of the CPU's kernels.
LIBRARY_OBJECTS = ROOT / "build" / f"dcnv2_ops-{platform.machine()}"


class EmulationFlags(NamedTuple):
    """What an emulated device asks for, of the kernels, of the emulator itself, and of the link."""

    kernels: Sequence[str] = ()
    emulator: Sequence[str] = ()
    link: Sequence[str] = ()


_READABLE = ["-fno-omit-frame-pointer", "-O1", "-g1"]
_ADDRESS, _THREAD = "-fsanitize=address", "-fsanitize=thread"
EMULATED_DEVICES = {
    "emulated": EmulationFlags(),
    "emulated-checked": EmulationFlags([_ADDRESS, *_READABLE], [_ADDRESS, *_READABLE], [_ADDRESS]),
    "emulated-races": EmulationFlags(
        # With it the compiler takes more than it can follow for uninitialised.
        [_THREAD, "-fno-sanitize=alignment,bounds,null", "-Wno-maybe-uninitialized", *_READABLE],
        ["-DDCNV2_EMULATED_RACES"],
        [_THREAD],
    ),
}


class EmulationBuilder(Builder):
    """Compiles kernels as plain C++, with the emulator's headers in the place of CUDA's."""

    def __init__(self, directory: Path):
        super().__init__(directory)
        self.cuda_compiler = self.compiler

    def flags_of(self, source: str) -> list[str]:
        if not source.endswith(".cu") and source not in EMULATOR:
            return super().flags_of(source)
        headers = [f"-I{ROOT / EMULATION}", *LANGUAGE_FLAGS, "-x", "c++"]
        # Misaligned accesses and overflows of arrays become errors of the launch: see emulation/device.cc.
        checks = ["-UNDEBUG", *([] if source in EMULATOR else ["-fsanitize=alignment,bounds,null"])]
        return [*headers, "-O2", "-fPIC", "-fvisibility=hidden", *WARNING_FLAGS, "-Wno-unknown-pragmas", *checks]


def build(device: str) -> Path:
    """Returns the library for `device`, rebuilt where it is out of date.

    Raises:
        BuildError: a compiler failed, or DCNV2_GPU_LIBRARY names no file.
        CudaUnavailable: the device is "cuda", and there is no toolkit or no GPU to ask for its architecture.
    """
    if os.environ.get("DCNV2_GPU_LIBRARY"):
        library = Path(os.environ["DCNV2_GPU_LIBRARY"])
        if not library.is_file():
            raise BuildError(f"DCNV2_GPU_LIBRARY must be the path of a library. Received: {library}, which is no file.")
        return library.resolve()
    if device == "cuda":
        toolkit = find_toolkit(preferred_major=None)
        architectures = toolkit.architectures(os.environ.get("DCNV2_CUDA_ARCHS") or "native")
        # So that compute-sanitizer and profilers can name lines.
        builder = Builder(_directory(device), [*toolkit.compiler(architectures), "-lineinfo"])
        builder.jobs = os.cpu_count() or 1
        # All at once: nvcc takes longest, so its files come first.
        objects = builder.compile([*_kernels(), *sources("cc/lib")])
        # PyTorch has symbols of the same names.
        return builder.link(LIBRARY, objects, [*toolkit.link_flags, "-Wl,--exclude-libs,ALL"])
    # Those of the CPU are the very objects of the installed op library.
    return _emulate(device, LIBRARY, _kernels(), Builder(LIBRARY_OBJECTS).compile(sources("cc/lib")))


def build_self_test(device: str = "emulated") -> Path:
    """Returns the library of kernels that show what an emulated device does, rebuilt where it is out of date."""
    return _emulate(device, "libself_test.so", [SELF_TEST])


def _emulate(device: str, name: str, kernels: Sequence[str], objects: Sequence[Path] = ()) -> Path:
    """Returns the library of these kernels and the emulator, and of objects that are there already."""
    flags = EMULATED_DEVICES[device]
    builder = EmulationBuilder(_directory(device))
    own = builder.compile(kernels, flags.kernels) + builder.compile(EMULATOR, flags.emulator)
    return builder.link(name, [*objects, *own], [*flags.link, "-Wl,-z,defs"])


def _directory(device: str) -> Path:
    return ROOT / "build" / f"gpu-{device}"


def _kernels() -> list[str]:
    return [C_API, *cuda_sources("cc/lib")]


def main(devices: list[str]) -> int:
    """Returns the exit status."""
    unknown = set(devices) - {*EMULATED_DEVICES, "cuda"}
    if unknown or not devices:
        print(
            f"gpu_library.py takes {', '.join(EMULATED_DEVICES)} or cuda. Received: {' '.join(devices)}",
            file=sys.stderr,
        )
        return 2
    for device in devices:
        try:
            print(build(device))
        except CudaUnavailable as error:
            raise BuildError(str(error)) from None
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
