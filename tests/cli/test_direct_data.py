from pathlib import Path

import pytest

import tf_dcnv2.training
from tf_dcnv2.data import read_dataset_info
from tf_dcnv2_cli import main
from tf_dcnv2_cli.direct_data import records_of


def made(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*.tfrecord")}


def test_annotations_are_converted_once_and_kept_beside_the_run(synthetic, tmp_path, capsys):
    run = str(tmp_path / "run")
    prefix = records_of(synthetic.annotations_file, synthetic.images_dir, run, "--images")
    before = made(f"{run}.records")
    assert len(before) == 1 and read_dataset_info(prefix).num_images == 6
    assert records_of(synthetic.annotations_file, synthetic.images_dir, run, "--images") == prefix
    assert made(f"{run}.records") == before
    assert f"records    {prefix} of {synthetic.annotations_file}" in capsys.readouterr().out


def test_changed_annotations_are_converted_again(synthetic, tmp_path):
    annotations, run = tmp_path / "a.json", str(tmp_path / "run")
    text = Path(synthetic.annotations_file).read_text()
    annotations.write_text(text)
    prefix = records_of(str(annotations), synthetic.images_dir, run, "--images")
    annotations.write_text(text.replace('"name": "star"', '"name": "sun"'))
    assert records_of(str(annotations), synthetic.images_dir, run, "--images") == prefix
    assert "sun" in read_dataset_info(prefix).categories.values()


def test_train_takes_annotations_and_images(synthetic, records, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(tf_dcnv2.training, "train", lambda options, **_: seen.append(options) or exit_now())

    def exit_now():
        raise RuntimeError("enough")

    data = ["--train", synthetic.annotations_file, "--train-images", synthetic.images_dir, "--val", records]
    run = tmp_path / "run"
    assert main(["train", "--preset", "faster_rcnn_small_dcnv2", *data, "--output", str(run)]) == 1
    assert seen[0].train.startswith(f"{run}.records/") and seen[0].val == records
    assert read_dataset_info(seen[0].train).num_images == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--train", "{annotations}"],
            "is an annotation file, no set of records: give the folder of its images by --train-",
        ),
        (["--train", "x", "--val-images", "{images}"], "--val-images is the folder of the images of --val: give both"),
    ],
)
def test_annotations_without_images_and_images_without_annotations_are_usage_errors(
    synthetic, tmp_path, arguments, message, capsys
):
    places = {"annotations": synthetic.annotations_file, "images": synthetic.images_dir}
    given = [argument.format(**places) for argument in arguments]
    assert main(["train", "--preset", "faster_rcnn_small_dcnv2", *given, "--output", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
