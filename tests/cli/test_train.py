import argparse
import re

import pytest

from tests.cli.conftest import SIZE
from tests.models.conftest import MASK_HEAD
from tests.training.conftest import TINY
from tf_dcnv2.cli import main, train
from tf_dcnv2.cli.errors import UsageError
from tf_dcnv2.cli.trained import load_trained
from tf_dcnv2.cli.training_report import TrainingReport
from tf_dcnv2.training import TrainOptions

PRESET = ["--preset", "faster_rcnn_small_dcnv2"]
SETTINGS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args([*PRESET, "--train", "a", "--output", "b", *argv])


def test_a_run_reports_its_course_and_leaves_a_detector(records, tmp_path, capsys):
    output = str(tmp_path / "run")
    arguments = [*PRESET, "--train", records, "--val", records, "--output", output, "--steps", "2", *SIZE, *SETTINGS]
    assert main(["train", *arguments, "--optimizer", "adam", "--seed", "0"]) == 0
    report = capsys.readouterr().out
    assert report.startswith("data       6 images")
    assert "\nmodel      faster_rcnn_small_dcnv2: " in report
    epoch = r"epoch      1/1  [\d.]+ img/s  loss [\d.]+ \(rpn .*, box .*, mimic .*, r-cnn .*\)  eta 0:00"
    assert re.search(epoch, report)
    assert re.search(r"val        AP \d\.\d{3}  AP50 \d\.\d{3}  AP75 \d\.\d{3}   best so far", report)
    assert f"tf-dcnv2 evaluate {output} --records {records}" in report
    trained = load_trained(output)
    assert trained.names == {2: "star", 5: "cross", 11: "moon", 17: "arrow"}
    assert trained.detector.config.box_head.units == 32


def test_a_mask_rcnn_reports_its_mask_loss_and_precision(records, tmp_path, capsys):
    head = [word for key, value in MASK_HEAD.items() for word in ("--set", f"mask_head.{key}={value}")]
    preset = ["--preset", "mask_rcnn_small_regular"]
    arguments = [
        *preset,
        "--train",
        records,
        "--val",
        records,
        "--output",
        str(tmp_path / "run"),
        "--steps",
        "2",
        *SIZE,
    ]
    assert main(["train", *arguments, *SETTINGS, *head]) == 0
    report = capsys.readouterr().out
    assert re.search(r"loss [\d.]+ \(rpn .*, box .*, mask [\d.]+\)", report)
    number = r"\d\.\d{3}"
    assert re.search(rf"val        AP {number}  AP50 {number}  AP75 {number}  masks AP {number}  AP50 {number}", report)


def test_every_option_of_training_has_an_argument():
    actions = {action.dest: action for action in _actions()}
    assert set(TrainOptions.__dataclass_fields__) - {"overrides"} == set(actions) - {"help", "set"}


def test_what_is_not_given_is_left_to_the_defaults_of_the_options():
    assert set(vars(parse())) == {"preset", "train", "output"}


def test_help_states_the_true_defaults():
    helps = {action.dest: action.help for action in _actions()}
    for name in ("batch_size", "warmup_steps", "evaluate_every", "optimizer", "schedule"):
        assert re.search(rf"default: {TrainOptions.__dataclass_fields__[name].default}\b", helps[name])
    assert f"default: {TrainOptions('p', 'a', 'b').epochs} " in helps["epochs"]


def _actions() -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser._actions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box_head.samples=128", ("box_head.samples", 128)),
        ("rpn.anchor_sizes=[16, 32]", ("rpn.anchor_sizes", [16, 32])),
        ("backbone.norm=group", ("backbone.norm", "group")),
        ("backbone.dilated_c5=false", ("backbone.dilated_c5", False)),
    ],
)
def test_settings_are_read_as_yaml(text, expected):
    assert train.parse_setting(text) == expected


@pytest.mark.parametrize("text", ["box_head.samples", "=3", "rpn.anchor_sizes=[1"])
def test_a_malformed_setting_is_refused(text):
    with pytest.raises(UsageError, match="--set"):
        train.parse_setting(text)


@pytest.mark.parametrize(
    ("extra", "status", "expected"),
    [
        (["--set", "box_head.colour=3"], 2, "Unknown setting 'box_head.colour'"),
        (["--set", "head.units=3"], 2, "No configuration section named 'head'"),
        (["--set", "box_head.units=-3"], 2, "BoxHeadConfig.units must be at least 1. Received: -3"),
        (["--set", "nonsense"], 2, "--set takes KEY=VALUE"),
        (["--batch-size", "0"], 2, "batch_size must be positive. Received: 0"),
        (["--max-minutes", "-1"], 2, "max_minutes must be positive. Received: -1.0"),
        ([], 1, "no/such/records"),
    ],
)
def test_wrong_arguments_give_one_line(extra, status, expected, tmp_path, capsys):
    output = str(tmp_path / "run")
    assert main(["train", *PRESET, "--train", "no/such/records", "--output", output, *extra]) == status
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run_is_refused(records, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("")
    assert main(["train", *PRESET, "--train", records, "--output", str(tmp_path)]) == 1
    assert "holds another run" in capsys.readouterr().err


def test_epochs_are_counted_from_the_budget():
    report = TrainingReport(TrainOptions("p", "a", "b", steps=25, batch_size=2), num_images=20)
    report._epoch = 1
    assert report._epoch_name() == "2/3"
    endless = TrainingReport(TrainOptions("p", "a", "b", max_minutes=1), num_images=20)
    endless._epoch = 1
    assert endless._epoch_name() == "2"


def test_a_resumed_run_remembers_its_best_and_its_time(tmp_path, capsys):
    (tmp_path / "state.json").write_text('{"steps": 10, "seconds": 90.0, "best_ap": 0.4}')
    options = TrainOptions("p", "a", str(tmp_path), max_minutes=2, resume=True)
    report = TrainingReport(options, num_images=20)
    report.on_train_begin()
    report.on_epoch_begin(1)
    report.on_train_batch_end(0, {"loss": 1.0})
    report.on_epoch_end(1, {"val_AP": 0.3, "val_AP50": 0.5, "val_AP75": 0.2})
    epoch, val = capsys.readouterr().out.splitlines()
    assert epoch.endswith("eta 0:30")
    assert "best so far" not in val
