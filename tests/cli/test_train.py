import argparse
import re

import pytest

from tests.support.detectors import MASK_HEAD
from tests.support.sizes import SIZE, TINY
from tf_dcnv2.training import RunFolder, RunProgress, RunState, TrainOptions
from tf_dcnv2.training.resuming import describe_data
from tf_dcnv2_cli import main, train
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.trained import load_trained
from tf_dcnv2_cli.training_report import TrainingReport

PRESET = ["--preset", "faster_rcnn_small_dcnv2"]
SETTINGS = [word for key, value in TINY.items() for word in ("--set", f"{key}={value}")]


def parse(*argv: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args([*PRESET, "--train", "a", "--output", "b", *argv])


def test_random_changes_are_given_by_options():
    scaling = ["--short-sides", "320", "400", "--scale-range", "0.1", "2", "--canvas", "512", "640"]
    changes = ["--vertical-flip", "--rotate", "--color-jitter", "0.3", "--copy-paste", "0.5", "--no-aspect-grouping"]
    assert train._options(parse(*scaling, *changes)).augmentation == {
        "canvas": (512, 640),
        "vertical_flip": True,
        "rotate": True,
        "short_sides": (320, 400),
        "scale_range": (0.1, 2.0),
        "color_jitter": 0.3,
        "copy_paste": 0.5,
        "aspect_grouping": False,
    }


@pytest.mark.usefixtures("eagerly")
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
    assert trained.detector.box_head.config.units == 32


@pytest.mark.usefixtures("eagerly")
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
    others = {"help", "set", "train_images", "val_images"}  # the folders make records of --train and --val
    assert set(TrainOptions.__dataclass_fields__) - {"overrides"} == set(actions) - others


def test_what_is_not_given_is_left_to_the_defaults_of_the_options():
    assert set(vars(parse())) == {"preset", "train", "output"}


def test_help_states_the_true_defaults():
    helps = {action.dest: action.help for action in _actions()}
    for name in ("batch_size", "warmup_steps", "evaluate_every", "optimizer", "schedule"):
        assert re.search(rf"default: {TrainOptions.__dataclass_fields__[name].default}\b", helps[name])
    assert f"default: {TrainOptions('p', 'a', 'b').epochs} " in helps["epochs"]


def test_options_of_the_offsets_are_settings_of_the_backbone():
    options = ["--offset-clip", "8", "--set", "rpn.samples=64", "--offset-learning-rate-multiplier", "1"]
    overrides = train._options(parse(*options)).overrides
    expected = {"backbone.offset_clip": 8, "rpn.samples": 64, "backbone.offset_learning_rate_multiplier": 1}
    assert overrides == expected
    with pytest.raises(UsageError, match="offset_clip must be positive. Received: 0"):
        train._options(parse("--offset-clip", "0"))


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
        (["--batch-size", "0"], 2, "TrainOptions.batch_size must be at least 1. Received: 0"),
        (["--max-minutes", "-1"], 2, "max_minutes must be positive. Received: -1.0"),
        ([], 2, "no/such/records"),
    ],
)
def test_wrong_arguments_give_one_line(extra, status, expected, tmp_path, capsys):
    output = str(tmp_path / "run")
    assert main(["train", *PRESET, "--train", "no/such/records", "--output", output, *extra]) == status
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "missing"),
    [([], "--preset, --train"), (PRESET, "--train"), (["--train", "records"], "--preset")],
)
def test_a_new_run_needs_a_preset_and_records(words, missing, tmp_path, capsys):
    assert main(["train", *words, "--output", str(tmp_path)]) == 2
    assert f"the following arguments are required: {missing}\n" in capsys.readouterr().err


def test_a_folder_without_a_run_cannot_be_resumed_by_its_name_alone(tmp_path, capsys):
    assert main(["train", "--resume", "--output", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "none holds no run to resume. A new one needs preset and train" in error
    assert not (tmp_path / "none").exists()


def make_run(folder, records, **state) -> str:
    """A run of six steps as `tf-dcnv2 train` leaves it, without what it learnt."""
    run = RunFolder(folder)
    options = TrainOptions(PRESET[1], records, str(folder), steps=6, optimizer="adam", overrides=TINY)
    run.write_config({"options": options.to_dict(), "data": {"train": describe_data(records), "val": None}})
    state = RunState(**state)
    run.backups.save(state, [])
    (folder / "state.json").write_text(RunFolder.state_text(state))
    (folder / ".lock").touch()
    return str(folder)


def test_a_finished_run_says_so_and_stays_as_it_is(records, tmp_path, capsys):
    output = make_run(tmp_path / "run", records, steps=6, epochs=2, seconds=90.0, is_finished=True)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["train", "--resume", "--output", output]) == 0
    report = capsys.readouterr().out
    assert "had used up its budget already: 6 steps in 1.5 minutes. Nothing was changed." in report
    assert "It goes on with --resume and a larger --steps." in report
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


@pytest.mark.parametrize(
    ("words", "status", "expected"),
    [
        (["--optimizer", "sgd"], 2, "was made with optimizer='adam', not 'sgd'"),
        (["--set", "box_head.units=64"], 2, "was made with overrides:box_head.units=32, not 64"),
        (["--steps", "2"], 2, "has made 3 steps in 0.0 minutes already"),
        (["--set", "box_head.units=none"], 2, "units must be a whole number"),
    ],
)
def test_what_contradicts_a_run_is_one_line_and_changes_nothing(words, status, expected, records, tmp_path, capsys):
    output = make_run(tmp_path / "run", records, steps=3, epochs=1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main(["train", "--resume", "--output", output, *words]) == status
    error = capsys.readouterr().err
    assert expected in error
    assert len(error.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_a_run_that_another_process_trains_is_one_line_and_changes_nothing(records, tmp_path, capsys):
    output = make_run(tmp_path / "run", records, steps=3, epochs=1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with RunFolder(output).in_use():
        assert main(["train", "--resume", "--output", output]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tf-dcnv2 train: error: {output} is being trained by another process.")
    assert len(captured.err.splitlines()) == 1 and not captured.out
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


@pytest.mark.usefixtures("eagerly")
def test_a_training_that_diverges_fails_in_one_line(records, tmp_path, capsys):
    arguments = [*PRESET, "--train", records, "--output", str(tmp_path / "run"), "--steps", "20", *SIZE, *SETTINGS]
    assert main(["train", *arguments, "--learning-rate", "1e20", "--warmup-steps", "0"]) == 1
    captured = capsys.readouterr()
    assert re.fullmatch(r"tf-dcnv2 train: error: Training has diverged: .* at step \d+ .*last.keras.\n", captured.err)
    assert "done" not in captured.out and "best so far" not in captured.out


def test_a_folder_with_another_run_is_refused(records, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text("")
    assert main(["train", *PRESET, "--train", records, "--output", str(tmp_path)]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_a_resumed_run_reports_its_best_and_its_time(tmp_path, capsys):
    options = TrainOptions("p", "a", str(tmp_path), steps=12, max_minutes=2, batch_size=2, resume=True)
    before = RunState(steps=10, epochs=2, seconds=90.0, best_ap=0.4, best_steps=10)
    report = TrainingReport(options)
    report.progress = RunProgress.begin(options, num_images=10, state=before)
    for epoch, ap in ((2, 0.3), (3, 0.5)):
        report.on_epoch_begin(epoch)
        report.progress.budget.count_step()
        report.on_train_batch_end(0, {"loss": 1.0})
        logs = {"val_AP": ap, "val_AP50": 0.6, "val_AP75": 0.2}
        report.progress.end_epoch(epoch, logs)
        report.on_epoch_end(epoch, logs)
    report.close()
    third, worse, _, better = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"epoch      3/3  - img/s  loss 1.00 \(\)  eta 0:(30|29)", third)
    assert worse == "val        AP 0.300  AP50 0.600  AP75 0.200"
    assert better == f"val        AP 0.500  AP50 0.600  AP75 0.200   best so far, saved to {tmp_path}/best.keras"


def test_a_run_without_a_number_of_steps_reports_its_epochs_without_a_total(capsys):
    options = TrainOptions("p", "a", "b", max_minutes=1)
    report = TrainingReport(options)
    report.progress = RunProgress.begin(options, num_images=20, state=RunState())
    report.on_epoch_begin(1)
    report.on_train_batch_end(0, {"loss": 1.0})
    report.on_epoch_end(1)
    report.close()
    assert capsys.readouterr().out.startswith("epoch      2  ")
