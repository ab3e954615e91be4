import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, MIMIC, make_batch, make_mask_batch, tiny_config
from tf_dcnv2.models import FasterRCNN, FeatureMimicking, MimicConfig, crop


@pytest.fixture(
    params=[
        "faster_rcnn c5",
        pytest.param("faster_rcnn fpn", marks=pytest.mark.slow),
        pytest.param("mask_rcnn c5", marks=pytest.mark.slow),
        "mask_rcnn fpn",
    ]
)
def any_detector(request, make_detector) -> FasterRCNN:
    """A tiny detector of each kind on each neck."""
    kind, neck = request.param.split()
    return make_detector(neck, has_mask_head=kind == "mask_rcnn")


@pytest.fixture(params=[pytest.param("c5", marks=pytest.mark.slow), "fpn"])
def detector(request, make_detector) -> FasterRCNN:
    """A tiny detector: mimicking sees of its neck only the level that it pools from."""
    return make_detector(request.param)


@pytest.fixture
def mask_batch() -> tuple[dict, dict]:
    """For either kind of detector."""
    return make_mask_batch()


def variables_read(function):
    """What `function` returns, and references to the trainable variables that it reads."""
    with tf.GradientTape() as tape:
        result = function()
    return result, {variable.ref() for variable in tape.watched_variables()}


def references(*layers) -> set:
    return {variable.value.ref() for layer in layers for variable in layer.trainable_variables}


def test_everything_but_the_two_classifiers_is_shared(detector):
    model = FeatureMimicking(detector, MIMIC)
    shared = {id(variable) for variable in detector.trainable_variables}
    own = [variable for variable in model.trainable_variables if id(variable) not in shared]
    assert len(model.trainable_variables) == len(shared) + len(own)
    assert {variable.path.split("/")[-1] for variable in own} == {"kernel", "bias"}
    assert len(own) == 2


def test_both_branches_read_the_same_variables(any_detector, mask_batch):
    model, head = FeatureMimicking(any_detector, MIMIC), any_detector.box_head
    outputs, by_detector = variables_read(lambda: any_detector.training_outputs(*mask_batch))
    mimicked, by_branch = variables_read(lambda: model.mimic(outputs))
    assert mimicked.rois.shape[0] > 0
    shared = references(any_detector.backbone, any_detector.neck, head.pooling, head.fc1, head.fc2)
    assert by_branch & by_detector == shared
    assert by_branch - by_detector == references(model.classifier)
    assert by_detector >= references(any_detector)


def test_a_configuration_without_mimicking_is_refused():
    with pytest.raises(ValueError, match="with 'none' the detector is trained by itself"):
        FeatureMimicking(tiny_config().build(CATEGORY_IDS), MimicConfig())


def test_both_branches_send_gradients_into_the_shared_backbone(detector, batch):
    model = FeatureMimicking(detector, MIMIC)
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
        model = FeatureMimicking(detector, dataclasses.replace(MIMIC, stop_gradient=stop_gradient))
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
    model = FeatureMimicking(detector, rois=rois, rois_per_image=24, patch_size=64)
    outputs = detector.training_outputs(*batch)
    mimicked = model.mimic(outputs)
    labels = {tuple(box): label for box, label in zip(
        outputs.rois.boxes.numpy().reshape(-1, 4), outputs.rois.labels.numpy().ravel(), strict=True)}  # fmt: skip
    drawn = {labels[tuple(box)] for box in mimicked.rois.numpy()}
    assert (drawn - {0} != set(), 0 in drawn) == (has_objects, has_background)


def test_positive_rois_are_mimicked_as_in_the_paper_unless_told_otherwise(detector):
    assert FeatureMimicking(detector).config == MimicConfig(rois="positive")
    assert FeatureMimicking(detector, patch_size=64).config == MimicConfig(rois="positive", patch_size=64)
    assert FeatureMimicking(detector, rois="all").config == MimicConfig(rois="all")
    with pytest.raises(ValueError, match="Give either config or its fields"):
        FeatureMimicking(detector, MIMIC, rois="all")


def test_at_most_the_wanted_number_of_rois_of_an_image_is_drawn(detector, batch):
    model = FeatureMimicking(detector, rois="all", rois_per_image=2, patch_size=64)
    indices = model.mimic(detector.training_outputs(*batch)).image_indices.numpy()
    np.testing.assert_array_equal(np.bincount(indices), [2, 2])


@pytest.mark.usefixtures("eagerly")
def test_without_positive_rois_the_losses_are_zero_and_training_goes_on(detector, batch):
    inputs, targets = batch
    targets = {**targets, "classes": -tf.ones_like(targets["classes"])}
    model = FeatureMimicking(detector, MIMIC)
    model.compile(keras.optimizers.SGD(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors((inputs, targets)), verbose=0).history
    assert history["mimic_loss"] == [0.0]
    assert history["rcnn_class_loss"] == [0.0]
    assert all(np.isfinite(variable).all() for variable in detector.trainable_variables)


@pytest.mark.parametrize(
    "any_detector",
    # The features are those of the boxes in every detector.
    [pytest.param("faster_rcnn c5", marks=pytest.mark.slow), "mask_rcnn fpn"],
    indirect=True,
)
def test_features_of_the_same_roi_grow_alike_when_only_mimicking_is_trained(any_detector, mask_batch):
    model = FeatureMimicking(any_detector, rois="positive", rois_per_image=6, patch_size=64)
    optimizer = keras.optimizers.Adam(3e-3)
    variables = any_detector.trainable_variables
    losses, similarity = [], []
    for step in range(8):
        keras.utils.set_random_seed(step)
        with tf.GradientTape() as tape:
            mimicked = model.mimic(any_detector.training_outputs(*mask_batch))
            loss = mimicked.losses["mimic_loss"]
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients([pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None])
        distance = keras.losses.cosine_similarity(mimicked.rcnn_features, mimicked.detector_features)
        losses.append(float(loss))
        similarity.append(-float(tf.reduce_mean(distance)))
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])
    assert np.mean(similarity[-3:]) > np.mean(similarity[:3])


def test_the_detector_features_are_those_it_classifies_the_rois_by(detector, batch):
    outputs = detector.training_outputs(*batch)
    mimicked = FeatureMimicking(detector, MIMIC).mimic(outputs)
    assert mimicked.rois.shape[0] > 0
    for image, roi, feature in zip(mimicked.image_indices, mimicked.rois, mimicked.detector_features, strict=True):
        (where,) = np.flatnonzero(np.all(outputs.rois.boxes[image] == roi, axis=-1))[:1]
        np.testing.assert_array_equal(outputs.features[image, where], feature)


@pytest.mark.parametrize("detector", ["c5", "fpn"], indirect=True)
def test_a_crop_is_pooled_whole_from_the_level_with_stride_16(detector, batch):
    outputs = detector.training_outputs(*batch)
    mimicked = FeatureMimicking(detector, MIMIC).mimic(outputs)
    patches = crop(outputs.images, mimicked.rois, mimicked.image_indices, 64)
    np.testing.assert_array_equal(mimicked.patches, patches)
    levels = detector.extract(patches, training=False)["roi"]
    count = patches.shape[0]
    whole = tf.constant([[[0.0, 0.0, 64.0, 64.0]]] * count)
    level = tf.fill([count, 1], detector.box_head.strides.index(16))
    expected = detector.box_head.features(levels, whole, level)[:, 0]
    np.testing.assert_allclose(mimicked.rcnn_features, expected, rtol=1e-5, atol=1e-6)


def test_crops_of_the_images_show_what_the_backbone_saw(detector, batch):
    inputs, targets = batch
    mimicked = FeatureMimicking(detector, MIMIC).mimic(detector.training_outputs(inputs, targets, training=False))
    pictures = crop(inputs["images"], mimicked.rois, mimicked.image_indices, 64)
    # All objects, and so all positive RoIs, are in the first image, which has no padding.
    assert not np.any(mimicked.image_indices)
    np.testing.assert_allclose(detector.backbone.preprocess(pictures), mimicked.patches, atol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_inference_is_the_same_graph_before_and_after_training_with_mimicking(any_detector, mask_batch):
    def graph():
        specification = tf.nest.map_structure(lambda x: tf.TensorSpec([None, *x.shape[1:]], x.dtype), mask_batch[0])
        nodes = tf.function(any_detector.call).get_concrete_function(specification).graph.as_graph_def().node
        return [(node.name, node.op, tuple(node.input)) for node in nodes]

    before = graph()
    model = FeatureMimicking(any_detector, MIMIC)
    model.compile("sgd")
    model.fit(tf.data.Dataset.from_tensors(mask_batch), verbose=0, shuffle=False)
    assert graph() == before


def test_the_loss_is_the_sum_over_omega_averaged_over_images(detector, batch):
    keras.utils.set_random_seed(0)
    model = FeatureMimicking(detector, rois="all", rois_per_image=4, patch_size=64, mimic_weight=0.1)
    mimicked = model.mimic(detector.training_outputs(*batch))
    a, b = mimicked.rcnn_features.numpy(), mimicked.detector_features.numpy()
    cosine = np.sum(a * b, -1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
    np.testing.assert_allclose(mimicked.losses["mimic_loss"], 0.1 * np.sum(1 - cosine) / 2, rtol=1e-4)


@pytest.mark.parametrize("weight", [None, 0.7])
def test_the_class_loss_of_crops_is_a_tenth_of_the_mean_cross_entropy_of_a_softmax(detector, batch, weight):
    settings = {"rois": "all", "rois_per_image": 24, "patch_size": 64}
    if weight is not None:
        settings["classification_weight"] = weight
    model = FeatureMimicking(detector, **settings)
    bias = np.array([0.5, -1.0, 2.0, 0.25])
    model.classifier.kernel.assign(np.zeros(model.classifier.kernel.shape))
    model.classifier.bias.assign(bias)
    outputs = detector.training_outputs(*batch)
    mimicked = model.mimic(outputs)
    labels = {tuple(box): label for box, label in zip(
        outputs.rois.boxes.numpy().reshape(-1, 4), outputs.rois.labels.numpy().ravel(), strict=True)}  # fmt: skip
    drawn = np.array([labels[tuple(box)] for box in mimicked.rois.numpy()])
    assert len(set(drawn)) > 1
    cross_entropy = np.log(np.exp(bias).sum()) - bias[drawn]
    expected = (0.1 if weight is None else weight) * cross_entropy.mean()
    assert mimicked.losses["rcnn_class_loss"].numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_training_with_mimicking_trains_the_detector_in_place(detector, batch):
    model = FeatureMimicking(detector, MIMIC)
    before = detector.box_head.fc2.kernel.numpy()
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors(batch).repeat(5), verbose=0).history
    assert {"mimic_loss", "rcnn_class_loss", "rpn_class_loss", "loss"} <= set(history)
    assert not np.array_equal(before, detector.box_head.fc2.kernel.numpy())
    np.testing.assert_array_equal(model(batch[0])["scores"], detector(batch[0])["scores"])


def test_crops_do_not_reach_the_moving_averages(detector, batch):
    model = FeatureMimicking(detector, MIMIC)
    outputs = detector.training_outputs(*batch)
    variable = detector.backbone.get_layer("conv1_bn").moving_mean
    before = variable.numpy()
    model.mimic(outputs)
    np.testing.assert_array_equal(variable.numpy(), before)


def test_a_mimicking_model_survives_saving_and_loading(detector, batch, tmp_path):
    model = FeatureMimicking(detector, MIMIC)
    model.save(tmp_path / "mimicking.keras")
    loaded = keras.saving.load_model(tmp_path / "mimicking.keras")
    np.testing.assert_allclose(loaded(batch[0])["scores"], detector(batch[0])["scores"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(loaded.classifier.kernel, model.classifier.kernel)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("wrap", [lambda detector: detector, FeatureMimicking], ids=["detector", "mimicking"])
def test_a_reloaded_model_is_compiled_with_the_state_of_its_optimizer(detector, wrap, tmp_path):
    model = wrap(detector)
    model.compile(keras.optimizers.SGD(0.125, momentum=0.9, global_clipnorm=3.0))
    model.optimizer.build(model.trainable_variables)
    for index, variable in enumerate(model.optimizer.variables):
        variable.assign(np.full(variable.shape, 2.0 + index))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").optimizer
    assert type(loaded) is type(model.optimizer)
    assert loaded.get_config() == model.optimizer.get_config()
    for variable, expected in zip(loaded.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(variable, expected, err_msg=expected.path)


def test_a_crop_at_its_own_size_is_the_image():
    image = make_batch()[0]["images"][:1]
    patch = crop(image, tf.constant([[10.0, 20.0, 42.0, 52.0]]), tf.constant([0]), 32)
    np.testing.assert_allclose(patch[0], image[0, 10:42, 20:52], atol=1e-2)


def test_a_crop_at_half_size_averages_pairs_of_pixels():
    ramp = tf.reshape(tf.range(8, dtype=tf.float32), [1, 1, 8, 1]) * tf.ones([1, 8, 1, 1])
    patch = crop(ramp, tf.constant([[0.0, 0.0, 8.0, 8.0]]), tf.constant([0]), 4)
    np.testing.assert_allclose(patch[0, 0, :, 0], [0.5, 2.5, 4.5, 6.5], atol=1e-5)
