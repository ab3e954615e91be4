"""How the CUDA toolkit is found and asked, and what an op library that is built with it contains."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cuda_toolkit
import pytest
from toolchain import LANGUAGE_FLAGS, ROOT, cuda_sources

from tf_dcnv2.ops import native

OPS = [
    "Dcnv2>DeformConv2D",
    "Dcnv2>DeformConv2DGrad",
    "Dcnv2>DeformRoiPool",
    "Dcnv2>DeformRoiPoolGrad",
]
NVCC = """#!/bin/sh
case "$*" in
  --version) echo 'Cuda compilation tools, release {release}, V{release}.48' ;;
  --list-gpu-code) printf '{codes}' ;;
  --dryrun*)
    echo '#$ TOP={home}/bin/..' >&2
    echo '#$ INCLUDES="-I{home}/bin/../include"  ' >&2
    echo '#$ LIBRARIES=  "-L{home}/lib64/stubs" "-L{home}/lib64"' >&2 ;;
  *-M*) {check} ;;
esac
"""
BLACKWELL = "sm_100\\nsm_100a\\nsm_103\\nsm_120\\n"
REFUSAL = "#error -- unsupported GNU version! gcc versions later than 12 are not supported!"
PARTS = ("include/cuda_runtime_api.h", "lib64/libcudart_static.a")


@pytest.fixture
def make_toolkit(tmp_path):
    """Makes a folder that looks like a CUDA toolkit, and returns it."""

    def make(name="cuda", release="13.0", parts=PARTS, codes=BLACKWELL, check="true"):
        home = tmp_path / name
        for part in ("bin/nvcc", *parts):
            (home / part).parent.mkdir(parents=True, exist_ok=True)
            (home / part).touch()
        known = f"sm_75\\nsm_80\\nsm_90\\nsm_90a\\n{codes}"
        (home / "bin" / "nvcc").write_text(NVCC.format(home=home, release=release, codes=known, check=check))
        (home / "bin" / "nvcc").chmod(0o755)
        return home

    return make


@pytest.fixture
def no_system_toolkit(monkeypatch, tmp_path):
    """Hides what this machine has; toolkits that make_toolkit names "local/cuda-12.8" and so on take its place."""
    monkeypatch.setattr(cuda_toolkit, "_SYSTEM_HEADERS", Path("/nowhere"))
    monkeypatch.setattr(cuda_toolkit, "_SYSTEM_LIBRARIES", ())
    monkeypatch.setattr(cuda_toolkit, "_INSTALLATIONS", tmp_path / "local")


def test_the_toolkit_of_the_environment_comes_before_that_of_the_path(make_toolkit, no_system_toolkit):
    homes = [str(make_toolkit(name)) for name in ("first", "second", "third")]
    environment = {"CUDA_HOME": homes[0], "CUDA_PATH": homes[1], "PATH": f"{homes[2]}/bin"}
    for name, home in zip(("CUDA_HOME", "CUDA_PATH", "PATH"), homes, strict=True):
        toolkit = cuda_toolkit.find_toolkit(environment)
        assert toolkit.nvcc == f"{home}/bin/nvcc"
        assert toolkit.version == "13.0"
        assert toolkit.include_flags == [f"-isystem{home}/include"]
        assert toolkit.link_flags[0] == f"{home}/lib64/libcudart_static.a"
        del environment[name]


@pytest.mark.parametrize(
    "on_path, installed, chosen",
    [
        # What TensorFlow 2.20 runs with is 12: drivers that are good enough for it may be too old for 13.
        ("13.0", ["12.4", "12.8"], "12.8"),
        ("12.4", ["13.0"], "12.4"),
        ("12.4", ["12.8", "13.0"], "12.8"),
        ("13.0", ["13.1"], "13.1"),
        ("13.0", ["11.8"], "13.0"),
        (None, ["12.9", "13.0"], "12.9"),
    ],
)
def test_the_newest_toolkit_of_tensorflows_major_release_is_chosen(
    make_toolkit, no_system_toolkit, on_path, installed, chosen
):
    environment = {"PATH": "/usr/bin:/bin"}
    if on_path:
        environment["PATH"] = f"{make_toolkit('path', on_path)}/bin:{environment['PATH']}"
    for release in installed:
        make_toolkit(f"local/cuda-{release}", release)
    assert cuda_toolkit.find_toolkit(environment).version == chosen
    # The environment's own choice is not questioned.
    environment["CUDA_HOME"] = str(make_toolkit("home", "12.1"))
    assert cuda_toolkit.find_toolkit(environment).version == "12.1"


def test_without_a_preferred_release_the_newest_toolkit_is_chosen(make_toolkit, no_system_toolkit):
    for release in ("12.4", "13.0"):
        make_toolkit(f"local/cuda-{release}", release)
    assert cuda_toolkit.find_toolkit({"PATH": "/usr/bin:/bin"}, preferred_major=None).version == "13.0"


def test_a_toolkit_that_refuses_the_c_plus_plus_compiler_is_passed_over(make_toolkit, no_system_toolkit):
    make_toolkit("local/cuda-12.1", "12.1", check=f"echo 'host_config.h:143: error: {REFUSAL} The nvcc flag'; exit 1")
    message = f"{REFUSAL.removeprefix('#error -- ')} Name an older one, for example with CXX=g++-12."
    with pytest.raises(cuda_toolkit.CudaUnavailable, match=rf"cuda-12\.1/bin/nvcc.*{re.escape(message)}$"):
        cuda_toolkit.find_toolkit({"PATH": "/usr/bin:/bin"})
    make_toolkit("local/cuda-13.0", "13.0")
    assert cuda_toolkit.find_toolkit({"PATH": "/usr/bin:/bin"}).version == "13.0"


def test_the_static_runtime_may_be_where_packages_of_pypi_have_it(make_toolkit, no_system_toolkit):
    home = make_toolkit("nvidia/cu13", parts=("include/cuda_runtime_api.h", "lib/libcudart_static.a"))
    assert cuda_toolkit.find_toolkit({"CUDA_HOME": str(home)}).static_runtime == home / "lib" / "libcudart_static.a"


@pytest.mark.parametrize("name", ["CUDA_HOME", "CUDA_PATH"])
def test_a_folder_without_toolkit_is_not_replaced_by_another(make_toolkit, no_system_toolkit, tmp_path, name):
    environment = {name: f"{tmp_path}/empty", "PATH": f"{make_toolkit()}/bin"}
    with pytest.raises(
        cuda_toolkit.CudaUnavailable, match=f"no nvcc .*/empty/bin/nvcc, as {name}={tmp_path}/empty asks"
    ):
        cuda_toolkit.find_toolkit(environment)


@pytest.mark.parametrize("wanted", [None, "", "auto"])
def test_without_nvcc_the_ops_are_built_for_the_cpu(wanted, no_system_toolkit, capsys):
    environment = {"PATH": "/nowhere"} | ({} if wanted is None else {"DCNV2_CUDA": wanted})
    assert cuda_toolkit.chosen_toolkit(environment) is None
    assert "building for the CPU only: there is no nvcc" in capsys.readouterr().err


def test_cuda_can_be_declined(make_toolkit):
    environment = {"CUDA_HOME": str(make_toolkit()), "DCNV2_CUDA": "0"}
    assert cuda_toolkit.chosen_toolkit(environment) is None
    del environment["DCNV2_CUDA"]
    assert cuda_toolkit.chosen_toolkit(environment) is not None


@pytest.mark.parametrize(
    "options, reason",
    [
        (None, "there is no nvcc"),
        ({"release": "11.8"}, "is of CUDA 11.8; the kernels need 12.1 or newer"),
        ({"parts": ["include/cuda_runtime_api.h"]}, "has no libcudart_static.a"),
        ({"parts": ["lib64/libcudart_static.a"]}, "has no cuda_runtime_api.h"),
    ],
)
def test_cuda_that_was_asked_for_and_cannot_be_had_is_an_error_with_what_to_do(
    make_toolkit, no_system_toolkit, options, reason
):
    environment = {"PATH": "/usr/bin:/bin", "DCNV2_CUDA": "1"}
    if options is not None:
        environment["CUDA_HOME"] = str(make_toolkit(**options))
    with pytest.raises(cuda_toolkit.CudaUnavailable) as caught:
        cuda_toolkit.chosen_toolkit(environment)
    assert reason in str(caught.value)
    assert "CUDA_HOME" in str(caught.value) and "DCNV2_CUDA=0" in str(caught.value)


def test_headers_that_the_compiler_finds_by_itself_are_not_named_again(make_toolkit, monkeypatch, capsys):
    home = make_toolkit()
    for name in ("DCNV2_CUDA", "DCNV2_CUDA_ARCHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(home))
    cuda_toolkit.main()
    assert json.loads(capsys.readouterr().out)["include"] == str(home / "include")
    # #include_next would not find what is beside them.
    monkeypatch.setattr(cuda_toolkit, "_SYSTEM_HEADERS", home / "include")
    cuda_toolkit.main()
    assert json.loads(capsys.readouterr().out)["include"] is None
    assert cuda_toolkit.find_toolkit().include_flags == []


def test_architectures_are_compiled_to_machine_code_and_the_newest_to_ptx(make_toolkit):
    toolkit = cuda_toolkit.find_toolkit({"CUDA_HOME": str(make_toolkit())})
    for text in ("75;90", "90 75", "90,75,90"):
        assert toolkit.architectures(text) == [75, 90]
    assert toolkit.compiler([75, 90])[-4:] == [
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_90,code=compute_90",
        "-Xfatbin=-compress-all",
    ]


@pytest.mark.parametrize(
    "release, codes, expected, left_out",
    [
        ("13.0", BLACKWELL, [75, 80, 90, 100, 120], ""),
        ("12.4", "", [75, 80, 90], "; it does not know 10.0, 12.0, for which drivers compile the PTX of 9.0"),
    ],
)
def test_without_a_choice_all_that_the_toolkit_knows_of_the_usual_architectures_are_compiled(
    make_toolkit, release, codes, expected, left_out
):
    home = make_toolkit(release=release, codes=codes)
    toolkit = cuda_toolkit.find_toolkit({"CUDA_HOME": str(home)})
    assert cuda_toolkit.chosen_architectures(toolkit, {}) == expected
    assert cuda_toolkit.chosen_architectures(toolkit, {"DCNV2_CUDA_ARCHS": "80"}) == [80]
    summary = cuda_toolkit.summary(toolkit, expected)
    assert summary.startswith(f"with CUDA {release} of {home}/bin/nvcc for compute capability 7.5, 8.0, 9.0")
    assert summary.endswith(left_out or "10.0, 12.0")


@pytest.mark.parametrize("text", ["7.5", "sm_75", "75;60", "90a", ";", "all"])
def test_other_architectures_are_refused_by_name(make_toolkit, text):
    toolkit = cuda_toolkit.find_toolkit({"CUDA_HOME": str(make_toolkit())})
    with pytest.raises(
        cuda_toolkit.CudaUnavailable, match=r"without the dot.*CUDA 13\.0 knows 75, 80, 90, 100, 103, 120\. Received: "
    ):
        toolkit.architectures(text)


@pytest.mark.parametrize("listed, expected", [("8.0\n9.0\n9.0\n", [80, 90]), ("12.0\n", [120])])
def test_native_architectures_are_those_of_the_gpus(make_toolkit, tmp_path, monkeypatch, listed, expected):
    script = tmp_path / "nvidia-smi"
    script.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert cuda_toolkit.find_toolkit({"CUDA_HOME": str(make_toolkit())}).architectures("native") == expected


def test_native_architectures_without_a_gpu_are_an_error(make_toolkit, monkeypatch):
    toolkit = cuda_toolkit.find_toolkit({"CUDA_HOME": str(make_toolkit())})
    known = cuda_toolkit._output([toolkit.nvcc, "--list-gpu-code"])
    assert "sm_120" in known
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(cuda_toolkit.CudaUnavailable, match="nvidia-smi shows none. Name their compute capabilities"):
        toolkit.architectures("native")


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"DCNV2_CUDA": "yes"}, "DCNV2_CUDA must be auto, 1 or 0. Received: DCNV2_CUDA='yes'"),
        ({"DCNV2_CUDA_ARCHS": "sm_90"}, "Received: 'sm_90' in DCNV2_CUDA_ARCHS='sm_90'"),
    ],
)
def test_setup_refuses_wrong_values_before_it_builds(make_toolkit, variables, message):
    environment = {**os.environ, "CUDA_HOME": str(make_toolkit()), "DCNV2_CUDA": "1", **variables}
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"tf-dcnv2: {message}" in done.stderr or message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("source", [source for source in cuda_sources("cc/lib") if source.endswith(".cu")])
def test_kernels_need_no_instruction_that_is_newer_than_the_oldest_toolkit(source, tmp_path):
    try:
        nvcc = cuda_toolkit.find_toolkit().nvcc
    except cuda_toolkit.CudaUnavailable as error:
        pytest.skip(str(error))
    ptx = tmp_path / "kernels.ptx"
    subprocess.run([nvcc, *LANGUAGE_FLAGS, "-arch=compute_90a", "-ptx", source, "-o", str(ptx)], cwd=ROOT, check=True)
    # CUDA 12.1 has release 8.1 of PTX; the assembler refuses what came later.
    text, versions = re.subn(r"^\.version \d+\.\d+$", ".version 8.1", ptx.read_text(), flags=re.MULTILINE)
    assert versions == 1
    # Newer compilers add hints of their own.
    ptx.write_text(re.sub(r"^\s*\.pragma .*$", "", text, flags=re.MULTILINE))
    command = [nvcc, "-arch=sm_90a", "-Xptxas=-O0", "-cubin", str(ptx), "-o", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def cuda_library(native_ops) -> Path:
    """The op library, which has CUDA kernels wherever it could be built with them."""
    if not native.build_info().get("cuda"):
        try:
            toolkit = cuda_toolkit.chosen_toolkit()
        except cuda_toolkit.CudaUnavailable:
            toolkit = None
        if toolkit is not None:
            pytest.fail(f"there is CUDA {toolkit.version}, but the ops are built without: reinstall the package")
        pytest.skip("the ops are built without CUDA")
    return Path(native.library_path())


def test_a_cuda_build_is_described(cuda_library):
    built = native.build_info()["cuda"]
    assert set(built) == {"version", "architectures", "ptx"}
    assert built["ptx"] == max(built["architectures"])
    # Continuous integration compiles for all architectures that are supported without being asked for.
    if os.environ.get("CI") and "DCNV2_CUDA_ARCHS" not in os.environ:
        toolkit = cuda_toolkit.find_toolkit()
        assert built["architectures"] == [one for one in (75, 80, 90, 100, 120) if one in toolkit.known_architectures()]


@pytest.mark.parametrize("op", OPS)
def test_kernels_of_every_type_are_registered_for_cpu_and_gpu(cuda_library, op):
    import tensorflow as tf
    from tensorflow.python.framework import kernels

    registered = set()
    for kernel in kernels.get_registered_kernels_for_op(op).kernel:
        types = {one.name: [tf.as_dtype(value) for value in one.allowed_values.list.type] for one in kernel.constraint}
        registered.add((kernel.device_type, *types["T"], *types["C"]))
        on_host = ["spatial_scales", "gamma"] if "RoiPool" in op and kernel.device_type == "GPU" else []
        assert list(kernel.host_memory_arg) == on_host
    coordinates = {tf.float16: tf.float32, tf.bfloat16: tf.float32, tf.float32: tf.float32, tf.float64: tf.float64}
    assert registered == {(device, *types) for device, types in itertools.product(("CPU", "GPU"), coordinates.items())}


def test_the_library_brings_its_own_cuda_runtime_and_needs_no_driver(cuda_library):
    def printed(*command):
        return subprocess.run([*command, str(cuda_library)], capture_output=True, text=True, check=True).stdout

    # TensorFlow's framework library has functions of the runtime too, of another release: none may come from there.
    needed = [line.split()[-1] for line in printed("nm", "-D", "--undefined-only").splitlines()]
    assert not [name for name in needed if name.lower().startswith(("cuda", "__cuda", "cu_", "culaunch"))]
    dynamic = printed("readelf", "-d", "-W")
    assert "libtensorflow_framework.so.2" in dynamic
    assert "libcuda" not in dynamic
