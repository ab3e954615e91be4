import re
import subprocess
import sys

import pytest

import tf_dcnv2_cli as cli
from tf_dcnv2.ops import native
from tf_dcnv2_cli import benchmark, timing

TINY = ["benchmark", "--size", "6x10x8", "--rois", "5"]
ROW = re.compile(r"(3x3 convolution|RoI pooling), (\w+) +\d+\.?\d* ms +(\d+\.\d\d) +\d+\.?\d* ms +(\d+\.\d\d)")


@pytest.mark.usefixtures("native_ops")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_implementation_is_timed_and_compared_with_the_regular_op(capsys, dtype):
    assert cli.main([*TINY, "--dtype", dtype]) == 0
    report = capsys.readouterr().out
    assert f"problem    6 x 10 pixels, 8 channels, 5 RoIs, {dtype}\n" in report
    assert "forward  ratio  forward + backward  ratio\n" in report
    rows = {(subject, name): ratios for subject, name, *ratios in ROW.findall(report)}
    assert list(rows) == [
        (subject, name) for subject in ("3x3 convolution", "RoI pooling") for name in ("native", "composite", "regular")
    ]
    assert rows["3x3 convolution", "regular"] == rows["RoI pooling", "regular"] == ["1.00", "1.00"]


def test_without_the_custom_ops_the_others_are_measured(capsys, monkeypatch):
    def unavailable():
        raise native.NativeOpsUnavailable("the op library is not built.")

    monkeypatch.setattr(native, "load", unavailable)
    assert cli.main(TINY) == 0
    report = capsys.readouterr().out
    assert "native     not measured: the op library is not built.\n" in report
    assert [name for _, name, *_ in ROW.findall(report)] == ["composite", "regular"] * 2


def test_contenders_take_turns_in_an_order_that_is_reversed_every_round():
    calls = []
    seconds = timing.take_turns({name: lambda name=name: calls.append(name) for name in "ab"})
    assert "".join(calls[:8]) == "ab" + "ab" + "ba" + "ab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 11, "b": 11}


def test_ratios_are_medians_of_the_ratios_of_each_round():
    # The medians' own ratio is 1.
    times = {"forward": {"native": [1.0, 2.0, 30.0], "regular": [0.5, 2.0, 10.0]}}
    assert benchmark._cells(times, "native") == ["2000 ms", "2.00"]
    assert benchmark._cells({"forward": {"regular": [0.0125]}}, "regular") == ["12.5 ms", "1.00"]


def test_what_takes_seconds_gets_fewer_rounds(monkeypatch):
    monkeypatch.setattr(timing, "_SECONDS", 0.0)
    assert len(timing.take_turns({"a": lambda: None})["a"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["everything"], "argument what: invalid choice: 'everything'"),
        (
            ["--size", "50x84"],
            "argument --size: takes HEIGHTxWIDTHxCHANNELS, positive, such as 50x84x256. Re",
        ),
        (["--size", "0x84x8"], "Received: '0x84x8'"),
        (["--rois", "0"], "argument --rois: must be at least 1. Received: 0"),
        (["--rois", "many"], "argument --rois: invalid int value: 'many'"),
        (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--threads", "0"], "argument --threads: must be at least 1. Received: 0"),
        (["--threads", "100000"], "cores for this process. Received: 100000"),
        (["--size", "100000x100000x256"], "Choose a smaller map or fewer RoIs."),
        (["--rois", "1000000000"], "with --rois 1000000000 needs about"),
        (["--size", "1x1x1000000"], "Choose a smaller map or fewer RoIs."),
    ],
)
def test_arguments_that_make_no_sense_give_one_line_and_status_2(arguments, message, capsys):
    try:
        status = cli.main(["benchmark", *arguments])
    except SystemExit as exit_:
        status = exit_.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_number_of_threads_is_tensorflows():
    program = f"""
import tensorflow as tf
import tf_dcnv2_cli as cli
status = cli.main({[*TINY, "--threads", "1"]})
print(status, tf.config.threading.get_intra_op_parallelism_threads())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "0 1", done.stderr
    assert "1 of " in done.stdout


SERVED = re.compile(r"(\w+) +(\d) +\d+ ms +(\d+\.\d\d) +[1-9]\d* MB")


@pytest.mark.slow  # exports in three ways
@pytest.mark.usefixtures("native_ops")
def test_every_way_to_run_an_exported_detector_is_timed_in_a_process_of_its_own(capsys):
    pytest.importorskip("tf2onnx")
    arguments = ["benchmark", "serving", "--image", "64x96", "--batch", "1", "2", "--threads", "1"]
    assert cli.main(arguments) == 0
    report = capsys.readouterr().out
    assert "problem    faster_rcnn_small_dcnv2, 64 x 96 pixels\n" in report and "not measured" not in report
    rows = SERVED.findall(report)
    ways = ["native", "frozen", "portable", "onnxruntime", "openvino"]
    assert [row[:2] for row in rows] == [(way, batch) for batch in "12" for way in ways]
    assert all(ratio == "1.00" for way, _, ratio in rows if way == "native")


def test_a_detector_that_is_neither_a_run_nor_a_preset_is_refused(tmp_path, capsys):
    assert cli.main(["benchmark", "serving", "--detector", str(tmp_path / "no")]) == 2
    assert "no does not exist" in capsys.readouterr().err
