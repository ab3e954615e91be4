import os
import sys

import pytest

from benchmarks.cpu.machine import busy_cores, chosen_instruction_set, describe_machine
from benchmarks.cpu.options import SECTIONS, BenchmarkOptions, available_cores
from benchmarks.cpu.threads import use_threads

AVX2 = {"sse2", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512dq", "avx512bw", "avx512vl"}
AMX = {*AVX512, "avx512_bf16", "amx_tile", "amx_bf16"}


def test_by_default_everything_is_measured_with_all_cores():
    options = BenchmarkOptions()
    assert (options.sections, options.threads, options.repetitions) == (SECTIONS, available_cores(), 21)
    assert BenchmarkOptions(quick=True).repetitions == 3
    assert options.torch_python == sys.executable


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sections": ("conv", "speed")},
            "sections must be some of conv, groups, roi, scaling, step, detector. Received: 'conv,speed'",
        ),
        ({"sections": ()}, "sections must be some of conv, groups, roi, scaling, step, detector. Received: ''"),
        ({"threads": 0}, "threads must be between 1 and the"),
        ({"threads": 100_000}, "Received: 100000"),
        ({"repetitions": 0}, "repetitions must be at least 1. Received: 0"),
        ({"torch_python": "/nowhere/python"}, "torch_python must be a Python interpreter. Received: '/nowhere/python'"),
        ({"image": (0, 800)}, "image must be a positive height and width. Received: \\(0, 800\\)"),
    ],
)
def test_options_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        BenchmarkOptions(**settings)


def test_an_interpreter_keeps_its_link_and_is_found_from_any_folder(tmp_path, monkeypatch):
    (tmp_path / "python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert BenchmarkOptions(torch_python="./python").torch_python == str(tmp_path / "python")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert BenchmarkOptions(torch_python="python").torch_python == str(tmp_path / "python")


def test_another_number_of_threads_than_tensorflow_runs_with_is_refused():
    use_threads(available_cores())  # what the suite runs with, or asks for if this test is the first
    import tensorflow as tf

    tf.zeros([1])
    with pytest.raises(RuntimeError, match="Measure in a process of its own"):
        use_threads(available_cores() + 1)


@pytest.mark.parametrize(
    ("flags", "wanted", "chosen"),
    [
        (AMX, None, "amx"),
        (AMX, "avx512", "avx512"),
        (AVX512, None, "avx512"),
        (AVX2, None, "avx2"),
        ({"sse2"}, None, "baseline"),
        (AVX512, "avx2", "avx2"),
        (AVX512, "baseline", "baseline"),
        (AVX2, "avx512", "avx2"),
        (AVX2, "nonsense", "avx2"),
    ],
)
def test_the_instruction_set_is_the_best_there_is_or_a_lesser_one_asked_for(flags, wanted, chosen):
    assert chosen_instruction_set(flags, wanted) == chosen


def test_the_machine_is_described_with_all_versions():
    machine = describe_machine()
    assert machine["cores"] == available_cores()
    assert machine["processor"]
    assert {"tensorflow", "keras", "onnxruntime", "openvino", "torch", "torchvision"} <= set(machine["packages"])


def test_busy_cores_are_counted():
    busy = busy_cores(0.1)
    assert busy is None or busy >= 0
