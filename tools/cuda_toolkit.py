"""Finds the CUDA toolkit and says how its compiler is called. Needs nothing but the standard library.

    DCNV2_CUDA        auto (the default: the CUDA kernels are built where nvcc is found), 1 (they must be) or 0
    DCNV2_CUDA_ARCHS  compute capabilities such as "80;90", or "native" for those of the GPUs in this machine
    CUDA_HOME         the toolkit to build with, likewise CUDA_PATH; without them it is chosen among those installed

The kernels are compiled to machine code for each capability, which runs on GPUs of the same major and at least the same
minor version, and to PTX for the newest, which drivers compile for GPUs that are newer still.

A library needs a driver of its toolkit's major release, or a newer one: tf_dcnv2_cli/cuda_driver.py knows which.

Run as a program, prints what it chose as a JSON object, or null for the CPU only: Bazel asks in this way.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# What the kernels are written in: vector atomics came to PTX with this release.
OLDEST_RELEASE = (12, 1)
# TensorFlow 2.20 is built with this one: where TensorFlow runs on a GPU, the driver is new enough for it, but maybe not
# for the next.
TENSORFLOW_MAJOR = 12
# Turing, Ampere and Ada, Hopper, and both of Blackwell.
DEFAULT_ARCHITECTURES = (75, 80, 90, 100, 120)
_STATIC_RUNTIME = "libcudart_static.a"
_INSTALLATIONS = Path("/usr/local")
_SYSTEM_HEADERS = Path("/usr/include")
_SYSTEM_LIBRARIES = (*sorted(Path("/usr/lib").glob("*-linux-gnu")), Path("/usr/lib64"))


class CudaUnavailable(RuntimeError):
    """There is no CUDA toolkit that could build the kernels, or not for what was asked; the message says why."""


class Toolkit(NamedTuple):
    """A CUDA toolkit with everything the build needs."""

    nvcc: str
    release: tuple[int, int]
    include_folder: Path
    static_runtime: Path

    @property
    def version(self) -> str:
        return "{}.{}".format(*self.release)

    @property
    def include_flags(self) -> list[str]:
        """For sources that use CUDA's headers and are not compiled by nvcc."""
        return [] if self.include_folder == _SYSTEM_HEADERS else [f"-isystem{self.include_folder}"]

    @property
    def link_flags(self) -> list[str]:
        """The CUDA runtime as part of the library, which therefore loads where there is no CUDA.

        TensorFlow's framework library has symbols of the same names: these flags come before it.
        """
        return [str(self.static_runtime), "-ldl", "-lrt", "-lpthread"]

    def compiler(self, architectures: Sequence[int]) -> list[str]:
        """The command that compiles for `architectures`, without the flags of a single file."""
        return [self.nvcc, *_host_compiler(), *code_flags(architectures), "-Xfatbin=-compress-all"]

    def architectures(self, text: str) -> list[int]:
        """The compute capabilities named by `text`, 75 for 7.5 and so on, in increasing order.

        Raises:
            CudaUnavailable: the text is not understood, or this toolkit does not compile for one of them.
        """
        names = _present_architectures() if text.strip() == "native" else re.split(r"[;,\s]+", text.strip())
        known = self.known_architectures()
        for name in names:
            if not name.isdecimal() or int(name) not in known:
                raise CudaUnavailable(
                    'DCNV2_CUDA_ARCHS must be "native" or compute capabilities without the dot, such as "80;90". '
                    f"CUDA {self.version} knows {', '.join(map(str, known))}. "
                    f"Received: {name!r} in DCNV2_CUDA_ARCHS={text!r}."
                )
        return sorted({int(name) for name in names})

    def known_architectures(self) -> list[int]:
        """The compute capabilities that this toolkit compiles for, in increasing order."""
        return sorted(map(int, re.findall(r"\bsm_(\d+)\b", _output([self.nvcc, "--list-gpu-code"]))))


def summary(toolkit: Toolkit, architectures: Sequence[int]) -> str:
    """What is going to be built, in a line for the build's output."""
    capabilities = ", ".join(map(_dotted, architectures))
    newest = max(architectures)
    newer = [_dotted(one) for one in DEFAULT_ARCHITECTURES if one > max(toolkit.known_architectures())]
    unknown = f"; it does not know {', '.join(newer)}, for which drivers compile the PTX of {_dotted(newest)}"
    return (
        f"with CUDA {toolkit.version} of {toolkit.nvcc} for compute capability {capabilities}{unknown if newer else ''}"
    )


def describe(toolkit: Toolkit, architectures: Sequence[int]) -> dict[str, object]:
    """What a library is built with, for its _build_info.json."""
    return {"version": toolkit.version, "architectures": list(architectures), "ptx": max(architectures)}


def code_flags(architectures: Sequence[int]) -> list[str]:
    """nvcc's flags for machine code of every architecture, and PTX of the newest.

    Machine code for 9.0 may have the instructions that no later architecture has: there is no other 9.x to run on.
    """
    names = ["90a" if architecture == 90 else str(architecture) for architecture in architectures]
    codes = [(name, f"sm_{name}") for name in names]
    codes.append((str(max(architectures)), f"compute_{max(architectures)}"))
    return [f"-gencode=arch=compute_{name},code={code}" for name, code in codes]


def chosen_architectures(toolkit: Toolkit, environment: Mapping[str, str] = os.environ) -> list[int]:
    """What DCNV2_CUDA_ARCHS asks for, or those of DEFAULT_ARCHITECTURES that the toolkit knows.

    Raises:
        CudaUnavailable: the variable is not understood, or this toolkit does not compile for one of them.
    """
    if text := environment.get("DCNV2_CUDA_ARCHS"):
        return toolkit.architectures(text)
    known = toolkit.known_architectures()
    return [architecture for architecture in DEFAULT_ARCHITECTURES if architecture in known]


def chosen_toolkit(environment: Mapping[str, str] = os.environ) -> Toolkit | None:
    """The toolkit to build with, or None to build for the CPU only, by DCNV2_CUDA.

    Raises:
        CudaUnavailable: CUDA was asked for and cannot be had, or the variable is not understood.
    """
    wanted = environment.get("DCNV2_CUDA", "") or "auto"
    if wanted not in ("auto", "0", "1"):
        raise CudaUnavailable(f"DCNV2_CUDA must be auto, 1 or 0. Received: DCNV2_CUDA={wanted!r}.")
    if wanted == "0":
        return None
    try:
        return find_toolkit(environment)
    except CudaUnavailable as error:
        if wanted == "1":
            raise CudaUnavailable(
                f"DCNV2_CUDA=1 asks for the CUDA kernels, but {error} Install NVIDIA's CUDA toolkit (nvcc and the "
                "runtime's headers and static library) and set CUDA_HOME to its folder, or build for the CPU only with "
                "DCNV2_CUDA=0."
            ) from None
        print(f"building for the CPU only: {error}", file=sys.stderr)
        return None


def find_toolkit(
    environment: Mapping[str, str] = os.environ, *, preferred_major: int | None = TENSORFLOW_MAJOR
) -> Toolkit:
    """The toolkit at $CUDA_HOME or $CUDA_PATH; without them the best of the path's and those in /usr/local.

    The best is the newest of the preferred major release, and where there is none of that, the newest.

    Raises:
        CudaUnavailable: there is none, or those there are are too old, lack a part or refuse the C++ compiler.
    """
    named = next((name for name in ("CUDA_HOME", "CUDA_PATH") if environment.get(name)), None)
    installed = [_INSTALLATIONS / "cuda", *sorted(_INSTALLATIONS.glob("cuda-*"))]
    homes = [Path(environment[named])] if named else installed
    candidates = [*([] if named else ["nvcc"]), *(str(home / "bin" / "nvcc") for home in homes)]
    found = filter(None, (shutil.which(name, path=environment.get("PATH")) for name in candidates))
    # /usr/local/cuda is a link to one of the others.
    compilers = {os.path.realpath(nvcc): nvcc for nvcc in reversed(list(found))}
    if not compilers:
        asked = f", as {named}={environment[named]} asks" if named else ""
        raise CudaUnavailable(f"there is no nvcc (looked for {', '.join(candidates)}{asked}).")
    toolkits, defects = [], []
    for nvcc in reversed(compilers.values()):
        try:
            toolkits.append(_toolkit_of(nvcc))
        except CudaUnavailable as error:
            defects.append(str(error))
    if not toolkits:
        raise CudaUnavailable(" ".join(defects))
    return max(toolkits, key=lambda toolkit: (toolkit.release[0] == preferred_major, toolkit.release))


def _toolkit_of(nvcc: str) -> Toolkit:
    """The toolkit that `nvcc` belongs to.

    Raises:
        CudaUnavailable: it is too old, parts of it are missing, or it does not work with the host's compiler.
    """
    release = re.search(r"release (\d+)\.(\d+)", _output([nvcc, "--version"]))
    if release is None:
        raise CudaUnavailable(f"{nvcc} does not tell its version.")
    release = (int(release[1]), int(release[2]))
    if release < OLDEST_RELEASE:
        raise CudaUnavailable(
            "{} is of CUDA {}.{}; the kernels need {}.{} or newer.".format(nvcc, *release, *OLDEST_RELEASE)
        )
    # nvcc knows where its headers and libraries are, but for those that a distribution puts among the system's, and the
    # libraries that packages of PyPI have in lib instead of lib64.
    steps = _output([nvcc, "--dryrun", "-c", "-x", "cu", os.devnull, "-o", os.devnull])
    include_folders = [*_folders(steps, "INCLUDES", "-I"), _SYSTEM_HEADERS]
    headers = next((folder for folder in include_folders if (folder / "cuda_runtime_api.h").exists()), None)
    beside_headers = [headers.parent / "lib"] if headers else []
    library_folders = [*_folders(steps, "LIBRARIES", "-L"), *beside_headers, *_SYSTEM_LIBRARIES]
    libraries = next((folder for folder in library_folders if (folder / _STATIC_RUNTIME).exists()), None)
    if headers is None or libraries is None:
        missing = "cuda_runtime_api.h" if headers is None else _STATIC_RUNTIME
        raise CudaUnavailable(f"the CUDA toolkit of {nvcc} has no {missing}.")
    _check_host_compiler(nvcc)
    return Toolkit(nvcc, release, headers.resolve(), libraries.resolve() / _STATIC_RUNTIME)


def _host_compiler() -> list[str]:
    """nvcc's flags for $CXX, unless it has words that nvcc would not understand."""
    command = shlex.split(os.environ.get("CXX", ""))
    return ["-ccbin", command[0]] if len(command) == 1 else []


def _check_host_compiler(nvcc: str) -> None:
    """Every toolkit refuses C++ compilers that are newer than itself, by an error in its headers.

    Raises:
        CudaUnavailable: it refuses this one; the message says what to do.
    """
    try:
        _output([nvcc, *_host_compiler(), "-M", "-x", "cu", os.devnull])
    except CudaUnavailable as error:
        refusal = re.search(r"#error -- (unsupported .*? version!.*?)(?= The nvcc flag|$)", str(error), re.MULTILINE)
        if refusal is None:
            raise
        raise CudaUnavailable(
            f"{nvcc} does not take this C++ compiler: {refusal[1]} Name an older one, for example with CXX=g++-12."
        ) from None


def _folders(steps: str, setting: str, flag: str) -> list[Path]:
    """Those that a setting among what nvcc --dryrun prints names after `flag`."""
    found = re.search(rf"^#\$ {setting}=(.*)$", steps, re.MULTILINE)
    words = shlex.split(found[1]) if found else []
    return [Path(word.removeprefix(flag)) for word in words if word.startswith(flag)]


def _present_architectures() -> list[str]:
    """Compute capabilities of the GPUs in this machine, without the dot."""
    try:
        capabilities = _output(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"])
    except CudaUnavailable:
        capabilities = ""
    found = re.findall(r"^(\d+)\.(\d+)$", capabilities, re.MULTILINE)
    if not found:
        raise CudaUnavailable(
            "DCNV2_CUDA_ARCHS=native asks for the GPUs of this machine, but nvidia-smi shows none. Name their compute "
            'capabilities instead, for example DCNV2_CUDA_ARCHS="80;90".'
        )
    return [major + minor for major, minor in found]


def _dotted(architecture: int) -> str:
    """75 as it is written in prose: 7.5."""
    return f"{architecture // 10}.{architecture % 10}"


def _output(command: Sequence[str]) -> str:
    """What a program prints, errors included: nvcc --dryrun prints there."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as error:
        raise CudaUnavailable(f"{command[0]} cannot be run: {error}.") from None
    if done.returncode != 0:
        raise CudaUnavailable(f"`{shlex.join(command)}` failed: {done.stdout[-1000:]}")
    return done.stdout


def main() -> None:
    toolkit = chosen_toolkit()
    if toolkit is None:
        print("null")
        return
    architectures = chosen_architectures(toolkit)
    chosen = {
        "compiler": toolkit.compiler(architectures),
        # None: the C++ compiler finds them by itself, and must not be told of the same folder once more.
        "include": str(toolkit.include_folder) if toolkit.include_flags else None,
        "static_runtime": str(toolkit.static_runtime),
        "build_info": describe(toolkit, architectures),
    }
    print(json.dumps(chosen))


if __name__ == "__main__":
    try:
        main()
    except CudaUnavailable as error:
        sys.exit(str(error))
