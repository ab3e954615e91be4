"""Builds the harness that runs the ops through TensorFlow's own interface (tests/gpu/tf_harness/README.md).

    python tools/tf_harness.py emulated    build/tf-harness-emulated: the CUDA kernels run on the CPU
    python tools/tf_harness.py pack        build/tf-harness: for a GPU in a machine without TensorFlow, with the op
                                           library that is installed here, which needs its CUDA kernels

Either folder stands alone: `sh FOLDER/run.sh` runs it. Needs TensorFlow, g++ and strip; "pack" also pip, and a network
for TensorFlow's CUDA runtime, without which a stand-in takes its place.
"""

import gzip
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import device_code
import tensorflow_flags
from gpu_library import EMULATION, EMULATOR, LIBRARY_OBJECTS, EmulationBuilder
from toolchain import ROOT, Builder, BuildError, alone_in, cuda_sources, sources

SOURCES = "tests/gpu/tf_harness"
HARNESS_OBJECTS = ROOT / "build" / "tf-harness-objects"
FRAMEWORK = "libtensorflow_framework.so.2"
OPS = "_dcnv2_ops.so"
REMEDY = "`DCNV2_CUDA=1 pip install -e .` builds it."
CUDA_RUNTIME = "libcudart.so.12"
CUDA_RUNTIME_PACKAGE = "nvidia-cuda-runtime-cu12"
# What TensorFlow 2.20 asks for before it makes a GPU device. Our ops use none of it: empty libraries do.
UNUSED_LIBRARIES = (
    *("libcublas.so.12", "libcublasLt.so.12", "libcufft.so.11", "libcusolver.so.11", "libcusparse.so.12"),
    "libcudnn.so.9",
)


def build_emulated() -> Path:
    """Returns the folder of the harness with the emulated device, rebuilt where it is out of date."""
    folder = ROOT / "build" / "tf-harness-emulated"
    tensorflow = _tensorflow()
    # Objects that are part of the installed op library, and of the emulated library of tests/gpu, are the very same.
    processor, emulation = Builder(LIBRARY_OBJECTS), EmulationBuilder(ROOT / "build" / "gpu-emulated")
    objects = processor.compile(sources("cc/kernels", "cc/ops"), tensorflow["compile"])
    objects += processor.compile(sources("cc/lib"))
    glue = [source for source in cuda_sources("cc/kernels") if source.endswith(".cc")]
    objects += emulation.compile(glue, [*tensorflow["compile"], f"-I{ROOT / EMULATION}"])
    objects += emulation.compile([*cuda_sources("cc/lib"), *EMULATOR])
    framework = Path(tensorflow["library_folder"]) / FRAMEWORK
    ops = emulation.link(OPS, objects, [str(framework), "-Wl,-z,defs"])
    driver = emulation.link("libcuda.so", emulation.compile([f"{SOURCES}/emulated_driver.cc"]), [])
    with alone_in(folder):
        _add_harness(folder, tensorflow)
        _copy(ops, folder / "lib" / OPS)
        _copy(driver, folder / "emulated" / "libcuda.so.1")
        _copy_framework(framework, folder / "lib" / FRAMEWORK)
    return folder


def pack() -> Path:
    """Returns the folder of the harness for a GPU, with everything that it needs beside the driver.

    Raises:
        BuildError: the op library is not built, is without CUDA kernels, or is older than its sources.
    """
    folder = ROOT / "build" / "tf-harness"
    ops = ROOT / "tf_dcnv2" / "ops" / OPS
    built = ops.with_name("_build_info.json")
    if not ops.exists() or not built.exists() or not json.loads(built.read_text()).get("cuda"):
        raise BuildError(f"{ops} is not built with CUDA kernels. {REMEDY}")
    if newer := [path for path in _op_sources() if path.stat().st_mtime > ops.stat().st_mtime]:
        raise BuildError(f"{ops} is older than {max(newer, key=lambda path: path.stat().st_mtime)}. {REMEDY}")
    tensorflow = _tensorflow()
    shutil.rmtree(folder, ignore_errors=True)
    _add_harness(folder, tensorflow)
    framework = HARNESS_OBJECTS / FRAMEWORK
    _copy_framework(Path(tensorflow["library_folder"]) / FRAMEWORK, framework)
    for library in (framework, ops):
        _compress(library, folder / "lib" / f"{library.name}.gz")
    try:
        _fetch_cuda_runtime(folder / "cuda-12" / CUDA_RUNTIME)
    except (OSError, subprocess.SubprocessError, StopIteration) as error:
        print(f"without {CUDA_RUNTIME}, in the place of which a stand-in will do: {error}", file=sys.stderr)
    return folder


def _op_sources() -> list[Path]:
    folders = [ROOT / "cc" / name for name in ("kernels", "lib", "ops")]
    return [path for folder in folders for path in folder.rglob("*") if path.suffix in (".cc", ".h", ".cu", ".cuh")]


def _tensorflow() -> dict:
    LIBRARY_OBJECTS.mkdir(parents=True, exist_ok=True)
    return tensorflow_flags.installed(LIBRARY_OBJECTS)


def _add_harness(folder: Path, tensorflow: dict) -> None:
    """Adds what both folders have: the program, how to run it, and libraries that TensorFlow asks for."""
    builder = Builder(HARNESS_OBJECTS)
    programs = [f"{SOURCES}/{name}.cc" for name in ("harness", "op_runner")]
    # Time goes into TensorFlow's headers, and the program itself needs no speed.
    objects = builder.compile(programs, [*tensorflow["compile"], "-O1"])
    framework = Path(tensorflow["library_folder"]) / FRAMEWORK
    harness = builder.link("harness", objects, [str(framework), "-ldl", "-pthread"])
    runtime = builder.link("libcudart.so", builder.compile([f"{SOURCES}/cuda_runtime_12.cc"]), [])
    unused = builder.link("libunused.so", [], ["-x", "c++", "/dev/null"])
    _copy(harness, folder / "harness")
    _copy(ROOT / SOURCES / "run.sh", folder / "run.sh")
    _copy(runtime, folder / "stand-in" / CUDA_RUNTIME)
    for name in UNUSED_LIBRARIES:
        _copy(unused, folder / "unused" / name)


def _copy_framework(library: Path, target: Path) -> None:
    """Copies TensorFlow's library without symbols for debuggers and without device code."""
    inputs = (library, Path(__file__), Path(device_code.__file__))
    if target.exists() and target.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".new")
    subprocess.run(["strip", "--strip-all", "-o", str(unfinished), str(library)], check=True)
    device_code.remove(unfinished)
    unfinished.replace(target)


def _fetch_cuda_runtime(target: Path) -> None:
    """Gets the CUDA runtime that `pip install tensorflow[and-cuda]` would install."""
    requirements = importlib.metadata.requires("tensorflow") or []
    wanted = next(text for text in requirements if text.startswith(CUDA_RUNTIME_PACKAGE)).partition(";")[0]
    with tempfile.TemporaryDirectory() as downloads:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", downloads, wanted], check=True, stdout=sys.stderr)
        (wheel,) = Path(downloads).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(f"/{CUDA_RUNTIME}"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))


def _copy(source: Path, target: Path) -> None:
    """Copies a file under another name first: the target may be a program at work."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".new")
    shutil.copy2(source, unfinished)
    unfinished.replace(target)


def _compress(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open("rb") as plain, gzip.open(target, "wb", compresslevel=6) as packed:
        shutil.copyfileobj(plain, packed)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    commands = {"emulated": build_emulated, "pack": pack}
    if len(arguments) != 1 or arguments[0] not in commands:
        print(f"tf_harness.py takes emulated or pack. Received: {' '.join(arguments)}", file=sys.stderr)
        return 2
    folder = commands[arguments[0]]()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
