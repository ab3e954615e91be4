import keras
import numpy as np
import pytest

from tf_dcnv2.analysis import ConvNode, RoINode, error_bounded_saliency


def patch_model(sequential, size, patch):
    """A model whose one node sums up a patch of the image, channel by channel and in two other mixtures."""
    y1, x1, y2, x2 = patch
    kernel = np.zeros([*size, 3, 4], np.float32)
    kernel[y1:y2, x1:x2] = np.random.default_rng(0).standard_normal([y2 - y1, x2 - x1, 3, 4])
    model = sequential(keras.layers.Conv2D(4, size, use_bias=False, name="conv"), channels=3)
    model.layers[0].set_weights([kernel])
    return model


@pytest.fixture
def blocks(rng) -> np.ndarray:
    """An image of 8 x 8 squares, which super-pixels follow."""
    colors = rng.uniform(50, 250, [8, 8, 3])
    return colors.repeat(8, axis=0).repeat(8, axis=1).astype(np.float32)


def test_the_region_is_the_patch_that_matters(sequential, blocks):
    patch = (24, 24, 40, 40)
    model = patch_model(sequential, (64, 64), patch)
    region = error_bounded_saliency(model, blocks, ConvNode("conv", 0, 0), bound=0.02, steps=16, superpixels=40)
    inside = np.zeros([64, 64], bool)
    inside[24:40, 24:40] = True
    assert region.error < region.bound == 0.02
    # The rectangle is centred on the node, in the middle of the image; super-pixels outside of the patch are gone.
    touched = np.unique(region.superpixels[inside])
    assert not region.mask[~np.isin(region.superpixels, touched)].any()
    assert (region.mask & inside).sum() > 0.5 * inside.sum()


def test_no_super_pixel_can_go(sequential, blocks):
    model = patch_model(sequential, (64, 64), (10, 16, 60, 56))
    region = error_bounded_saliency(model, blocks, ConvNode("conv", 0, 0), steps=16, superpixels=30)

    def error(mask):
        whole, part = (model(image[None]).numpy().ravel() for image in (blocks, blocks * mask[..., None]))
        return 1 - whole @ part / np.linalg.norm(whole) / np.linalg.norm(part)

    np.testing.assert_allclose(region.error, error(region.mask), atol=1e-5)
    assert region.error < region.bound
    labels = np.unique(region.superpixels[region.mask])
    assert 1 < len(labels) < region.superpixels.max()
    for label in labels:
        assert error(region.mask & (region.superpixels != label)) >= region.bound
    np.testing.assert_array_equal(region.mask, np.isin(region.superpixels, labels))


def test_the_error_of_the_empty_image_tells_regions_that_say_little(sequential, blocks):
    model = patch_model(sequential, (64, 64), (24, 24, 40, 40))
    without_image = model(np.zeros_like(blocks)[None]).numpy().ravel()
    assert not without_image.any()
    assert error_bounded_saliency(model, blocks, ConvNode("conv", 0, 0)).empty_error == 1.0
    # A bias far greater than what the image brings gives all images nearly the same direction.
    biased = sequential(keras.layers.Conv2D(4, (64, 64), name="conv"), channels=3)
    whole = model(blocks[None]).numpy().ravel()
    bias = 10 * np.abs(whole).max() * np.float32([1, 2, 3, 4])
    biased.layers[0].set_weights([model.layers[0].get_weights()[0], bias])
    region = error_bounded_saliency(biased, blocks, ConvNode("conv", 0, 0))
    cosine = bias @ (bias + whole) / np.linalg.norm(bias) / np.linalg.norm(bias + whole)
    assert region.empty_error == pytest.approx(1 - cosine, abs=1e-5) and region.empty_error < region.bound


def test_the_rectangle_is_the_first_step_that_keeps_the_bound(sequential, blocks):
    model = patch_model(sequential, (64, 64), (0, 0, 64, 64))
    region = error_bounded_saliency(model, blocks, ConvNode("conv", 0, 0), steps=8, superpixels=4)
    y1, x1, y2, x2 = region.rectangle
    assert (region.superpixels > 0).sum() == (y2 - y1) * (x2 - x1)
    step = (y2 - y1) * (x2 - x1) / 64**2 * 8
    assert abs(step - round(step)) < 0.3
    assert abs((y1 + y2) / 2 - 31.5) <= 1 and abs((x1 + x2) / 2 - 31.5) <= 1


def test_a_rectangle_at_the_border_grows_to_the_other_side(image, detectors):
    region = error_bounded_saliency(detectors["v2"], image, ConvNode("C5", 0, 0), steps=4, superpixels=6)
    y1, x1, y2, x2 = region.rectangle
    assert (y1, x1) == (0, 0)
    share = (y2 - y1) * (x2 - x1) / (64 * 96)
    assert any(abs(share - step / 4) < 0.05 for step in (1, 2, 3, 4))


def test_a_roi_of_a_detector(image, detectors):
    calls = []
    region = error_bounded_saliency(
        detectors["v2"],
        image,
        RoINode((10.0, 20.0, 40.0, 60.0)),
        steps=6,
        superpixels=8,
        progress=lambda step, evaluations: calls.append((step, evaluations)),
    )
    assert region.mask.shape == (64, 96) and 0 <= region.error < 0.1
    assert [count for _, count in calls] == sorted(count for _, count in calls)
    assert calls[0] == ("rectangle", 1) and calls[-1] == ("super-pixels", region.evaluations)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bound": 0.0}, "bound must be between 0 and 1. Received: bound=0.0"),
        ({"steps": 0}, "steps must be an integer of at least 1"),
        ({"superpixels": 2.5}, "superpixels must be an integer"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
    ids=str,
)
def test_arguments_out_of_range(detectors, image, options, message):
    with pytest.raises(ValueError, match=message):
        error_bounded_saliency(detectors["v2"], image, ConvNode("C5", 0, 0), **options)


def test_responses_without_a_direction(sequential, detectors, image):
    with pytest.raises(ValueError, match="must be a vector other than zero.* It is a single number"):
        error_bounded_saliency(detectors["v2"], image, ConvNode("C5", 0, 0, channel=1))
    model = sequential(keras.layers.Conv2D(2, 3, kernel_initializer="zeros", name="conv"), channels=3)
    with pytest.raises(ValueError, match="It is zero"):
        error_bounded_saliency(model, image, ConvNode("conv", 0, 0))
