"""Where kernels run and how long they take there: a GPU, or the processor that emulates one in dry runs."""

import platform
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Protocol

import torch

from benchmarks.cases import Precision
from benchmarks.gpu.cases import CONV_PRECISIONS, Sizes
from benchmarks.gpu.floors import Rates
from benchmarks.timing import Stopwatch, measure, stopwatch

# While the device overwrites its cache, the processor gets ahead: it must not be what a short kernel waits for.
_HEAD_START_S = 1.5e-3
_CACHES_OVERWRITTEN = 4
_RATE_ROUNDS = 7


class Device(Protocol):
    """What the measurements ask of a device.

    Attributes:
        name: PyTorch's.
    """

    name: str

    def stopwatch(self, run: Callable[[], object]) -> Stopwatch:
        """A function that runs `run` once, with nothing of its data in the cache, and returns the seconds."""

    def synchronize(self) -> None:
        """Waits for all work.

        Raises:
            RuntimeError: some of it failed.
        """

    def taken_by_others(self) -> int:
        """Bytes of the device that somebody other than PyTorch has."""

    def peak_bytes(self, run: Callable[[], Sequence[torch.Tensor]]) -> int:
        """The most that PyTorch has during `run`, less what it had before and what `run` returns."""

    def describe(self) -> dict[str, Any]:
        """Name and versions."""

    def state(self) -> str:
        """Clock, temperature and power of this moment; soon after work they are those of work."""


class CudaDevice:
    """The GPU that PyTorch calls current."""

    name = "cuda"

    def __init__(self) -> None:
        properties = torch.cuda.get_device_properties(0)
        self._properties = properties
        size = min(max(_CACHES_OVERWRITTEN * properties.L2_cache_size, 2**28), properties.total_memory // 16)
        self._scratch = torch.empty(size // 8, dtype=torch.int64, device=self.name)
        # The first sum loads its kernel.
        self._scratch.zero_().sum()
        once = statistics.median(self._seconds(self._scratch.zero_) for _ in range(5))
        self._overwrites = max(1, round(_HEAD_START_S / once))

    def stopwatch(self, run: Callable[[], object]) -> Stopwatch:
        def seconds() -> float:
            for _ in range(self._overwrites):
                self._scratch.zero_()
            # Reading leaves nothing in the cache that has yet to be written to memory, which would delay `run`.
            self._scratch.sum()
            return self._seconds(run)

        return seconds

    def synchronize(self) -> None:
        torch.cuda.synchronize()

    def taken_by_others(self) -> int:
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        return total - free - torch.cuda.memory_reserved()

    def peak_bytes(self, run: Callable[[], Sequence[torch.Tensor]]) -> int:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = run()
        returned = sum(tensor.numel() * tensor.element_size() for tensor in results)
        return torch.cuda.max_memory_allocated() - before - returned

    def describe(self) -> dict[str, Any]:
        properties = self._properties
        return {
            "device": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "L2 MB": round(properties.L2_cache_size / 1e6),
            "memory GB": round(properties.total_memory / 1e9),
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),
            **_versions(),
            "driver": query_driver("driver_version"),
        }

    def state(self) -> str:
        fields = ("clocks.sm", "clocks.max.sm", "temperature.gpu", "power.draw")
        return f"{query_driver(*fields)} ({', '.join(fields)})"

    @staticmethod
    def _seconds(run: Callable[[], object]) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3


class EmulatedDevice:
    """The processor, on which the kernels are emulated: its times mean nothing."""

    name = "cpu"

    def stopwatch(self, run: Callable[[], object]) -> Stopwatch:
        return stopwatch(run)

    def synchronize(self) -> None:
        pass

    def taken_by_others(self) -> int:
        return 0

    def peak_bytes(self, run: Callable[[], Sequence[torch.Tensor]]) -> int:
        run()
        return 0

    def describe(self) -> dict[str, Any]:
        return {"device": "none, kernels are emulated: no time means anything", **_versions()}

    def state(self) -> str:
        return "none"


def query_driver(*fields: str) -> str:
    """What nvidia-smi says about the first GPU, such as its clocks. Nothing is set."""
    if not shutil.which("nvidia-smi"):
        return "unknown"
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "--id=0"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def use_tf32(allowed: bool) -> None:
    """Whether PyTorch's own float32 products and convolutions may round factors to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def measure_rates(device: Device, sizes: Sizes) -> Rates:
    """The bandwidth of a large copy, and the rate of a large matrix product of random numbers in each precision."""
    source = torch.empty(sizes.copy_bytes, dtype=torch.uint8, device=device.name).random_(256)
    target = torch.empty_like(source)
    runs = {"copy": lambda: target.copy_(source)}
    runs.update({precision.name: _product(device, precision, sizes.matrix_side) for precision in CONV_PRECISIONS})
    series = measure({name: device.stopwatch(run) for name, run in runs.items()}, _RATE_ROUNDS)
    operations = 2 * sizes.matrix_side**3
    matrix = {precision.name: operations / series[precision.name].median for precision in CONV_PRECISIONS}
    return Rates(2 * sizes.copy_bytes / series["copy"].median, matrix)


def _product(device: Device, precision: Precision, side: int) -> Callable[[], object]:
    dtype = getattr(torch, precision.storage)
    a, b = (torch.randn(side, side, device=device.name).to(dtype) for _ in range(2))

    def run():
        use_tf32(precision.allow_tf32)
        return a @ b

    return run


def _versions() -> dict[str, Any]:
    versions = {"torch": torch.__version__, "Python": platform.python_version()}
    try:
        versions["torchvision"] = metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        versions["torchvision"] = "not installed"
    return versions
