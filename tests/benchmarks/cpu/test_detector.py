import math

import pytest

from benchmarks.agreement import Disagreement
from benchmarks.cpu import detector
from benchmarks.cpu.detector import FROZEN, MDCONV, MDPOOL, REGULAR, TORCHVISION
from benchmarks.cpu.options import available_cores

TRAINED = (REGULAR, MDCONV, MDPOOL)
OURS = (*TRAINED, FROZEN)
TORCH_PYTHON = "/a/python/with/torch"


class StandIn:
    """Answers as a `DetectorProcess` does, without one."""

    started: list["StandIn"] = []
    detections = 100
    loss = 0.5
    peak = 2_000_000_000

    def __init__(self, contender, work, *, threads, module, settings, python, environment):
        self.contender, self.work, self.threads, self.settings, self.python = contender, work, threads, settings, python
        self.environment = environment
        self.closed = False
        self.started.append(self)

    def outcome(self):
        return {"detections": self.detections} if self.work == "forward" else {"box_loss": self.loss}

    def seconds(self):
        return {TORCHVISION: 3.6, MDCONV: 2.0}.get(self.contender, 1.0)

    def peak_bytes(self):
        return self.peak

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.closed = True


@pytest.fixture
def processes(monkeypatch):
    """What was started, of everything that can take part."""
    monkeypatch.setattr(StandIn, "started", [])
    monkeypatch.setattr(detector, "DetectorProcess", StandIn)
    monkeypatch.setattr(detector, "package_versions", lambda python, packages: dict.fromkeys(packages, "1.0"))
    return StandIn.started


def run(sizes, log):
    return detector.run(sizes, threads=1, repetitions=1, log=log, torch_python=TORCH_PYTHON)


def test_contenders_are_measured_in_a_new_process_for_each_work(processes, sizes, log):
    section = run(sizes, log)
    contenders = {"forward": [*OURS, TORCHVISION], "training step": [*TRAINED, TORCHVISION]}
    assert [(process.work, process.contender) for process in processes] == [
        (work, name) for work, names in contenders.items() for name in names
    ]
    assert all(process.closed and process.threads == 1 for process in processes)
    assert [(group.work, group.case, list(group.series)) for group in section.groups] == [
        (work, "1 image, 64 x 96", names) for work, names in contenders.items()
    ]
    assert [(goal.value, goal.met) for goal in section.goals] == [(1.8, True), (1.8, True)]
    times, memory = section.tables
    assert times.rows[1] == [MDCONV, "2000 (2000-2000)", "2000 (2000-2000)"]
    assert memory.rows[-1] == [TORCHVISION, "2000.0", "2000.0"]
    assert section.to_dict()["peak_bytes"]["training step"][MDPOOL] == 2_000_000_000


def test_detectors_differ_in_their_deformable_parts_and_only_torchvisions_has_the_other_interpreter(
    processes, sizes, log
):
    run(sizes, log)
    of = {process.contender: process for process in processes}
    presets = ["mask_rcnn_small_regular", *["mask_rcnn_small_dcnv2"] * 2]
    assert [of[name].settings["preset"] for name in TRAINED] == presets
    pooling = {"box_head.pooling": "none", "mask_head.pooling": "none"}
    assert of[MDCONV].settings["overrides"] == {**sizes.detector.overrides, **pooling}
    assert of[MDPOOL].settings["overrides"] == of[REGULAR].settings["overrides"] == sizes.detector.overrides
    assert [name for name, process in of.items() if process.python == TORCH_PYTHON] == [TORCHVISION]


def test_weights_are_frozen_for_one_contender_which_does_not_train(processes, sizes, log):
    section = run(sizes, log)
    [frozen] = [process for process in processes if process.environment]
    assert (frozen.contender, frozen.work) == (FROZEN, "forward")
    assert frozen.environment == {"TF_ONEDNN_ASSUME_FROZEN_WEIGHTS": "1"}
    [mdconv] = [process for process in processes if (process.contender, process.work) == (MDCONV, "forward")]
    assert frozen.settings == mdconv.settings
    times, memory = section.tables
    assert [row[2] for table in (times, memory) for row in table.rows if row[0] == FROZEN] == ["no training step"] * 2


@pytest.mark.parametrize("missing", ["torch", "torchvision"])
def test_torchvision_is_said_not_to_be_installed_where_its_interpreter_lacks_it(
    missing, processes, sizes, log, monkeypatch
):
    def versions(python, packages):
        return {name: None if (python, name) == (TORCH_PYTHON, missing) else "1.0" for name in packages}

    monkeypatch.setattr(detector, "package_versions", versions)
    section = run(sizes, log)
    assert {process.contender for process in processes} == set(OURS)
    forward, step = (group.absent for group in section.groups)
    assert forward == {TORCHVISION: "not installed"}
    assert step == {TORCHVISION: "not installed", FROZEN: "no training step"}
    assert all(table.rows[-1] == [TORCHVISION, "not installed", "not installed"] for table in section.tables)
    assert section.goals == []


def test_unknown_memory_is_a_dash(processes, sizes, log, monkeypatch):
    monkeypatch.setattr(StandIn, "peak", None)
    assert run(sizes, log).tables[1].rows[0] == [REGULAR, "-", "-"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("detections", 99, f"{REGULAR} does not compute: it detects 99 objects instead of 100"),
        ("loss", math.nan, f"{REGULAR} does not compute: box_loss is nan"),
    ],
)
def test_a_detector_that_does_not_compute_fails_by_its_name(
    attribute, value, message, processes, sizes, log, monkeypatch
):
    monkeypatch.setattr(StandIn, attribute, value)
    with pytest.raises(Disagreement, match=message):
        run(sizes, log)
    assert all(process.closed for process in processes)


@pytest.mark.slow
@pytest.mark.usefixtures("native_ops")
def test_real_detectors_are_measured(sizes, log):
    section = detector.run(sizes, threads=available_cores(), repetitions=1, log=log)
    assert all(set(OURS) <= set(group.series) for group in section.groups)
    assert all(series.median > 0 for group in section.groups for series in group.series.values())
