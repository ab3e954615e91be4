"""Which options a resumed run has; nothing is trained."""

import dataclasses
import zipfile

import keras
import numpy as np
import pytest

from tf_dcnv2.data import read_dataset_info
from tf_dcnv2.training import RunFolder, RunState, TrainOptions, finished_state, resumed_options
from tf_dcnv2.training.resuming import changes, describe_data, require_same_classes, require_same_data

DATA = {"images": 20, "boxes": 50, "image_ids_crc32": 1}
OWN = {
    "preset": "faster_rcnn_small_dcnv2",
    "train": "records/train",
    "steps": 30,
    "batch_size": 4,
    "optimizer": "adam",
    "short_side": 96,
    "scale_range": (0.8, 1.25),
    "overrides": {"box_head.units": 32, "rpn.anchor_sizes": (16, 32, 64)},
}


def make_run(folder, *, done=15, is_finished=False, **options) -> str:
    """The folder of a run as it lies there after some epochs of five steps."""
    run = RunFolder(folder)
    options = TrainOptions(**{**OWN, "output": str(folder), **options})
    run.write_config({"options": options.to_dict(), "data": {"train": DATA, "val": None}})
    state = RunState(steps=done, epochs=done // 5, seconds=90.0, is_finished=is_finished)
    run.backups.save(state, [])
    run.last.write_bytes(b"")
    (folder / "state.json").write_text(RunFolder.state_text(state))
    return str(folder)


def test_what_is_left_out_is_as_the_run_has_it(tmp_path):
    options = resumed_options(make_run(tmp_path), {})
    assert options.to_dict() == TrainOptions(**OWN, output=str(tmp_path), resume=True).to_dict()
    assert changes(options, RunFolder(tmp_path).read_config()) == []


def test_what_is_given_is_as_it_is_given_and_named_where_it_differs(tmp_path):
    options = resumed_options(make_run(tmp_path), {"learning_rate": 0.5, "steps": 40, "batch_size": 4, "cache": True})
    assert (options.learning_rate, options.steps, options.cache, options.optimizer) == (0.5, 40, True, "adam")
    named = changes(options, RunFolder(tmp_path).read_config())
    assert sorted(named) == ["cache is True, was False", "learning_rate is 0.5, was None", "steps is 40, was 30"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 2}, "batch_size=4, not 2"),
        ({"preset": "faster_rcnn_small_regular"}, "preset='faster_rcnn_small_dcnv2', not 'faster_rcnn_small_regular'"),
        ({"optimizer": "sgd", "short_side": 320}, "optimizer='adam', not 'sgd', short_side=96, not 320"),
        ({"overrides": {"box_head.units": 64}}, "overrides:box_head.units=32, not 64"),
        ({"overrides": {"rpn.channels": 64}}, "overrides:rpn.channels=None, not 64"),
        ({"weights": "imagenet"}, "weights=None, not 'imagenet'"),
        ({"mimic": False}, "mimic=None, not False"),
    ],
)
def test_what_the_weights_belong_to_cannot_be_changed(given, message, tmp_path):
    options = resumed_options(make_run(tmp_path), given)
    with pytest.raises(ValueError, match=rf"was made with {message}.*last.keras"):
        changes(options, RunFolder(tmp_path).read_config())


def test_a_setting_that_is_repeated_is_no_change(tmp_path):
    options = resumed_options(make_run(tmp_path), {"overrides": {"box_head.units": 32}})
    assert changes(options, RunFolder(tmp_path).read_config()) == []


def test_options_of_another_version_are_passed_over(tmp_path):
    run = RunFolder(make_run(tmp_path))
    config = run.read_config()
    run.write_config({**config, "options": {**config["options"], "colour": "red"}})
    assert resumed_options(str(tmp_path), {}).steps == 30


def test_a_folder_without_a_run_needs_everything(tmp_path):
    with pytest.raises(ValueError, match="holds no run to resume. A new one needs preset and train"):
        resumed_options(str(tmp_path / "new"), {"steps": 3})
    options = resumed_options(str(tmp_path / "new"), {"preset": "p", "train": "t"})
    assert options == TrainOptions("p", "t", str(tmp_path / "new"), resume=True)


@pytest.mark.parametrize("content", ["", "[1, 2", "options: 3", "seed: 1"])
def test_a_configuration_that_is_none_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config.yaml is not"):
        resumed_options(str(tmp_path), {})


@pytest.mark.parametrize("given", [{}, {"steps": 30}, {"steps": 20}, {"learning_rate": 1.0}])
def test_a_run_that_has_used_its_budget_is_finished(tmp_path, given):
    options = resumed_options(make_run(tmp_path, done=30, is_finished=True), given)
    assert finished_state(options).steps == 30


@pytest.mark.parametrize("given", [{"steps": 31}, {"epochs": 7}, {"max_minutes": 2.0}])
def test_a_finished_run_goes_on_with_more_of_any_budget(tmp_path, given):
    options = resumed_options(make_run(tmp_path, done=30, is_finished=True), given)
    assert finished_state(options) is None
    assert {name: getattr(options, name) for name in given} == given


def test_a_budget_that_is_not_used_up_stays_beside_one_that_is_given(tmp_path):
    folder = make_run(tmp_path, done=30, is_finished=True, max_minutes=10.0)
    options = resumed_options(folder, {"epochs": 9})
    assert (options.epochs, options.steps, options.max_minutes) == (9, None, 10.0)


@pytest.mark.parametrize("budget", [{"epochs": 3, "steps": None}, {"max_minutes": 1.5, "steps": None}])
def test_epochs_and_minutes_are_used_up_too(tmp_path, budget):
    assert finished_state(resumed_options(make_run(tmp_path, is_finished=True, **budget), {})).steps == 15


def test_a_run_that_goes_on_is_not_finished(tmp_path):
    options = resumed_options(make_run(tmp_path), {})
    assert finished_state(options) is None
    assert finished_state(dataclasses.replace(options, resume=False)) is None


def test_a_finished_run_that_was_killed_before_its_last_file_is_not_finished(tmp_path):
    folder = make_run(tmp_path, done=30, is_finished=True)
    (tmp_path / "state.json").write_text(RunFolder.state_text(RunState(steps=25)))
    assert finished_state(resumed_options(folder, {})) is None


def test_less_than_an_unfinished_run_has_used_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has made 15 steps .* more than it is given now. Received: steps=10"):
        finished_state(resumed_options(make_run(tmp_path), {"steps": 10}))


def test_resuming_reads_a_backup_once_to_check_it_and_once_for_its_values(tmp_path, monkeypatch):
    folder, weights = make_run(tmp_path), keras.Variable(np.zeros(100_000, "float32"))
    RunFolder(folder).backups.save(RunState(steps=20), [weights])
    bytes_read, read = [], zipfile.ZipExtFile.read

    def counting(file, *arguments):
        content = read(file, *arguments)
        bytes_read.append(len(content))
        return content

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    options = resumed_options(folder, {})
    assert finished_state(options) is None and finished_state(options) is None
    assert not RunFolder(folder).lacks_its_backup()
    assert sum(bytes_read) < 1.1 * 400_000
    assert RunFolder(folder).backups.load().state.steps == 20
    assert sum(bytes_read) < 2.2 * 400_000


def test_other_data_are_refused(synthetic_records):
    data = {"train": describe_data(synthetic_records), "val": None}
    require_same_data({"data": data}, data)
    more = {**data["train"], "images": 12, "boxes": 40}
    with pytest.raises(ValueError, match="`train` had 12 images with 40 boxes, now it has 8 images with 28 boxes"):
        require_same_data({"data": {"train": more, "val": None}}, data)
    others = {**data["train"], "image_ids_crc32": 0}
    with pytest.raises(ValueError, match="`train` had 8 images with 28 boxes, now it has other images"):
        require_same_data({"data": {"train": others, "val": None}}, data)


def test_data_whose_boxes_changed_their_categories_are_refused(synthetic_records):
    data = {"train": describe_data(synthetic_records), "val": describe_data(synthetic_records)}
    for name in data:
        relabelled = {**data, name: {**data[name], "labels_crc32": 0}}
        message = f"`{name}` had 8 images with 28 boxes, now it has other categories for its boxes"
        with pytest.raises(ValueError, match=message):
            require_same_data({"data": relabelled}, data)


def test_a_run_of_an_earlier_version_which_wrote_less_of_its_data_goes_on(synthetic_records):
    data = {"train": describe_data(synthetic_records), "val": describe_data(synthetic_records)}
    earlier = {
        name: {key: value for key, value in described.items() if key != "labels_crc32"}
        for name, described in data.items()
    }
    require_same_data({"data": earlier}, data)
    require_same_data({}, data)
    require_same_classes({}, read_dataset_info(synthetic_records))


def test_images_that_are_turned_another_way_are_refused(synthetic_records):
    info = read_dataset_info(synthetic_records)
    with pytest.raises(ValueError, match="had the orientation 'stored' in `train`, now they have 'upright'"):
        require_same_classes({"orientation": "stored"}, info)


def test_of_many_categories_that_differ_a_few_are_named(synthetic_records):
    info = read_dataset_info(synthetic_records)
    entries = [{"id": key, "name": str(key)} for key in range(100, 180)]
    with pytest.raises(ValueError, match="category 2 was missing, now it is 'star'; .*; 76 more categories differ"):
        require_same_classes({"categories": entries}, info)


def test_validation_data_may_come_later_but_not_go(synthetic_records):
    some = describe_data(synthetic_records)
    require_same_data({"data": {"train": some, "val": None}}, {"train": some, "val": some})
    with pytest.raises(ValueError, match="was evaluated on 8 images so far. Give `val` again"):
        require_same_data({"data": {"train": some, "val": some}}, {"train": some, "val": None})
