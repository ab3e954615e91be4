"""All measurements, one case after the other; what is known so far is saved after each."""

from collections.abc import Callable

import torch

from benchmarks.gpu import conv, roi
from benchmarks.gpu.cases import Sizes
from benchmarks.gpu.device import Device, measure_rates
from benchmarks.gpu.findings import Findings
from benchmarks.gpu.kernels import Kernels
from benchmarks.gpu.memory import PRECISIONS, measure_memory

Log = Callable[[str, str], None]


def measure_everything(
    findings: Findings,
    device: Device,
    kernels: Kernels,
    sizes: Sizes,
    rounds: int,
    log: Log,
    save: Callable[[], None],
) -> None:
    """Fills in what `findings` lacks of device, rates, memory and measurements.

    Args:
        findings: filled in.
        device, kernels: where and what is measured.
        sizes: the cases.
        rounds: of each measurement.
        log: called with a short topic and a line of text, for the user to read.
        save: called when there is more to save.
    """
    # cuDNN tries its algorithms while contenders warm up, and takes the fastest.
    torch.backends.cudnn.benchmark = True
    findings.device = device.describe()
    log("device", ", ".join(f"{name} {value}" for name, value in findings.device.items()))
    findings.rates = measure_rates(device, sizes)
    findings.device["state before"] = device.state()
    for module, cases in ((conv, sizes.conv), (roi, sizes.roi)):
        for case in cases:
            log(module.__name__.rpartition(".")[2], str(case))
            measurements, wrong = module.measure_case(case, device, kernels, findings.rates, rounds)
            findings.measurements += measurements
            findings.wrong += wrong
            save()
    findings.device["state after"] = device.state()
    for case in sizes.conv:
        findings.memory += [measure_memory(case, precision, device, kernels) for precision in PRECISIONS]
    save()
