import os
import subprocess
import sys

import pytest

import tf_dcnv2_cli as cli
from tf_dcnv2 import __version__
from tf_dcnv2.data import read_dataset_info
from tf_dcnv2_cli.errors import UsageError, describe

COMMANDS = (
    "demo",
    "presets",
    "convert",
    "inspect-data",
    "train",
    "evaluate",
    "predict",
    "visualize",
    "export",
    "benchmark",
    "doctor",
)


def run_main(*argv: str) -> int:
    """`main`'s exit status, also where argparse leaves by SystemExit."""
    try:
        return cli.main(argv)
    except SystemExit as exit_:
        return exit_.code


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_describes_it_and_shows_examples(command, capsys):
    assert run_main(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"usage: tf-dcnv2 {command}" in text
    assert f"examples:\n  tf-dcnv2 {command}" in text or f"\n  tf-dcnv2 {command}" in text.split("examples:")[1]


def test_help_lists_every_command(capsys):
    assert run_main("--help") == 0
    text = capsys.readouterr().out
    assert all(text.count(f"\n    {command}") == 1 for command in COMMANDS)


def test_without_a_command_the_help_is_shown_as_a_usage_error(capsys):
    assert run_main() == 2
    assert "usage: tf-dcnv2" in capsys.readouterr().err


def test_version_is_printed(capsys):
    assert run_main("--version") == 0
    assert capsys.readouterr().out.strip() == f"tf-dcnv2 {__version__}"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("frobnicate",), "invalid choice: 'frobnicate'"),
        (("convert",), "the following arguments are required: --images, --annotations, --output"),
        (
            ("train", "--preset", "faster_rcnn_r5_dcnv2", "--train", "a", "--output", "b"),
            "Did you mean 'faster_rcnn_r50_",
        ),
        (("export", "run", "--output", "x", "--ops", "fast"), "invalid choice: 'fast'"),
        (("evaluate", "run", "--records", "x", "--batch-size", "0"), "argument --batch-size: must be at least 1"),
    ],
)
def test_arguments_that_do_not_parse_give_one_line_and_status_2(argv, expected, capsys):
    assert run_main(*argv) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("convert", "--images", "{}/no", "--annotations", "{}/no.json", "--output", "{}/x"), "{}/no"),
        (("evaluate", "{}", "--records", "{}/no"), "{}/no"),
        (("predict", "{}", "--images", "{}/no.jpg", "--output", "{}/x"), "{}/no.jpg does not exist"),
        (("predict", "{}", "--images", "{}", "--output", "{}/x"), "{} holds no image"),
        (("export", "{}", "--output", "{}/x"), "{} holds no trained detector"),
        (("export", "{}/no", "--output", "{}/x"), "{}/no does not exist"),
    ],
)
def test_missing_files_give_one_line_and_status_2(argv, expected, tmp_path, capsys):
    assert run_main(*(argument.format(tmp_path) for argument in argv)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tf-dcnv2 {argv[0]}: error: ")
    assert expected.format(tmp_path) in captured.err
    assert len(captured.err.splitlines()) == 1


def run_without_a_reader(*argv: str) -> subprocess.CompletedProcess:
    """Runs the command in a process whose output goes into a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    code = "import sys; from tf_dcnv2_cli import main; sys.exit(main())"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        return subprocess.run(
            [sys.executable, "-c", code, *argv], stdout=writer, stderr=subprocess.PIPE, env=environment
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("argv", [("--help",), pytest.param(("presets", "--filter", "small"), marks=pytest.mark.slow)])
def test_a_reader_that_goes_away_is_no_error(argv):
    done = run_without_a_reader(*argv)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.fixture
def no_reader(monkeypatch):
    """Gives this process an output that nobody reads any more: loading TensorFlow into another takes seconds."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        yield


@pytest.mark.usefixtures("no_reader")
def test_what_nobody_reads_is_dropped_silently(capfd):
    assert run_main("presets", "--filter", "small") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("no_reader")
def test_a_command_does_its_work_without_a_reader(synthetic, tmp_path, capfd):
    images, annotations = synthetic
    output = str(tmp_path / "records")
    assert run_main("convert", "--images", images, "--annotations", annotations, "--output", output) == 0
    assert capfd.readouterr().err == ""
    assert read_dataset_info(output).num_images == 6


def test_debug_shows_the_traceback(tmp_path, capsys):
    assert run_main("export", str(tmp_path), "--output", str(tmp_path / "x"), "--debug") == 2
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_gives_status_130(monkeypatch, capsys):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("tf_dcnv2_cli.doctor.run", interrupted)
    assert run_main("doctor") == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageError("two\n  lines"), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.json"), "a.json: No such file or directory"),
        (ModuleNotFoundError("No module", name="pycocotools"), "pip install 'tf-dcnv2[detection]'"),
        (KeyError("boxes"), "KeyError: 'boxes' (--debug shows where)"),
        (ValueError(), "ValueError: no message"),
        (
            RuntimeError("{{function_node f}} a.tfrecord is corrupt [[{{node x}}]] [Op:IteratorNext] name: "),
            "a.tfrecord is corrupt",
        ),
    ],
)
def test_errors_are_described_in_one_line(error, expected):
    assert expected in describe(error)
    assert len(describe(error).splitlines()) == 1
