import json
import os
import subprocess
import sys

import pytest

from benchmarks import ROOT
from benchmarks.agreement import Disagreement
from benchmarks.cpu import scaling
from benchmarks.cpu.__main__ import main
from benchmarks.cpu.options import BenchmarkOptions, available_cores
from benchmarks.cpu.run import run_benchmark
from benchmarks.cpu.worker import _Server


@pytest.fixture(params=["here", pytest.param("in processes of their own", marks=pytest.mark.slow)])
def workers(request, monkeypatch):
    """Workers answer in this process, which saves loading TensorFlow into four others, or as they do otherwise."""
    if request.param == "here":

        class Here(_Server):
            def __init__(self, threads, environment=None):
                super().__init__()

            def __enter__(self):
                return self

            def __exit__(self, *exception):
                pass

        monkeypatch.setattr(scaling, "Worker", Here)


@pytest.mark.usefixtures("native_ops", "workers")
def test_the_command_measures_and_leaves_results_and_a_picture(tmp_path, capsys):
    arguments = [
        "--quick",
        "--repetitions",
        "1",
        "--sections",
        "conv,groups,roi,scaling",
        "--output",
        str(tmp_path / "new"),
    ]
    assert main(arguments) == 0
    report = capsys.readouterr().out
    for line in ("Deformable convolution forward, float32", "RoI pooling", "More threads", "Peak memory", "verdict"):
        assert f"\n{line}" in report

    folder = tmp_path / "new"
    assert {path.name for path in folder.iterdir()} == {"results.json", "results.md", "benchmark.png"}
    assert (folder / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((folder / "results.json").read_text())
    assert results["machine"]["packages"]["tensorflow"].startswith("2.20")
    assert results["machine"]["instruction_set"] in ("baseline", "avx2", "avx512")
    assert results["options"] == {"threads": available_cores(), "repetitions": 1, "quick": True}
    assert list(results["sections"]) == ["conv", "groups", "roi", "scaling"]
    group = results["sections"]["conv"]["groups"][0]
    assert (group["work"], group["case"]) == ("forward", "8 ch, 12 x 20")
    assert set(group["milliseconds"]["dense convolution"]) == {"median", "lower_quartile", "upper_quartile", "rounds"}
    growth = results["sections"]["scaling"]
    assert [group["threads"] for group in growth["groups"] if "threads" in group][0] == 1
    assert {group["pixels"] for group in growth["groups"] if "pixels" in group} == {60, 240}
    assert {group["channels"] for group in growth["groups"] if "channels" in group} == {8, 16}
    assert [entry["column_bytes"] for entry in growth["memory"]] == [17280, 69120]
    goals = [goal for section in results["sections"].values() for goal in section["goals"]]
    assert all(set(goal) == {"subject", "case", "value", "bound", "at_least", "met"} for goal in goals)
    assert f"{sum(goal['met'] for goal in goals)} of {len(goals)} goals met" in report
    # Every table of the terminal is in the document too.
    document = (folder / "results.md").read_text()
    titles = [line[2:-2] for line in document.splitlines() if line.startswith("**")]
    assert titles and all(f"\n{title}\n" in report for title in titles)


@pytest.mark.parametrize("section", ["step", "detector"])
def test_whole_detectors_get_an_image_of_the_size_that_was_asked_for(section, tmp_path, monkeypatch):
    def run(sizes, **settings):
        raise Disagreement(str(getattr(sizes, section)))

    monkeypatch.setattr(f"benchmarks.cpu.{section}.run", run)
    with pytest.raises(Disagreement, match="1 image, 96 x 160"):
        run_benchmark(
            BenchmarkOptions(sections=(section,), quick=True, image=(96, 160), output=str(tmp_path)),
            log=lambda topic, text: None,
            show=lambda section: None,
        )


def test_a_disagreement_gives_status_1_and_names_the_contender(tmp_path, monkeypatch, capsys):
    def disagree(*arguments, **keywords):
        raise Disagreement("onnxruntime disagrees with composite.")

    monkeypatch.setattr("benchmarks.cpu.conv.run", disagree)
    assert main(["--quick", "--sections", "conv", "--output", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err == "python -m benchmarks.cpu: error: onnxruntime disagrees with composite.\n"
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ops"], "unrecognized arguments: ops"),
        (
            ["--sections", "conv,speed"],
            "sections must be some of conv, groups, roi, scaling, step, detector. Received: 'conv,speed'",
        ),
        (["--threads", "0"], "argument --threads: must be at least 1. Received: 0"),
        (["--threads", "100000"], "threads must be between 1 and the"),
        (
            ["--torch-python", "/nowhere/python"],
            "torch_python must be a Python interpreter. Received: '/nowhere/python'",
        ),
        (["--image", "large"], "argument --image: takes HEIGHTxWIDTH, such as 512x800. Received: 'large'"),
        (["--image", "0x800"], "image must be a positive height and width. Received: (0, 800)"),
    ],
)
def test_arguments_that_make_no_sense_give_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_help_comes_without_tensorflow_and_describes_the_sections(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise OSError('imported')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "benchmarks.cpu", "--help"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {section} " in done.stdout for section in ("conv", "groups", "roi", "scaling", "step", "detector"))
