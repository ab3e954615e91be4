"""Measurements that nobody had to make."""

import pytest

from benchmarks.cases import FLOAT32, FORWARD
from benchmarks.gpu.cases import CONV_PRECISIONS, ROI_PRECISIONS
from benchmarks.gpu.findings import CONV, DENSE, OURS, TORCHVISION, Measurement, contender
from benchmarks.gpu.floors import Floor
from benchmarks.results import Group
from benchmarks.timing import Series


@pytest.fixture
def measured():
    """Makes a measurement from one time for each contender, `{(who, precision): seconds}`."""

    def make(times, subject=CONV, work=FORWARD, absent=None, **fields) -> Measurement:
        series = {contender(*name): Series((seconds,)) for name, seconds in times.items()}
        group = Group(work, "a case", series, {contender(*name): why for name, why in (absent or {}).items()})
        precisions = CONV_PRECISIONS if subject == CONV else ROI_PRECISIONS
        floors = {precision.name: Floor(0.5, 0.25) for precision in precisions}
        errors = {name: 1e-5 for name in series if name.startswith(OURS)}
        return Measurement(subject, group, **{"floors": floors, "estimates": {}, "errors": errors, **fields})

    return make


@pytest.fixture
def conv_measurement(measured):
    """Ours takes 4 seconds in float32, 2 in TF32 and 1 in 16 bits; torchvision always takes 16, the dense one 2.

    Expected were 3 seconds of our float32, and 15 of torchvision's.
    """

    def make(work=FORWARD) -> Measurement:
        ours = dict(zip(CONV_PRECISIONS, (4.0, 2.0, 1.0, 1.0), strict=True))
        times = {(OURS, precision): seconds for precision, seconds in ours.items()}
        times |= {(TORCHVISION, precision): 16.0 for precision in CONV_PRECISIONS}
        times |= {(DENSE, precision): 2.0 for precision in CONV_PRECISIONS}
        return measured(
            times, work=work, estimates={contender(OURS, FLOAT32): 3.0, contender(TORCHVISION, FLOAT32): 15.0}
        )

    return make
