import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.models.conftest import CATEGORY_IDS, make_batch, tiny_config
from tf_dcnv2.models import FasterRCNN, FeatureMimicking
from tf_dcnv2.models.feature_mimicking import crop


def test_everything_but_the_two_classifiers_is_shared(detector):
    model = FeatureMimicking(detector)
    shared = {id(variable) for variable in detector.trainable_variables}
    own = [variable for variable in model.trainable_variables if id(variable) not in shared]
    assert len(model.trainable_variables) == len(shared) + len(own)
    assert {variable.path.split("/")[-1] for variable in own} == {"kernel", "bias"}
    assert len(own) == 2


def test_both_branches_send_gradients_into_the_shared_backbone(detector, batch):
    model = FeatureMimicking(detector)
    kernel = detector.backbone.get_layer("conv1_conv").kernel.value
    with tf.GradientTape(persistent=True) as tape:
        outputs = detector.training_outputs(*batch)
        mimicked = model.mimic(outputs)
        rcnn = tf.reduce_sum(mimicked.rcnn_features)
        own = tf.reduce_sum(mimicked.detector_features)
    assert np.any(tape.gradient(rcnn, kernel))
    assert np.any(tape.gradient(own, kernel))


def test_stop_gradient_makes_the_rcnn_feature_a_fixed_target(detector, batch):
    def gradient(stop_gradient):
        keras.utils.set_random_seed(3)
        model = FeatureMimicking(detector, {**detector.config.mimic.to_dict(), "stop_gradient": stop_gradient})
        outputs = detector.training_outputs(*batch)
        outputs = outputs._replace(features=tf.stop_gradient(outputs.features))
        with tf.GradientTape() as tape:
            loss = model.mimic(outputs).losses["mimic_loss"]
        return tape.gradient(loss, detector.box_head.fc2.kernel.value)

    assert gradient(stop_gradient=True) is None
    assert np.any(gradient(stop_gradient=False))


@pytest.mark.parametrize(("rois", "has_objects", "has_background"), [
    ("positive", True, False), ("negative", False, True), ("all", True, True),
])  # fmt: skip
def test_omega_holds_the_kind_of_rois_asked_for(detector, batch, rois, has_objects, has_background):
    model = FeatureMimicking(detector, {"rois": rois, "rois_per_image": 24, "patch_size": 64})
    outputs = detector.training_outputs(*batch)
    mimicked = model.mimic(outputs)
    labels = {tuple(box): label for box, label in zip(
        outputs.rois.boxes.numpy().reshape(-1, 4), outputs.rois.labels.numpy().ravel(), strict=True)}  # fmt: skip
    drawn = {labels[tuple(box)] for box in mimicked.rois.numpy()}
    assert (drawn - {0} != set(), 0 in drawn) == (has_objects, has_background)


def test_at_most_the_wanted_number_of_rois_of_an_image_is_drawn(detector, batch):
    model = FeatureMimicking(detector, {"rois": "all", "rois_per_image": 2, "patch_size": 64})
    indices = model.mimic(detector.training_outputs(*batch)).image_indices.numpy()
    np.testing.assert_array_equal(np.bincount(indices), [2, 2])


def test_without_positive_rois_the_losses_are_zero_and_training_goes_on(detector, batch):
    inputs, targets = batch
    targets = {**targets, "classes": -tf.ones_like(targets["classes"])}
    model = FeatureMimicking(detector)
    model.compile(keras.optimizers.SGD(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors((inputs, targets)), verbose=0).history
    assert history["mimic_loss"] == [0.0]
    assert history["rcnn_class_loss"] == [0.0]
    assert all(np.isfinite(variable).all() for variable in detector.trainable_variables)


def test_features_of_the_same_roi_grow_alike_when_only_mimicking_is_trained(batch):
    keras.utils.set_random_seed(0)
    detector = FasterRCNN(tiny_config("c5"), CATEGORY_IDS)
    model = FeatureMimicking(detector, {"rois": "all", "rois_per_image": 8, "patch_size": 64})
    optimizer = keras.optimizers.Adam(3e-3)
    variables = detector.trainable_variables
    similarity = []
    for step in range(12):
        keras.utils.set_random_seed(step)
        with tf.GradientTape() as tape:
            mimicked = model.mimic(detector.training_outputs(*batch))
        gradients = tape.gradient(mimicked.losses["mimic_loss"], variables)
        optimizer.apply_gradients([pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None])
        distance = keras.losses.cosine_similarity(mimicked.rcnn_features, mimicked.detector_features)
        similarity.append(-float(tf.reduce_mean(distance)))
    assert np.mean(similarity[-3:]) > np.mean(similarity[:3])


def test_the_loss_is_the_sum_over_omega_averaged_over_images(detector, batch):
    keras.utils.set_random_seed(0)
    model = FeatureMimicking(detector, {"rois": "all", "rois_per_image": 4, "patch_size": 64, "mimic_weight": 0.1})
    mimicked = model.mimic(detector.training_outputs(*batch))
    a, b = mimicked.rcnn_features.numpy(), mimicked.detector_features.numpy()
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(mimicked.losses["mimic_loss"], 0.1 * np.sum(1 - cosine) / 2, rtol=1e-4)


def test_training_with_mimicking_trains_the_detector_in_place(detector, batch):
    model = FeatureMimicking(detector)
    before = detector.box_head.fc2.kernel.numpy()
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors(batch).repeat(5), verbose=0).history
    assert {"mimic_loss", "rcnn_class_loss", "rpn_class_loss", "loss"} <= set(history)
    assert not np.array_equal(before, detector.box_head.fc2.kernel.numpy())
    np.testing.assert_array_equal(model(batch[0])["scores"], detector(batch[0])["scores"])


def test_crops_do_not_reach_the_moving_averages(detector, batch):
    model = FeatureMimicking(detector)
    outputs = detector.training_outputs(*batch)
    variable = detector.backbone.get_layer("conv1_bn").moving_mean
    before = variable.numpy()
    model.mimic(outputs)
    np.testing.assert_array_equal(variable.numpy(), before)


def test_a_mimicking_model_survives_saving_and_loading(detector, batch, tmp_path):
    model = FeatureMimicking(detector)
    model.save(tmp_path / "mimicking.keras")
    loaded = keras.saving.load_model(tmp_path / "mimicking.keras")
    np.testing.assert_allclose(loaded(batch[0])["scores"], detector(batch[0])["scores"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded.classifier.kernel, model.classifier.kernel)


def test_a_crop_at_its_own_size_is_the_image():
    image = make_batch()[0]["images"][:1]
    patch = crop(image, tf.constant([[10.0, 20.0, 42.0, 52.0]]), tf.constant([0]), 32)
    np.testing.assert_allclose(patch[0], image[0, 10:42, 20:52], atol=1e-2)


def test_a_crop_at_half_size_averages_pairs_of_pixels():
    ramp = tf.reshape(tf.range(8, dtype=tf.float32), [1, 1, 8, 1]) * tf.ones([1, 8, 1, 1])
    patch = crop(ramp, tf.constant([[0.0, 0.0, 8.0, 8.0]]), tf.constant([0]), 4)
    np.testing.assert_allclose(patch[0, 0, :, 0], [0.5, 2.5, 4.5, 6.5], atol=1e-5)
