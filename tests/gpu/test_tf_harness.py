"""The CUDA kernels through TensorFlow's own interface, on a GPU device of TensorFlow's over the emulated device."""

import gzip
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tf_harness
from toolchain import ROOT, BuildError

RUN = ROOT / "tests" / "gpu" / "tf_harness" / "run.sh"


@pytest.fixture(scope="module")
def folder() -> Path:
    """The harness, compiled where it is out of date."""
    if "emulated" not in os.environ.get("DCNV2_TEST_DEVICES", "emulated").split(","):
        pytest.skip("DCNV2_TEST_DEVICES leaves out the emulated device without a sanitizer")
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("there is no TensorFlow here; its headers and its library are needed")
    return tf_harness.build_emulated()


def test_kernels_pass_every_case_of_the_harness(folder):
    done = subprocess.run(["sh", str(folder / "run.sh")], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    cases = done.stdout.splitlines()[:-1]
    assert len(cases) >= 30 and all(re.search(r"\S  +ok ", case) for case in cases)
    assert re.match(r"(\d+) of \1 cases passed .*emulated device", done.stdout.splitlines()[-1])


def test_a_driver_that_is_too_old_is_an_error_of_the_op(folder):
    """The emulated driver lacks what the ops' own CUDA runtime asks for."""
    ops = ROOT / "tf_dcnv2" / "ops" / tf_harness.OPS
    built = ops.with_name("_build_info.json")
    if not ops.exists() or not json.loads(built.read_text()).get("cuda"):
        pytest.skip("the ops are built without CUDA")
    libraries = ":".join(str(folder / name) for name in ("lib", "emulated", "stand-in", "unused"))
    done = subprocess.run(
        [str(folder / "harness"), str(ops), "gradients, float32"],
        env={**os.environ, "LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    *cases, _ = done.stdout.splitlines()
    expected = r"FAIL  INTERNAL: Dcnv2>\w+ failed on the GPU: .*driver.* \(cudaError\w+\)\. `tf-dcnv2 doctor`"
    assert len(cases) == 4 and all(re.search(expected, case) for case in cases)


@pytest.fixture
def packed(tmp_path) -> Path:
    """A packed folder whose harness prints the folder of the CUDA runtime, and ends as the file `status` in it says."""
    for name in ("cuda-12", "stand-in", "lib"):
        (tmp_path / name).mkdir()
    (tmp_path / "lib" / f"{tf_harness.OPS}.gz").write_bytes(gzip.compress(b"the ops"))
    shutil.copy(RUN, tmp_path)
    harness = tmp_path / "harness"
    harness.write_text(
        "#!/bin/sh\n"
        "runtime=$(echo $LD_LIBRARY_PATH | cut -d: -f3)\n"
        'echo "$(cat $1), $(basename $runtime), $2"\n'
        "echo TensorFlow >&2\n"
        "exit $(cat $runtime/status)\n"
    )
    harness.chmod(0o755)
    return tmp_path


def run(folder: Path, statuses: dict[str, int]) -> tuple[int, list[str], str]:
    for name, status in statuses.items():
        (folder / name / "status").write_text(str(status))
    done = subprocess.run(["sh", str(folder / "run.sh"), "part"], capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_packed_folder_runs_with_tensorflows_cuda_runtime(packed):
    status, lines, messages = run(packed, {"cuda-12": 0})
    assert status == 0 and lines[1:] == ["the ops, cuda-12, part"] and not messages
    assert sorted(path.name for path in (packed / "lib").iterdir()) == [f"{tf_harness.OPS}.gz"]


@pytest.mark.parametrize("ended", [3, 139])
def test_without_a_device_or_after_a_crash_it_runs_once_more_and_fails(packed, ended):
    status, lines, messages = run(packed, {"cuda-12": ended, "stand-in": 0})
    assert status == 1 and "TensorFlow" in messages
    assert [line for line in lines if line.startswith("the ops")] == [
        "the ops, cuda-12, part",
        "the ops, stand-in, part",
    ]


def test_failed_cases_are_not_run_again(packed):
    status, lines, _ = run(packed, {"cuda-12": 1})
    assert status == 1 and lines[1:] == ["the ops, cuda-12, part"]


def test_without_tensorflows_cuda_runtime_a_stand_in_takes_its_place(packed):
    (packed / "cuda-12").rmdir()
    assert run(packed, {"stand-in": 0})[:2] == (0, ["the ops, stand-in, part"])
    assert run(packed, {"stand-in": 3})[0] == 1


@pytest.mark.parametrize("built", [None, {"cuda": None}])
def test_ops_without_cuda_kernels_are_not_packed(tmp_path, monkeypatch, built):
    monkeypatch.setattr(tf_harness, "ROOT", tmp_path)
    if built is not None:
        (tmp_path / "tf_dcnv2" / "ops").mkdir(parents=True)
        (tmp_path / "tf_dcnv2" / "ops" / tf_harness.OPS).touch()
        (tmp_path / "tf_dcnv2" / "ops" / "_build_info.json").write_text(json.dumps(built))
    with pytest.raises(BuildError, match="is not built with CUDA kernels. `DCNV2_CUDA=1 pip install -e .` builds it"):
        tf_harness.pack()


@pytest.mark.parametrize("name", ["kernels/op.cc", "lib/shape.h", "lib/gpu/kernel.cu", "lib/gpu/tile.cuh"])
def test_ops_that_are_older_than_a_source_are_not_packed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(tf_harness, "ROOT", tmp_path)
    ops, source = tmp_path / "tf_dcnv2" / "ops" / tf_harness.OPS, tmp_path / "cc" / name
    for path in (ops, source):
        path.parent.mkdir(parents=True)
        path.touch()
    ops.with_name("_build_info.json").write_text(json.dumps({"cuda": {"version": "13.0"}}))
    changed = source.stat().st_mtime
    os.utime(ops, (changed - 1, changed - 1))
    remedy = "`DCNV2_CUDA=1 pip install -e .` builds it"
    with pytest.raises(BuildError, match=rf"{re.escape(str(ops))} is older than {re.escape(str(source))}\. {remedy}"):
        tf_harness.pack()
