"""What the passes take beside their inputs and results, which must not grow like the columns of all taps."""

from benchmarks.cases import BOTH, FLOAT16, FLOAT32, ConvCase, Precision
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.contenders import Contender, with_precision
from benchmarks.gpu.conv import ConvData, make_data, ours, torchvision
from benchmarks.gpu.device import Device
from benchmarks.gpu.findings import Memory
from benchmarks.gpu.kernels import KernelOptions, Kernels

# float32 keeps least, 16-bit types one sum of gradients more.
PRECISIONS = (FLOAT32, FLOAT16)

# So many that whatever is divided among them is divided as finely as it gets.
_MANY_IMAGES = 256
_FLOAT32_BYTES = 4


def measure_memory(case: ConvCase, bench: Bench) -> None:
    """Asks for our workspace, and watches the device while we and torchvision compute output and gradients."""
    data = make_data(case, bench.device.name)
    for precision in PRECISIONS:
        bench.send(_memory(case, data.stored(precision), precision, bench.device, bench.kernels))


def _memory(case: ConvCase, data: ConvData, precision: Precision, device: Device, kernels: Kernels) -> Memory:
    def workspace(batch: int) -> int:
        shape = (batch, *data.x.shape[1:])
        return kernels.conv_workspace(shape, data.kernel, data.offset, KernelOptions(precision.allow_tf32))

    run = with_precision(ours(data, precision, kernels), BOTH)
    run()
    before = device.taken_by_others()
    run()
    unaccounted = device.taken_by_others() - before
    return Memory(
        case=str(case),
        precision=precision.name,
        workspace=workspace(case.batch),
        per_image=(workspace(2 * _MANY_IMAGES) - workspace(_MANY_IMAGES)) / _MANY_IMAGES,
        map_per_image=case.elements // case.batch * _FLOAT32_BYTES,
        columns=case.column_bytes(precision),
        unaccounted=unaccounted,
        torchvision=_peak(torchvision(data, precision), device),
    )


def _peak(contender: Contender, device: Device) -> int | None:
    """Of output and gradients; None where the contender cannot compute them here."""
    try:
        return device.peak_bytes(with_precision(contender, BOTH))
    except (ImportError, RuntimeError):
        return None
