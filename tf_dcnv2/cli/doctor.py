"""`tf-dcnv2 doctor`: is this installation healthy, and if not, what to do."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tf_dcnv2.cli.console import say

SUMMARY = "check the installation and say what is wrong with it"

DESCRIPTION = """\
Prints the versions of everything involved, whether the custom ops are built and for which TensorFlow, and lets them
compute a small example. The exit status is 1 if something is broken; the report says what to do."""

EXAMPLES = """\
  tf-dcnv2 doctor"""

_DETECTION_PACKAGES = (
    "tf-models-official", "pycocotools", "pyyaml", "rich", "pillow", "matplotlib", "scikit-image"
)  # fmt: skip
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
    for check in (_python, _machine, _tensorflow, _keras, _numpy, _detection_packages, _compiler, _ops, _self_check):
        for finding in _findings(check):
            say(finding.subject, finding.text if finding.ok else f"PROBLEM: {finding.text}")
            if not finding.ok:
                say("", f"  {finding.remedy}")
                broken += 1
    say("verdict", "everything works" if not broken else f"{broken} problem{'s' if broken > 1 else ''}, see above")
    return 1 if broken else 0


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; one that breaks down is a finding too."""
    try:
        yield from check()
    except Exception as error:
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

    supported = tf.__version__.split(".")[:2] == ["2", "20"]
    yield Finding("tensorflow", tf.__version__, supported, "pip install 'tensorflow==2.20.*'")
    gpus = [gpu.name.removeprefix("/physical_device:") for gpu in tf.config.list_physical_devices("GPU")]
    yield Finding("gpu", ", ".join(gpus) or "none visible to TensorFlow (TF_CPP_MIN_LOG_LEVEL=0 tf-dcnv2 doctor: why)")


def _keras() -> Iterator[Finding]:
    import keras

    backend = keras.config.backend()
    remedy = 'Set "backend": "tensorflow" in ~/.keras/keras.json, or unset KERAS_BACKEND.'
    yield Finding("keras", f"{keras.__version__}, backend {backend}", backend == "tensorflow", remedy)


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


def _ops() -> Iterator[Finding]:
    from tf_dcnv2.ops import native

    try:
        native.load()
    except native.NativeOpsUnavailable as error:
        yield Finding("ops", "the custom ops cannot be used", False, str(error))
    else:
        yield Finding("ops", f"{native.library_path()}, built for this TensorFlow")


def _self_check() -> Iterator[Finding]:
    """Deformable convolution at half-pixel offsets against values worked out by hand, with either implementation."""
    import numpy as np

    from tf_dcnv2.ops import deform_conv2d, native

    x = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    # y(i, j) = 2 * 0.5 * x(i + 0.5, j + 0.5); zeros beyond the last row and column.
    expected = np.array([[2, 3, 1.75], [5, 6, 3.25], [3.25, 3.75, 2]], np.float32).reshape(1, 3, 3, 1)
    arguments = (x, np.full((1, 1, 1, 1), 2, np.float32), np.full((1, 3, 3, 2), 0.5, np.float32))
    mask = np.full((1, 3, 3, 1), 0.5, np.float32)
    implementations = ("native", "composite") if native.is_available() else ("composite",)
    for implementation in implementations:
        y = deform_conv2d(*arguments, mask, implementation=implementation)
        difference = float(np.abs(np.asarray(y) - expected).max())
        ok = difference < 1e-5
        verdict = "correct" if ok else f"off by {difference:g}"
        remedy = "Rebuild the ops: pip install --force-reinstall --no-deps --no-build-isolation ."
        yield Finding("computes", f"{implementation} deformable convolution: {verdict}", ok, remedy)
