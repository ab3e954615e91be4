"""What `python -m build` makes, installed as a user installs it."""

import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A layer and its gradients, with whatever implementation there is.
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
import numpy as np, tensorflow as tf, tf_dcnv2
from tf_dcnv2.ops import native
assert "site-packages" in tf_dcnv2.__file__
layer = tf_dcnv2.layers.ModulatedDeformableConv2D(4, 3)
x = np.random.default_rng(0).normal(size=[1, 9, 9, 2]).astype("float32")
with tf.GradientTape() as tape:
    y = layer(x)
assert all(gradient is not None for gradient in tape.gradient(y, layer.trainable_variables))
print("native" if native.is_available() else "composite", y.shape)
"""


def run(*command: str | Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DCNV2_NATIVE")}
    options = {"capture_output": True, "text": True, "check": False}
    result = subprocess.run(command, env={**environment, **variables}, cwd="/", **options)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tools")!r})
import build_backend; print(build_backend.build_sdist({str(folder)!r}))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    [archive] = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def repaired(wheel: Path, folder: Path) -> Path:
    """The wheel as a release has it: tagged for the systems that it works on, as pyproject.toml tells cibuildwheel."""
    template = re.search(r'^repair-wheel-command = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(
        1
    )
    binaries = Path(sys.executable).parent
    command = shlex.split(template.format(dest_dir=folder, wheel=wheel))
    run(binaries / command[0], *command[1:], PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}")
    [result] = folder.glob("*.whl")
    assert "manylinux_2_" in result.name
    with zipfile.ZipFile(result) as archive:
        assert not [name for name in archive.namelist() if "libtensorflow" in name]
    return result


@pytest.mark.slow
def test_a_source_distribution_holds_all_that_building_testing_and_reading_take(source):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name for name in tracked.split("\0") if name and not name.startswith((".git", ".ci"))}
    missing = {name for name in names if not (source / name).exists()}
    assert not missing
    assert not list(source.rglob("*.so"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["native", "composite"])
def test_a_wheel_from_the_source_distribution_works_in_a_new_environment(source, kind, tmp_path):
    native = {"native": "1", "composite": "0"}[kind]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--wheel-dir", tmp_path]
    run(*pip, "wheel", source, *options, DCNV2_NATIVE=native, DCNV2_CUDA="0")
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if name.endswith(".so")]
    assert len(libraries) == (kind == "native")
    # One wheel for every Python; with ops in it, one for each machine.
    assert re.search("-py3-none-linux_.*" if kind == "native" else "-py3-none-any", wheel.name)
    if kind == "native":
        wheel = repaired(wheel, tmp_path / "repaired")
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"
    run(python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", wheel)
    assert run(python, "-c", PROGRAM, TF_CPP_MIN_LOG_LEVEL="3").split("\n")[0] == f"{kind} (1, 7, 7, 4)"
