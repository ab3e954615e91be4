"""What `tf-dcnv2 doctor` says about GPUs, with a driver's library that is not there."""

import os

import pytest

from tf_dcnv2.ops import native
from tf_dcnv2_cli import cuda_driver, doctor
from tf_dcnv2_cli.cuda_driver import Driver, DriverError, Gpu, needed_driver, query_driver

TURING, AMPERE, ADA, HOPPER = Gpu("T4", (7, 5)), Gpu("A100", (8, 0)), Gpu("L4", (8, 9)), Gpu("H100", (9, 0))
BLACKWELL = Gpu("B200", (10, 0))
CUDA = {"version": "13.0", "architectures": [75, 80, 90], "ptx": 90}


class FakeLibcuda:
    """The functions of libcuda.so.1 that are asked, `version` as the driver writes it: 13020 for 13.2."""

    def __init__(self, version=13020, gpus=(), failure=0):
        self.version, self.gpus, self.failure = version, gpus, failure

    def cuInit(self, flags):
        return self.failure or (0 if self.gpus else 100)

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = len(self.gpus)
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal + 40
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = self.gpus[device.value - 40].name.encode()[: length - 1]
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = self.gpus[device.value - 40].capability[{75: 0, 76: 1}[attribute]]
        return 0

    def cuGetErrorName(self, status, text):
        text._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" if status == 803 else None
        return 0


def test_without_a_driver_there_is_nothing_to_tell():
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    assert query_driver(load) is None


def test_the_driver_tells_its_cuda_release_and_its_gpus():
    library = FakeLibcuda(12040, (HOPPER, TURING))
    assert query_driver(lambda name: {"libcuda.so.1": library}[name]) == Driver((12, 4), (HOPPER, TURING))


def test_a_driver_without_gpus_is_no_error():
    assert query_driver(lambda name: FakeLibcuda()) == Driver((13, 2), ())


@pytest.mark.parametrize("failure, name", [(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"), (9999, "error 9999")])
def test_an_error_of_the_driver_has_its_name(failure, name):
    with pytest.raises(DriverError, match=name):
        query_driver(lambda name: FakeLibcuda(failure=failure))


@pytest.mark.parametrize(
    "text, version",
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023", "535.104.05"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)",
            "580.65.06",
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  575.57  Thu May 29 2025", "575.57"),
        ("unknown", ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("gpus", [(), (HOPPER,)])
def test_the_kernel_module_tells_the_version_of_the_driver(monkeypatch, tmp_path, text, version, gpus):
    file = tmp_path / "version"
    if text is not None:
        file.write_text(f"{text}\nGCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n")
    monkeypatch.setattr(cuda_driver, "_KERNEL_MODULE", file)
    assert query_driver(lambda name: FakeLibcuda(gpus=gpus)).version == version


@pytest.mark.parametrize(
    "cuda, driver",
    [
        ("12.1", "525.60.13 or newer"),
        ("12.9", "525.60.13 or newer"),
        ("13.0", "580.65.06 or newer"),
        ("13.4", "580.65.06 or newer"),
        ("14.0", "of CUDA 14 or newer"),
    ],
)
def test_the_oldest_driver_is_that_of_the_major_release(cuda, driver):
    assert needed_driver(cuda) == driver


@pytest.fixture
def diagnose(monkeypatch):
    """Findings of a check on a machine with this driver, ops built with this CUDA, and GPUs that TensorFlow sees."""

    def diagnose(check, gpus=(), cuda=CUDA, driver=(13, 0), visible=None):
        monkeypatch.setattr(doctor, "query_driver", lambda: driver and Driver(driver, tuple(gpus), "575.57.08"))
        monkeypatch.setattr(native, "build_info", lambda: {"cuda": cuda})
        monkeypatch.setattr(native, "is_available", lambda: True)
        seen = ["GPU"] * len(gpus) if visible is None else visible
        monkeypatch.setattr("tensorflow.config.get_visible_devices", lambda kind: seen)
        return list(check())

    return diagnose


def test_a_machine_without_driver_and_gpu_is_healthy(diagnose):
    findings = diagnose(doctor._driver, driver=None) + diagnose(doctor._gpu, driver=None)
    assert [finding.text for finding in findings] == ["no NVIDIA driver", "none"]
    assert all(finding.ok for finding in findings)


@pytest.mark.parametrize(
    "built, driver, ok",
    [
        ("12.1", (12, 0), True),  # releases of one major version run on each other's drivers
        ("12.9", (12, 0), True),
        ("12.4", (13, 0), True),
        ("13.1", (13, 0), True),
        ("13.1", (14, 0), True),
        ("13.0", (12, 9), False),
        ("14.0", (13, 2), False),
        ("12.4", (11, 8), False),
    ],
)
def test_a_driver_of_an_older_major_release_than_the_toolkit_is_a_problem(diagnose, built, driver, ok):
    (finding,) = diagnose(doctor._driver, [HOPPER], driver=driver, cuda={**CUDA, "version": built})
    assert finding.ok == ok
    assert finding.text.startswith("NVIDIA driver 575.57.08, which knows CUDA {}.{} and older".format(*driver))
    assert (
        finding.text.endswith(f"; the ops are built with CUDA {built}, which needs driver {needed_driver(built)}") != ok
    )
    assert ok or finding.remedy.startswith("Update the driver")


def test_ops_of_too_new_a_toolkit_can_be_rebuilt_with_one_of_the_drivers_release(diagnose):
    (finding,) = diagnose(doctor._driver, [HOPPER], driver=(12, 2))
    assert "rebuild the ops with a toolkit of CUDA 12: CUDA_HOME=/usr/local/cuda-12 DCNV2_CUDA=1 pip " in finding.remedy
    # The kernels cannot be built with CUDA 11, and TensorFlow does not run with its drivers.
    (finding,) = diagnose(doctor._driver, [HOPPER], driver=(11, 8))
    assert finding.remedy == "Update the driver: TensorFlow needs 525.60.13 or newer too."


def test_an_old_driver_does_not_matter_without_gpus_or_cuda_kernels(diagnose):
    assert diagnose(doctor._driver, [], driver=(11, 0))[0].ok
    assert diagnose(doctor._driver, [HOPPER], driver=(11, 0), cuda=None)[0].ok


@pytest.mark.parametrize(
    "gpu, architectures, ptx, fits",
    [
        (TURING, [75, 80, 90], 90, True),
        (ADA, [75, 80, 90], 90, True),  # machine code of 8.0 runs on 8.9
        (AMPERE, [89], 89, False),  # but not the other way round
        (AMPERE, [75], 75, True),  # compiled by the driver from PTX
        (HOPPER, [75, 80], 80, True),
        (TURING, [80, 90], 90, False),
        (BLACKWELL, [75, 80, 90], 90, True),
        (Gpu("V100", (7, 0)), [75, 80, 90], 90, False),
        (Gpu("RTX 5090", (12, 0)), [100], 100, True),
        (Gpu("GB300", (10, 3)), [100, 120], 120, True),
    ],
)
def test_each_gpu_needs_code_that_runs_on_it(diagnose, gpu, architectures, ptx, fits):
    cuda = {"version": "13.0", "architectures": architectures, "ptx": ptx}
    (finding,) = diagnose(doctor._gpu, [gpu], cuda=cuda)
    assert finding.ok == fits
    assert gpu.name in finding.text
    assert fits or "DCNV2_CUDA_ARCHS={}{} ".format(*gpu.capability) in finding.remedy


@pytest.mark.parametrize(
    "gpu, architectures, built, driver, ok, text",
    [
        (BLACKWELL, [75, 90], "12.4", (12, 8), True, "the driver compiles PTX for it when an op first runs"),
        (BLACKWELL, [75, 90], "12.4", (12, 4), True, "the driver compiles PTX for it when an op first runs"),
        # Machine code of a newer release than the driver's runs, but PTX does not.
        (
            BLACKWELL,
            [75, 90],
            "12.9",
            (12, 8),
            False,
            "only PTX of CUDA 12.9 for it, which the driver does not compile",
        ),
        (BLACKWELL, [75, 100], "12.9", (12, 8), True, "compute capability 10.0"),
        (
            BLACKWELL,
            [75, 90],
            "13.1",
            (13, 0),
            False,
            "only PTX of CUDA 13.1 for it, which the driver does not compile",
        ),
    ],
)
def test_ptx_needs_a_driver_that_is_no_older_than_the_toolkit(diagnose, gpu, architectures, built, driver, ok, text):
    cuda = {"version": built, "architectures": architectures, "ptx": max(architectures)}
    (finding,) = diagnose(doctor._gpu, [gpu], driver=driver, cuda=cuda)
    assert finding.ok == ok
    assert finding.text.endswith(text)
    assert ok or finding.remedy.startswith("Update the driver, or rebuild")
    assert ok or "DCNV2_CUDA_ARCHS=100 " in finding.remedy


def test_of_each_release_the_compiler_that_is_found_first_is_listed(monkeypatch, tmp_path):
    for name, release in (("path", "12.4"), ("home", "12.8")):
        nvcc = tmp_path / name / "bin" / "nvcc"
        nvcc.parent.mkdir(parents=True)
        nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.99'\n")
        nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/path/bin", prepend=os.pathsep)
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    (finding,) = doctor._cuda_compiler()
    assert finding.text.startswith(f"CUDA 12.4 at {tmp_path}/path/bin/nvcc")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    (finding,) = doctor._cuda_compiler()
    assert finding.text == f"CUDA 12.8 at {tmp_path}/home/bin/nvcc"


def test_a_gpu_that_tensorflow_does_not_see_is_a_problem(diagnose):
    gpu, finding = diagnose(doctor._gpu, [HOPPER], visible=[])
    assert gpu.ok and not finding.ok
    assert "tensorflow[and-cuda]" in finding.remedy


def test_a_gpu_and_ops_for_the_cpu_only_are_a_problem(diagnose):
    gpu, finding = diagnose(doctor._gpu, [HOPPER], cuda=None)
    assert gpu.ok and not finding.ok
    assert "DCNV2_CUDA=1" in finding.remedy


def test_the_report_says_what_was_built(monkeypatch):
    monkeypatch.setattr(native, "load", lambda: None)
    monkeypatch.setattr(native, "build_info", lambda: {"cuda": CUDA})
    (finding,) = doctor._ops()
    assert finding.text.endswith(
        "for CPU and CUDA 13.0 (compute capability 7.5, 8.0, 9.0, PTX 9.0), which needs driver 580.65.06 or newer"
    )
    monkeypatch.setattr(native, "build_info", lambda: {})
    (finding,) = doctor._ops()
    assert finding.text.endswith("for the CPU only")


def test_a_driver_that_fails_is_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "query_driver", lambda: cuda_driver.query_driver(lambda name: FakeLibcuda(failure=803)))
    (finding,) = doctor._findings(doctor._driver)
    assert not finding.ok
    assert "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH" in finding.text
