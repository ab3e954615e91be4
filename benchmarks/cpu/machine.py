"""What the measurements were made on and with."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cpu.interpreter import package_versions
from benchmarks.cpu.options import available_cores
from tf_dcnv2 import __version__

_PACKAGES = ("tensorflow", "keras", "numpy", "tf-models-official", "onnxruntime", "openvino", "ncnn")
_TORCH_PACKAGES = ("torch", "torchvision")
# What cc/lib/cpu/simd/dispatch.cc asks of a processor.
_AVX512 = {"avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl"}
_INSTRUCTION_SETS = {
    "amx": _AVX512 | {"avx512_bf16", "amx_bf16", "amx_tile"},
    "avx512": _AVX512,
    "avx2": {"avx2", "fma"},
}


def describe_machine(torch_python: str = sys.executable) -> dict[str, Any]:
    """Processor, cores, memory, the op library's instruction set and the versions of all packages involved.

    Args:
        torch_python: the interpreter that runs contenders of PyTorch.
    """
    processor, flags = _processor()
    return {
        "processor": processor,
        "cores": available_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "instruction_set": chosen_instruction_set(flags, os.environ.get("TF_DCNV2_SIMD")),
        "python": platform.python_version(),
        "tf_dcnv2": __version__,
        "packages": {
            **package_versions(sys.executable, _PACKAGES),
            **package_versions(torch_python, _TORCH_PACKAGES),
        },
    }


def has_matrix_units() -> bool:
    """Whether the op library multiplies bfloat16 on AMX."""
    return chosen_instruction_set(_processor()[1], os.environ.get("TF_DCNV2_SIMD")) == "amx"


def busy_cores(seconds: float = 1.0) -> float | None:
    """How many cores are at work while this process sleeps; None if the system does not tell.

    What others compute, on this machine or on its host, spoils measurements.
    """
    before = _core_seconds()
    time.sleep(seconds)
    after = _core_seconds()
    if before is None or after is None:
        return None
    total, busy = (now - then for then, now in zip(before, after, strict=True))
    return round((os.cpu_count() or 1) * busy / max(total, 1), 2)


def chosen_instruction_set(flags: set[str], wanted: str | None) -> str:
    """The one whose kernels the op library takes: the best that processor flags allow, or a lesser one asked for.

    Args:
        flags: of the processor, as in /proc/cpuinfo.
        wanted: the value of TF_DCNV2_SIMD, if it is set.
    """
    supported = [name for name, needed in _INSTRUCTION_SETS.items() if needed <= flags] + ["baseline"]
    return wanted if wanted in supported else supported[0]


def _processor() -> tuple[str, set[str]]:
    """Its name and flags, as far as Linux tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return fields.get("model name", platform.processor() or "unknown"), set(fields.get("flags", "").split())


def _core_seconds() -> tuple[int, int] | None:
    """Time of all cores since the start, and the part of it that they were busy, in ticks."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    # user, nice, system, idle, waiting for input and output, interrupts (two), taken by the host
    ticks = [int(field) for field in path.read_text().split("\n", 1)[0].split()[1:9]]
    return sum(ticks), sum(ticks) - ticks[3] - ticks[4]
