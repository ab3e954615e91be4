import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.support.detectors import CATEGORY_IDS, MASK_HEAD, MIMIC, make_mask_batch, tiny_config
from tf_dcnv2.models import FasterRCNN, FeatureMimicking, MaskRCNN
from tf_dcnv2.models.heads.mask_head import mask_of_class

SIDE = 2 * MASK_HEAD["pool_size"]


@pytest.fixture(params=["c5", "fpn"])
def detector(request, make_detector) -> MaskRCNN:
    return make_detector(request.param, has_mask_head=True)


@pytest.fixture
def batch() -> tuple[dict, dict]:
    return make_mask_batch()


def build_detector(neck: str, **overrides) -> MaskRCNN:
    keras.utils.set_random_seed(0)
    return tiny_config(neck, **{"mask_head": MASK_HEAD, **overrides}).build(CATEGORY_IDS)


@pytest.mark.parametrize("neck", ["c5", "fpn"])
def test_every_detection_has_a_mask_of_probabilities_and_unused_slots_are_zero(neck, batch):
    detector = build_detector(neck, **{"rpn.proposals": [40, 20]})  # too few for 100 detections
    detections = {name: value.numpy() for name, value in detector(batch[0]).items()}
    masks, count = detections["masks"], detections["num_detections"]
    assert masks.shape == (2, detector.box_head.config.max_detections, SIDE, SIDE)
    assert count.min() > 0
    assert count.max() < masks.shape[1]
    for image in range(2):
        assert np.all((masks[image, : count[image]] > 0) & (masks[image, : count[image]] < 1))
        assert not masks[image, count[image] :].any()


def test_a_mask_is_the_one_of_the_detected_class_on_the_final_box(detector, batch):
    detector.mask_head.classifier.kernel.assign(keras.random.normal(detector.mask_head.classifier.kernel.shape))
    inputs, _ = batch
    detections = detector(inputs)
    levels = detector.extract(detector.prepare(**inputs), training=False)["roi"]
    image, number = 1, 3
    logits = detector.mask_head(levels, detections["boxes"][image, number : number + 1], tf.constant([image]))
    label = CATEGORY_IDS.index(int(detections["classes"][image, number]))
    expected = tf.sigmoid(logits[0, :, :, label])
    np.testing.assert_allclose(detections["masks"][image, number], expected, rtol=1e-4, atol=1e-6)


def test_the_class_of_each_roi_picks_its_mask():
    masks = tf.reshape(tf.range(2 * 2 * 2 * 3), [2, 2, 2, 3])
    np.testing.assert_array_equal(mask_of_class(masks, tf.constant([2, 0])), [[[2, 5], [8, 11]], [[12, 15], [18, 21]]])


@pytest.mark.parametrize("neck", [pytest.param("c5", marks=pytest.mark.slow), "fpn"])  # the mask head is the same
def test_images_without_any_detection_give_empty_masks(neck, batch):
    detector = build_detector(neck, **{"box_head.score_threshold": 0.999})
    for call in (detector, detector.predict_on_batch):
        detections = call(batch[0])
        assert not np.any(detections["num_detections"])
        assert detections["masks"].shape == (2, 100, SIDE, SIDE)
        assert not np.any(detections["masks"])


@pytest.mark.parametrize(
    "detector",
    [pytest.param("c5", marks=pytest.mark.slow), "fpn"],  # as of a Faster R-CNN
    indirect=True,
)
def test_training_lowers_the_mask_loss_and_moves_every_trainable_weight(detector, batch):
    before = [variable.numpy() for variable in detector.trainable_variables]
    detector.compile(keras.optimizers.Adam(3e-3))
    history = detector.fit(
        tf.data.Dataset.from_tensors(batch).repeat(), epochs=6, steps_per_epoch=10, verbose=0
    ).history
    assert all(np.isfinite(values).all() for values in history.values())
    # A loss of ln 2 = 0.693 is that of masks that say nothing; it takes some thirty steps to leave it.
    assert history["mask_loss"][0] < 0.7
    assert history["mask_loss"][-1] < history["mask_loss"][0] - 0.05
    for name in ("rpn_class_loss", "class_loss", "loss"):
        assert history[name][-1] < history[name][0], name
    pairs = zip(detector.trainable_variables, before, strict=True)
    assert not [variable.path for variable, value in pairs if np.array_equal(variable.numpy(), value)]


def test_the_mask_loss_reaches_the_branch_of_the_mask_heads_own_pooling(detector, batch):
    branch = detector.mask_head.pooling.trainable_variables
    assert len(branch) == 6
    assert not {id(v) for v in branch} & {id(v) for v in detector.box_head.pooling.trainable_variables}
    # At its start the branch's last layer is zero, and nothing comes through it to the layers before.
    for variable in branch:
        variable.assign_add(keras.random.normal(variable.shape, stddev=0.1))
    detector.mask_head.classifier.kernel.assign(keras.random.normal(detector.mask_head.classifier.kernel.shape))
    with tf.GradientTape() as tape:
        loss = detector.compute_losses(*batch)["mask_loss"]
    for variable, gradient in zip(branch, tape.gradient(loss, [v.value for v in branch]), strict=True):
        assert np.any(gradient), variable.path


def test_the_mask_loss_sees_the_masks_of_the_own_class_only(detector, batch):
    with tf.GradientTape() as tape:
        loss = detector.compute_losses(*batch)["mask_loss"]
    bias = detector.mask_head.classifier.bias.value
    # The batch has objects of the first and the last category; the second has a crowd only.
    np.testing.assert_array_equal(tape.gradient(loss, bias).numpy() != 0, [True, False, True])


@pytest.mark.usefixtures("eagerly")
def test_a_batch_without_any_object_has_no_mask_loss_and_trains(detector, batch):
    inputs, targets = batch
    targets = {**targets, "classes": -tf.ones_like(targets["classes"])}
    detector.compile(keras.optimizers.SGD(1e-3))
    history = detector.fit(tf.data.Dataset.from_tensors((inputs, targets)), verbose=0).history
    assert history["mask_loss"] == [0.0]
    assert all(np.isfinite(variable).all() for variable in detector.trainable_variables)


def test_targets_without_masks_are_refused_with_the_remedy(detector, batch):
    inputs, targets = batch
    del targets["masks"]
    with pytest.raises(ValueError, match="must hold 'masks' for a Mask R-CNN: load the records with masks=True"):
        detector.compute_losses(inputs, targets)


@pytest.mark.usefixtures("eagerly")
def test_mimicking_trains_a_mask_rcnn_through_its_classification_head(detector, batch):
    model = FeatureMimicking(detector, MIMIC)
    outputs = detector.training_outputs(*batch)
    with tf.GradientTape() as tape:
        loss = model.mimic(detector.training_outputs(*batch)).losses["mimic_loss"]
    mask_head = [variable.value for variable in detector.mask_head.trainable_variables]
    assert tape.gradient(loss, mask_head) == [None] * len(mask_head)
    model.compile(keras.optimizers.SGD(1e-3))
    history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0).history
    assert set(outputs.losses) | {"mimic_loss", "rcnn_class_loss", "regularization_loss", "loss"} == set(history)
    assert history["mimic_loss"][0] > 0


def test_a_mask_rcnn_survives_saving_and_loading(detector, batch, tmp_path):
    detector.save(tmp_path / "detector.keras")
    loaded = keras.saving.load_model(tmp_path / "detector.keras")
    assert type(loaded) is MaskRCNN
    for name, value in detector(batch[0]).items():
        np.testing.assert_allclose(loaded(batch[0])[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_masks_and_their_loss_are_float32_in_half_precision_too(batch, policy):
    keras.config.set_dtype_policy(policy)
    try:
        detector = build_detector("fpn")
        loss = detector.compute_losses(*batch)["mask_loss"]
        masks = detector(batch[0])["masks"]
    finally:
        keras.config.set_dtype_policy("float32")
    assert loss.dtype == masks.dtype == tf.float32
    assert np.isfinite(loss)


def test_the_configuration_decides_between_the_detectors():
    assert type(tiny_config().build(CATEGORY_IDS)) is FasterRCNN
    assert type(tiny_config(mask_head=MASK_HEAD).build(CATEGORY_IDS)) is MaskRCNN
    with pytest.raises(ValueError, match="A FasterRCNN has no mask head, and the configuration describes one"):
        FasterRCNN.from_preset("mask_rcnn_small_dcnv2", num_classes=3)
    with pytest.raises(ValueError, match="A MaskRCNN has a mask head, and the configuration describes none"):
        MaskRCNN.from_preset("faster_rcnn_small_dcnv2", num_classes=3)


def test_an_object_whose_mask_is_not_known_does_not_teach_the_mask_head(detector, batch):
    inputs, targets = batch
    nothing = {**targets, "masks": tf.zeros_like(targets["masks"])}
    with tf.GradientTape() as tape:
        losses = detector.compute_losses(inputs, nothing)
    assert float(losses["mask_loss"]) == 0.0
    assert float(losses["box_loss"]) > 0.0
    gradients = tape.gradient(losses["mask_loss"], detector.mask_head.trainable_variables)
    assert all(gradient is None or not np.any(gradient) for gradient in gradients)
    # Of the two images only one has masks: the loss is that of its objects, not half of it.
    masks = targets["masks"].numpy()
    masks[1] = 0
    assert 0.5 < float(detector.compute_losses(inputs, {**targets, "masks": tf.constant(masks)})["mask_loss"]) < 0.9


@pytest.mark.parametrize(("canonical_size", "level"), [(224.0, 0), (56.0, 1), (28.0, 2)])
def test_both_heads_pool_from_the_level_that_the_canonical_size_says(canonical_size, level):
    plain = {"mask_head": {**MASK_HEAD, "pooling": "none"}, "box_head.pooling": "none"}
    detector = build_detector("fpn", **plain, **{"neck.canonical_size": canonical_size})
    levels = [tf.fill([1, 12, 16, detector.neck.channels["roi"]], float(number)) for number in range(3)]
    box, image = tf.constant([[10.0, 10.0, 66.0, 66.0]]), tf.constant([0])
    for head in (detector.box_head, detector.mask_head):
        np.testing.assert_allclose(head.pool(levels, box, image), level, atol=1e-6)
