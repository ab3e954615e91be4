"""`tf-dcnv2 doctor`: is this installation healthy, and if not, what to do."""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from tf_dcnv2_cli.console import log
from tf_dcnv2_cli.cuda_driver import Driver, Gpu, needed_driver, query_driver

SUMMARY = "check the installation and report what is wrong with it"

DESCRIPTION = """\
Prints the versions of everything involved, whether the custom ops are built, for which TensorFlow and with which CUDA,
whether that fits the NVIDIA driver and the GPUs of this machine, and lets the ops compute a small example. The exit
status is 1 if something is broken; the report says what to do."""

EXAMPLES = """\
  tf-dcnv2 doctor"""

_DETECTION_PACKAGES = ("tf-models-official", "pycocotools", "pyyaml", "rich", "pillow", "matplotlib", "scikit-image")
_REBUILD = "pip install --force-reinstall --no-deps --no-build-isolation ."
_CPU_FEATURES = ("avx2", "fma", "avx512f", "neon", "asimd")


class Finding(NamedTuple):
    """One line of the report; `remedy` is what to do about it when it is not `ok`."""

    subject: str
    text: str
    ok: bool = True
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments: there are none."""


def run(arguments: argparse.Namespace) -> int:
    """Prints all findings; 1 if one of them is bad."""
    broken = 0
    software = [_python, _machine, _tensorflow, _keras, _numpy, _detection_packages, _compiler, _cuda_compiler]
    for check in [*software, _ops, _driver, _gpu, _self_check]:
        for finding in _findings(check):
            log(finding.subject, finding.text if finding.ok else f"PROBLEM: {finding.text}")
            if not finding.ok:
                log("", f"  {finding.remedy}")
                broken += 1
    log("verdict", "everything works" if not broken else f"{broken} problem{'s' if broken > 1 else ''}, see above")
    return 1 if broken else 0


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yields what a check finds; a check that breaks down is a finding too."""
    try:
        yield from check()
    except Exception as error:
        if hasattr(error, "backend"):
            return  # the package cannot be imported, as _keras reports
        subject = check.__name__.strip("_").replace("_", " ")
        yield Finding(subject, f"{type(error).__name__}: {error}", False, "The lines above may tell why.")


def _python() -> Iterator[Finding]:
    supported = (3, 10) <= sys.version_info < (3, 14)
    text = f"{platform.python_version()} at {sys.executable}"
    yield Finding("python", text, supported, "Use Python 3.10 to 3.13.")


def _machine() -> Iterator[Finding]:
    features = [name for name in _CPU_FEATURES if name in _cpu_flags()]
    yield Finding("machine", f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs {' '.join(features)}")


def _cpu_flags() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    lines = cpuinfo.read_text().splitlines()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":", 1)[1].split()}


def _tensorflow() -> Iterator[Finding]:
    import tensorflow as tf

    from tf_dcnv2.ops import native

    # The ops are compiled against one minor release, whichever was installed then.
    release = ".".join(native.build_info().get("tensorflow", tf.__version__).split(".")[:2])
    fits = tf.__version__.startswith(f"{release}.")
    text = tf.__version__ if fits else f"{tf.__version__}, but the ops are built for {release}"
    yield Finding("tensorflow", text, fits, f"pip install 'tensorflow=={release}.*', or {_REBUILD}")


def _keras() -> Iterator[Finding]:
    version = metadata.version("keras")
    try:
        import tf_dcnv2  # noqa: F401, refuses other backends
    except ImportError as error:
        # UnsupportedBackendError, which cannot be imported here: its package is the one that fails.
        if not (hasattr(error, "backend") and hasattr(error, "remedy")):
            raise
        yield Finding("keras", f"{version}, backend {error.backend}", False, error.remedy)
    else:
        yield Finding("keras", f"{version}, backend tensorflow")


def _numpy() -> Iterator[Finding]:
    yield Finding("numpy", metadata.version("numpy"))


def _detection_packages() -> Iterator[Finding]:
    versions = {name: _installed_version(name) for name in _DETECTION_PACKAGES}
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    missing = ", ".join(name for name, version in versions.items() if not version)
    # Ops and layers work without them, so it is no problem.
    hint = f"; not installed: {missing} (detectors need: pip install 'tf-dcnv2[detection]')" if missing else ""
    yield Finding("detection", present + hint)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _compiler() -> Iterator[Finding]:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        yield Finding("compiler", "no g++; only needed to build the custom ops")
        return
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout.splitlines()
    yield Finding("compiler", version[0] if version else compiler)


def _cuda_compiler() -> Iterator[Finding]:
    """Lists what tools/cuda_toolkit.py chooses from: of each release the first that is found."""
    named = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    homes = [named] if named else sorted(map(str, Path("/usr/local").glob("cuda*")))
    candidates = [*([] if named else ["nvcc"]), *(f"{home}/bin/nvcc" for home in homes)]
    compilers: dict[str, str] = {}
    for nvcc in filter(None, map(shutil.which, candidates)):
        version = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
        release = re.search(r"release ([\d.]+)", version)
        compilers.setdefault(f"CUDA {release[1]}" if release else "an unknown release", nvcc)
    text = ", ".join(f"{release} at {nvcc}" for release, nvcc in compilers.items())
    yield Finding("nvcc", text or "not found; only needed to build the custom ops for GPUs")


def _ops() -> Iterator[Finding]:
    from tf_dcnv2.ops import native

    if not native.is_built():
        yield Finding(
            "ops", "not built: TensorFlow's own ops compute the same, slower; DCNV2_NATIVE=1 pip install . builds them"
        )
        return
    try:
        native.load()
    except native.NativeOpsUnavailable as error:
        yield Finding("ops", "the custom ops cannot be used", False, str(error))
    else:
        cuda = native.build_info().get("cuda")
        built = f"CPU and {_cuda_build(cuda)}" if cuda else "the CPU only"
        yield Finding("ops", f"{native.library_path()}, built for this TensorFlow, for {built}")


def _driver() -> Iterator[Finding]:
    """The NVIDIA driver, which must be new enough for the release of CUDA that the ops were built with."""
    from tf_dcnv2.ops import native

    driver = query_driver()
    if driver is None:
        yield Finding("driver", "no NVIDIA driver")
        return
    text = f"NVIDIA driver {driver.version}".rstrip() + ", which knows CUDA {}.{} and older".format(*driver.cuda)
    cuda = native.build_info().get("cuda")
    if cuda and driver.gpus and not driver.runs(cuda["version"]):
        need = f"the ops are built with CUDA {cuda['version']}, which needs driver {needed_driver(cuda['version'])}"
        yield Finding("driver", f"{text}; {need}", False, _driver_remedy(driver))
    else:
        yield Finding("driver", text)


def _driver_remedy(driver: Driver) -> str:
    """Says what to do about a driver that is too old for the ops."""
    # tools/cuda_toolkit.py, OLDEST_RELEASE, and TensorFlow itself.
    oldest_major = 12
    if driver.cuda[0] < oldest_major:
        return f"Update the driver: TensorFlow needs {needed_driver(f'{oldest_major}.0')} too."
    major = driver.cuda[0]
    return (
        f"Update the driver, or rebuild the ops with a toolkit of CUDA {major}: "
        f"CUDA_HOME=/usr/local/cuda-{major} DCNV2_CUDA=1 {_REBUILD}"
    )


def _gpu() -> Iterator[Finding]:
    """The GPUs of the driver, the code that the ops have for them, and whether TensorFlow uses them."""
    import tensorflow as tf

    from tf_dcnv2.ops import native

    driver = query_driver()
    cuda = native.build_info().get("cuda")
    if driver:
        yield from (_code_for(gpu, driver, cuda) for gpu in driver.gpus)
    visible = tf.config.get_visible_devices("GPU")
    if not (driver and driver.gpus) and not visible:
        yield Finding("gpu", "none")
    elif not visible:
        remedy = (
            f"pip install 'tensorflow[and-cuda]=={tf.__version__}' brings the libraries it needs; "
            "TF_CPP_MIN_LOG_LEVEL=0 tf-dcnv2 doctor tells what is missing. "
            'CUDA_VISIBLE_DEVICES="" says that this is meant to be so.'
        )
        yield Finding("gpu", "TensorFlow sees none of them", False, remedy)
    elif native.is_available() and not cuda:
        remedy = f"Install NVIDIA's CUDA toolkit and rebuild the ops: DCNV2_CUDA=1 {_REBUILD}"
        yield Finding("gpu", "TensorFlow computes on it, but the custom ops do not", False, remedy)


def _code_for(gpu: Gpu, driver: Driver, cuda: dict[str, Any] | None) -> Finding:
    """One GPU, and whether the ops have code that it runs."""
    text = "{}, compute capability {}.{}".format(gpu.name, *gpu.capability)
    compile_for_it = "DCNV2_CUDA_ARCHS={}{} {}".format(*gpu.capability, _REBUILD)
    if not cuda or _has_machine_code_for(gpu, cuda):
        return Finding("gpu", text)
    if not _has_ptx_for(gpu, cuda):
        return Finding("gpu", f"{text}; the ops are built for {_architectures(cuda)}", False, compile_for_it)
    if driver.runs(cuda["version"]) and not driver.compiles(cuda["version"]):
        problem = f"the ops have only PTX of CUDA {cuda['version']} for it, which the driver does not compile"
        remedy = f"Update the driver, or rebuild the ops with machine code for this GPU: {compile_for_it}"
        return Finding("gpu", f"{text}; {problem}", False, remedy)
    return Finding("gpu", f"{text}; the driver compiles PTX for it when an op first runs")


def _has_machine_code_for(gpu: Gpu, cuda: dict[str, Any]) -> bool:
    """Machine code runs on GPUs of its major and at least its minor version."""
    major, minor = gpu.capability
    return any(code // 10 == major and code % 10 <= minor for code in cuda["architectures"])


def _has_ptx_for(gpu: Gpu, cuda: dict[str, Any]) -> bool:
    """PTX runs on every GPU that is not older."""
    major, minor = gpu.capability
    return cuda["ptx"] <= 10 * major + minor


def _cuda_build(cuda: dict[str, Any]) -> str:
    """Describes a build: "CUDA 12.4 (compute capability 7.5, PTX 8.0), which needs driver 525.60.13 or newer"."""
    return f"CUDA {cuda['version']} ({_architectures(cuda)}), which needs driver {needed_driver(cuda['version'])}"


def _architectures(cuda: dict[str, Any]) -> str:
    """Describes architectures, such as "compute capability 7.5, 8.0, 9.0, PTX 9.0"."""
    codes = ", ".join(f"{code // 10}.{code % 10}" for code in cuda["architectures"])
    return f"compute capability {codes}, PTX {cuda['ptx'] // 10}.{cuda['ptx'] % 10}"


def _self_check() -> Iterator[Finding]:
    """Deformable convolution at half-pixel offsets against values worked out by hand, by all there is to compute it."""
    import numpy as np
    import tensorflow as tf

    from tf_dcnv2.ops import deform_conv2d, native

    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    # y(i, j) = 2 * 0.5 * x(i + 0.5, j + 0.5); zeros beyond the last row and column.
    expected = np.array([[2, 3, 1.75], [5, 6, 3.25], [3.25, 3.75, 2]], np.float32).reshape(1, 3, 3, 1)
    arguments = (x, np.full((1, 1, 1, 1), 2, np.float32), np.full((1, 3, 3, 2), 0.5, np.float32))
    mask = np.full((1, 3, 3, 1), 0.5, np.float32)
    runs = [("composite", "/CPU:0")]
    if native.is_available():
        on_gpu = native.build_info().get("cuda") and tf.config.get_visible_devices("GPU")
        runs = [("native", "/CPU:0"), *([("native", "/GPU:0")] if on_gpu else []), *runs]
    for implementation, device in runs:
        with tf.device(device):
            y = deform_conv2d(*arguments, mask, implementation=implementation)
        difference = float(np.abs(np.asarray(y) - expected).max())
        ok = difference < 1e-5
        where = "" if device == "/CPU:0" else " on the GPU"
        verdict = "correct" if ok else f"off by {difference:g}"
        yield Finding(
            "computes",
            f"{implementation} deformable convolution{where}: {verdict}",
            ok,
            f"Rebuild the ops: {_REBUILD}",
        )
