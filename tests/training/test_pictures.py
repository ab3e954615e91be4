"""What people look at while a detector trains: pictures of detections, and TensorBoard."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tf_dcnv2.data import load_records
from tf_dcnv2.training import DetectionPictures, RunFolder, TensorBoardSummaries, TrainOptions
from tf_dcnv2.visualization import draw_annotations


class FindsTheMiddle:
    """Detects one object in the middle of every image."""

    def predict_on_batch(self, inputs):
        count, (height, width) = len(inputs["images"]), inputs["images"].shape[1:3]
        boxes = np.tile([[[height / 4, width / 4, 3 * height / 4, 3 * width / 4]]], [count, 1, 1])
        return {"boxes": boxes, "scores": np.full([count, 1], 0.9), "classes": np.ones([count, 1], np.int32)}


@pytest.fixture
def dataset(synthetic_records):
    return load_records(synthetic_records, batch_size=3, short_side=64, max_side=96)


def end_epochs(callback, count, epochs):
    """Ends epochs of a `fit` of so many, and its last one too."""
    callback.set_model(types.SimpleNamespace(stop_training=False))
    callback.set_params({"epochs": count})
    for epoch in epochs:
        callback.on_epoch_end(epoch, {})


def test_the_same_images_are_drawn_with_annotations_on_the_left_and_detections_on_the_right(dataset, tmp_path):
    seen = []
    pictures = DetectionPictures(
        FindsTheMiddle(), dataset, tmp_path, count=4, on_pictures=lambda epoch, drawn: seen.append((epoch, drawn))
    )
    end_epochs(pictures, 10, [0, 1])
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.jpg"))
    ids = [int(of) for _, targets in dataset.unbatch().batch(4).take(1) for of in targets["image_ids"]]
    assert files == sorted(f"epoch-000{epoch}/image-{image}.jpg" for epoch in (1, 2) for image in ids)
    assert [epoch for epoch, _ in seen] == [0, 1]
    (inputs, _), *_ = dataset
    height, width = np.asarray(inputs["image_sizes"][0], int)
    picture, image = seen[0][1][0], np.asarray(inputs["images"][0])[:height, :width]
    assert picture.shape == (height, 2 * width + 8, 3)
    # Beyond the middle the right half is the image; somewhere in the middle is a box.
    right = picture[:, -width:].astype(float)
    np.testing.assert_allclose(right[0], np.round(image[0]), atol=1)
    assert np.abs(right - image).max() > 50
    assert np.abs(picture[:, :width] - image).max() > 50
    with Image.open(tmp_path / files[0]) as saved:
        assert saved.size == picture.shape[1::-1]


def test_crowd_regions_are_marked_as_ignored(dataset):
    ((inputs, targets),) = dataset.take(1)
    given = [(inputs, {**targets, "crowd": np.full(targets["crowd"].shape, crowd)}) for crowd in (False, True)]
    (_, objects), (_, regions) = (next(iter(DetectionPictures(FindsTheMiddle(), [one]).draw())) for one in given)
    height, width = np.asarray(inputs["image_sizes"][0], int)
    image, boxes = inputs["images"][0].numpy()[:height, :width], targets["boxes"][0].numpy()
    for picture, crowd in ((objects, False), (regions, True)):
        drawn = draw_annotations(image, boxes, targets["classes"][0].numpy(), crowd=np.full(len(boxes), crowd))
        np.testing.assert_array_equal(picture[:, :width], drawn)
    assert (objects != regions).any()


def test_pictures_are_drawn_when_they_are_due_and_at_the_end(dataset, tmp_path):
    drawn = []
    end_epochs(
        DetectionPictures(FindsTheMiddle(), dataset, every=2, on_pictures=lambda *of: drawn.append(of[0])), 5, range(5)
    )
    assert drawn == [1, 3, 4]
    drawn.clear()
    end_epochs(
        DetectionPictures(FindsTheMiddle(), dataset, every=0, on_pictures=lambda *of: drawn.append(of[0])), 3, range(3)
    )
    assert drawn == [2]


def test_leftovers_of_killed_drawings_are_removed_and_nothing_else(tmp_path):
    run = RunFolder(tmp_path)
    folder = run.pictures / "epoch-0001"
    folder.mkdir(parents=True)
    kept = [folder / "image-3.jpg", folder / ".notes.txt.0.tmp"]
    for path in kept:
        path.touch()
    (folder / ".image-4.jpg.ab12cd34.tmp").touch()
    run.remove_leftovers()
    assert set(folder.iterdir()) == set(kept)


def events_of(folder):
    """Tag -> steps of all entries in a folder of event files, and tag -> values of those that are numbers."""
    steps, values = {}, {}
    for path in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                steps.setdefault(value.tag, []).append(event.step)
                array = tf.make_ndarray(value.tensor)
                if array.dtype.kind == "f":
                    values.setdefault(value.tag, []).append(float(array))
    return steps, values


def test_tensorboard_gets_losses_rates_metrics_and_pictures_by_step(tmp_path):
    class AddAP(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_AP"] = 0.5 if epoch else float("nan")

    class AddPicture(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            summaries.add_pictures(epoch, [np.zeros([4, 6, 3], np.uint8), np.zeros([2, 2, 3], np.uint8)])

    summaries = TensorBoardSummaries(tmp_path / "events", every=2)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.25), loss="mse")
    x = np.ones([5, 2], "float32")
    model.fit(x, x[:, :1], batch_size=1, epochs=2, verbose=0, callbacks=[AddAP(), AddPicture(), summaries])
    steps, values = events_of(tmp_path / "events")
    assert steps["loss"] == steps["learning_rate"] == [2, 4, 6, 8, 10]
    assert values["learning_rate"] == [0.25] * 5
    assert steps["epoch/loss"] == [5, 10]
    assert (steps["epoch/val_AP"], values["epoch/val_AP"]) == ([10], [0.5])  # an epoch without evaluation has none
    assert steps["detections/0"] == steps["detections/1"] == [5, 10]


@pytest.mark.parametrize("named", [{"count": 0}, {"every": -1}, {"min_score": -0.1}])
def test_arguments_out_of_range_are_refused(dataset, named):
    with pytest.raises(ValueError, match=next(iter(named))):
        DetectionPictures(FindsTheMiddle(), dataset, **named)
    with pytest.raises(ValueError, match="pictures"):
        TrainOptions(preset="faster_rcnn_small_dcnv2", train="t", output="o", pictures=-1)
