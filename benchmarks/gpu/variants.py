"""The library's own choices against every other that its options allow, by turns in one process."""

from collections.abc import Mapping

from benchmarks.cases import FORWARD, ConvCase
from benchmarks.gpu import conv
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import CONV_WORKS, VARIANT_PRECISIONS
from benchmarks.gpu.contenders import Contest
from benchmarks.gpu.findings import DEFAULT, VARIANTS
from benchmarks.gpu.kernels import KernelOptions

# The wide tile and the slab are the forward product's alone. The library's own slab has two steps.
_FORWARD_ONLY = {
    "wide tile": KernelOptions(tile=4),
    "slab 1": KernelOptions(slab_steps=1),
    "slab 4": KernelOptions(slab_steps=4),
}
_ALWAYS = {
    "large tile": KernelOptions(tile=1),
    "medium tile": KernelOptions(tile=2),
    "small tile": KernelOptions(tile=3),
    "1 block": KernelOptions(blocks_per_multiprocessor=1),
    "2 blocks": KernelOptions(blocks_per_multiprocessor=2),
    "3 blocks": KernelOptions(blocks_per_multiprocessor=3),
}


def options_of(work: str) -> Mapping[str, KernelOptions]:
    """By name, the options that are compared on a work, the library's own choice first."""
    return {DEFAULT: KernelOptions(), **_ALWAYS, **(_FORWARD_ONLY if work == FORWARD else {})}


def measure_variants(case: ConvCase, bench: Bench) -> None:
    """Checks and measures all variants of all works on one case, and sends each measurement."""
    data = conv.make_data(case, bench.device.name)
    stored = conv.all_stored(data, VARIANT_PRECISIONS)
    expected = conv.expected_results(data, VARIANT_PRECISIONS)
    for work in CONV_WORKS:
        if not bench.wants(VARIANTS, work):
            continue
        contest = Contest(bench, VARIANTS, work, str(case))
        for precision in VARIANT_PRECISIONS:
            wanted = [expected[precision][index] for index in conv.RESULTS[work]]
            for name, options in options_of(work).items():
                contest.admit(conv.ours(stored[precision], precision, bench.kernels, name, options), wanted)
        contest.measure(conv.floors_of(case, VARIANT_PRECISIONS, work, bench.rates), {})
