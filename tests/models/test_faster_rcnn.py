import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, make_batch, tiny_config
from tf_dcnv2.models.heads import BoxHead


def test_detections_have_the_documented_shapes_ids_and_bounds(detector, batch):
    inputs, _ = batch
    detections = {name: value.numpy() for name, value in detector(inputs).items()}
    count = detector.box_head.config.max_detections
    assert {name: value.shape for name, value in detections.items()} == {
        "boxes": (2, count, 4),
        "scores": (2, count),
        "classes": (2, count),
        "num_detections": (2,),
    }
    assert detections["num_detections"].min() > 0
    for image in range(2):
        used = np.arange(count) < detections["num_detections"][image]
        assert set(detections["classes"][image][used]) <= set(CATEGORY_IDS)
        assert np.all(detections["classes"][image][~used] == -1)
        assert np.all(np.diff(detections["scores"][image]) <= 0)
        assert np.all(detections["boxes"][image] >= 0)
        assert np.all(detections["boxes"][image] <= np.tile(inputs["image_sizes"][image], 2))


def test_images_and_sizes_may_be_given_as_arguments(detector, batch):
    inputs, _ = batch
    expected = detector(inputs)
    received = detector(inputs["images"], inputs["image_sizes"])
    for name, value in expected.items():
        np.testing.assert_array_equal(received[name], value)


@pytest.mark.parametrize("size", [(240, 100), (33, 47)])
def test_any_image_size_works(detector, size):
    assert detector(tf.zeros([1, *size, 3]))["boxes"].shape == (1, 100, 4)


def test_padding_does_not_change_the_detections(detector):
    """The network sees zeros beyond an image either way; only the border of its feature maps moves."""
    image = make_batch(96, 96)[0]["images"][:1]
    padded = tf.pad(image, [[0, 0], [0, 0], [0, 64], [0, 0]], constant_values=200.0)
    prepared = detector.prepare(padded, tf.constant([[96.0, 96.0]]))
    np.testing.assert_allclose(prepared[:, :, :96], detector.prepare(image, tf.constant([[96.0, 96.0]])))
    assert np.all(prepared[:, :, 96:] == 0)


def test_an_image_of_the_wrong_shape_is_refused(detector):
    with pytest.raises(ValueError, match=r"images must have shape \(B, H, W, 3\).* Received: .*\(1, 64, 64, 1\)"):
        detector({"images": tf.zeros([1, 64, 64, 1])})


@pytest.mark.parametrize(
    "detector",
    ["c5", pytest.param("fpn", marks=pytest.mark.slow)],  # as of a Mask R-CNN
    indirect=True,
)
def test_training_lowers_every_loss_and_moves_every_trainable_weight(detector, batch):
    before = [variable.numpy() for variable in detector.trainable_variables]
    detector.compile(keras.optimizers.Adam(3e-3))
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    history = detector.fit(dataset, epochs=4, steps_per_epoch=10, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    for name in ("rpn_class_loss", "class_loss", "loss"):
        assert history[name][-1] < history[name][0], name
    unmoved = [
        variable.path
        for variable, value in zip(detector.trainable_variables, before, strict=True)
        if np.array_equal(variable.numpy(), value)
    ]
    assert not unmoved


@pytest.mark.usefixtures("eagerly")
def test_single_batches_train_and_evaluate(detector, batch):
    detector.compile(keras.optimizers.SGD(1e-3))
    for step in (detector.train_on_batch, detector.test_on_batch):
        assert np.isfinite(step(*batch, return_dict=True)["loss"])


def test_a_batch_without_any_object_trains(detector, batch):
    inputs, targets = batch
    targets = {**targets, "classes": -tf.ones_like(targets["classes"]), "boxes": tf.zeros_like(targets["boxes"])}
    losses = detector.compute_losses(inputs, targets)
    assert all(np.isfinite(value) for value in losses.values())
    assert losses["box_loss"] == 0.0
    assert losses["rpn_box_loss"] == 0.0


def test_crowd_regions_are_no_objects(detector, batch):
    inputs, targets = batch
    outputs = detector.training_outputs(inputs, targets)
    crowd_label = CATEGORY_IDS.index(int(targets["classes"][0, 2])) + 1
    assert crowd_label not in outputs.rois.labels.numpy()


def test_an_unknown_category_id_stops_training_with_its_number(detector, batch):
    inputs, targets = batch
    targets = {**targets, "classes": tf.where(targets["classes"] == 7, 8, targets["classes"])}
    with pytest.raises(tf.errors.InvalidArgumentError, match="category id that the detector was not built for"):
        detector.compute_losses(inputs, targets)


@pytest.mark.usefixtures("eagerly")
def test_evaluating_losses_changes_no_weight(detector, batch):
    before = [variable.numpy() for variable in detector.variables]
    detector.compile("sgd")
    losses = detector.evaluate(tf.data.Dataset.from_tensors(batch), return_dict=True, verbose=0)
    assert losses["loss"] > 0
    for variable, value in zip(detector.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_a_loss_given_to_compile_is_refused(detector):
    with pytest.raises(ValueError, match="brings its own losses"):
        detector.compile("sgd", loss="mse")


def test_a_detector_survives_saving_and_loading(detector, batch, tmp_path):
    inputs, _ = batch
    detector.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    assert loaded.category_ids == CATEGORY_IDS
    for part in detector.parts:
        assert getattr(loaded, part).get_config() == getattr(detector, part).get_config()
    for name, value in detector(inputs).items():
        np.testing.assert_allclose(loaded(inputs)[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ids", [(), (1, 1), (-1, 2)])
def test_category_ids_must_be_distinct_and_not_negative(ids):
    with pytest.raises(ValueError, match="category_ids must be distinct non-negative integers"):
        tiny_config().build(ids)


@pytest.mark.parametrize(
    "detector",
    ["c5", pytest.param("fpn", marks=pytest.mark.slow)],  # as of a Mask R-CNN without any detection
    indirect=True,
)
def test_batches_of_any_size_share_one_compiled_predict(detector, batch):
    inputs, _ = batch
    one = {name: value[:1] for name, value in inputs.items()}
    both = detector.predict_on_batch(inputs)
    np.testing.assert_allclose(detector.predict_on_batch(one)["scores"][0], both["scores"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision_never_touches_boxes_and_scores(batch, policy):
    keras.config.set_dtype_policy(policy)
    try:
        detector = tiny_config().build(CATEGORY_IDS)
        losses = detector.compute_losses(*batch)
        detections = detector(batch[0])
    finally:
        keras.config.set_dtype_policy("float32")
    assert detector.backbone(tf.zeros([1, 64, 64, 3]))["C5"].dtype == tf.as_dtype(policy.removeprefix("mixed_"))
    assert detections["boxes"].dtype == detections["scores"].dtype == tf.float32
    assert all(np.isfinite(value) for value in losses.values())
    # A box rounded to 8 significant bits, as bfloat16 has, would lie on quarters of a pixel beyond 32 px.
    boxes = detections["boxes"].numpy()
    assert np.any(boxes[boxes > 32] % 0.25)


def test_a_call_in_training_mode_normalises_with_the_statistics_of_its_batch(batch):
    keras.utils.set_random_seed(0)
    detector = tiny_config("c5").build(CATEGORY_IDS)
    inputs, _ = batch
    means = [variable for variable in detector.variables if "moving_mean" in variable.path]
    before = [mean.numpy() for mean in means]
    inference = detector(inputs)
    np.testing.assert_array_equal(detector(inputs, training=False)["scores"], inference["scores"])
    assert all(np.array_equal(mean, old) for mean, old in zip(means, before, strict=True))

    training = detector(inputs, training=True)

    assert not np.allclose(training["scores"], inference["scores"])
    assert any(not np.array_equal(mean, old) for mean, old in zip(means, before, strict=True))


def test_detectors_are_not_quantised_as_they_would_not_load_again(detector):
    with pytest.raises(NotImplementedError, match="Detectors cannot be quantised.*Export the detector"):
        detector.quantize("int8")


@pytest.mark.parametrize("box_weights", [(10.0, 10.0, 5.0, 5.0), (1.0, 2.0, 3.0, 4.0)])
def test_boxes_are_trained_towards_targets_scaled_by_the_box_weights(batch, box_weights):
    keras.utils.set_random_seed(0)
    # Proposals that are far from their objects, or the objects themselves would be the only RoIs on objects.
    overrides = {"box_head.positive_iou": 0.1}
    if box_weights != (10.0, 10.0, 5.0, 5.0):
        overrides["box_head.box_weights"] = box_weights
    detector = tiny_config(**overrides).build(CATEGORY_IDS)
    for variable in detector.box_head.regressor.weights:
        variable.assign(np.zeros(variable.shape))  # so that it predicts every RoI itself
    outputs = detector.training_outputs(*batch)
    rois = outputs.rois
    (y1, x1, y2, x2), (t1, l1, t2, l2) = (
        np.moveaxis(boxes.numpy(), -1, 0) for boxes in (rois.boxes, rois.object_boxes)
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no RoI
        height, width = y2 - y1, x2 - x1
        offsets = ((t1 + t2 - y1 - y2) / 2 / height, (l1 + l2 - x1 - x2) / 2 / width)
        sizes = (np.log((t2 - t1) / height), np.log((l2 - l1) / width))
        distance = np.abs(np.stack([*offsets, *sizes], axis=-1) * box_weights)
    loss = np.where(distance < 1, 0.5 * distance**2, distance - 0.5).sum(-1)
    is_object, count = rois.labels.numpy() > 0, rois.valid.numpy().sum()
    assert loss[is_object].max() > 0.5
    assert outputs.losses["box_loss"].numpy() == pytest.approx(loss[is_object].sum() / count, rel=1e-4)


def test_a_predicted_offset_of_one_moves_a_box_by_a_tenth_of_its_size():
    rois = tf.constant([[[20.0, 30.0, 40.0, 70.0]]])
    deltas = tf.constant([[[[1.0, 1.0, 5 * np.log(2.0), 0.0]]]], tf.float32)
    logits = tf.constant([[[-9.0, 9.0]]])
    found = BoxHead(1, (16,), 4).detections(rois, logits, deltas, tf.constant([[100.0, 100.0]]))
    # The centre (30, 50) moves by (2, 4), and the height of 20 doubles.
    np.testing.assert_allclose(found.boxes[0, 0], [12.0, 34.0, 52.0, 74.0], rtol=1e-5)
