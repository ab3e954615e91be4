"""Sizes beyond 2^31: counted in 64 bits, or refused with a message."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d, deform_roi_pool


def convolution_shape(x, kernel, offset, implementation):
    """The static shape of a convolution of tensors that are too large to exist."""
    specs = [tf.TensorSpec(shape) for shape in (x, kernel, offset)]
    graph = tf.function(lambda *tensors: deform_conv2d(*tensors, implementation=implementation))
    return tuple(graph.get_concrete_function(*specs).output_shapes)


def pooling_shape(features, rois, implementation):
    specs = [tf.TensorSpec(features), tf.TensorSpec([rois, 4]), tf.TensorSpec([rois], tf.int32)]
    graph = tf.function(lambda *tensors: deform_roi_pool(*tensors, spatial_scale=1.0, implementation=implementation))
    return tuple(graph.get_concrete_function(*specs).output_shapes)


def test_shapes_of_more_than_2_to_the_31_elements_are_inferred(native_ops):
    shape = convolution_shape([2**20, 4096, 4096, 8], [3, 3, 8, 4], [2**20, 4096, 4096, 18], "native")
    assert shape == (2**20, 4096, 4096, 4)
    assert pooling_shape([2**20, 4096, 4096, 8], 2**25, "native") == (2**25, 7, 7, 8)


def test_the_raw_ops_infer_shapes_in_64_bits(native_ops):
    from tf_dcnv2.ops import native

    @tf.function(input_signature=[tf.TensorSpec(shape) for shape in ([1, 1, 1, 4], [1, 1, 4, 4], [1, None, None, 2])])
    def graph(x, kernel, offset):
        return native.load().dcnv2_deform_conv2d(
            x,
            kernel,
            offset,
            tf.zeros([0]),
            use_mask=False,
            strides=[1, 1],
            padding="EXPLICIT",
            explicit_paddings=[2**31 - 1] * 4,
            dilations=[1, 1],
            deformable_groups=1,
        )

    # No tensor has that many rows, but the sum does not wrap around either.
    assert graph.get_concrete_function().output_shapes == [1, 2**32 - 1, 2**32 - 1, 4]


# Without images there is nothing to allocate.
@pytest.mark.parametrize("size", [(2**16, 2**16), (2**25, 1), (1, 2**25)])
def test_maps_that_the_custom_ops_cannot_index_are_refused(native_ops, size):
    x, offset = tf.zeros([0, *size, 1]), tf.zeros([0, *size, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"one image of x has a side of more than 2\^24.*x.shape="):
        deform_conv2d(x, tf.zeros([1, 1, 1, 1]), offset, implementation="native")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"features\[0\] has a side of more than 2\^24.*shape="):
        deform_roi_pool(x, tf.zeros([0, 4]), np.zeros(0, int), spatial_scale=1.0, implementation="native")


@pytest.mark.parametrize("shape", [[2**10, 2**11, 2**10, 1], [0, 2**25, 1, 1]])
def test_maps_that_the_composites_cannot_index_are_refused(shape):
    message = 'too large for the composite implementation.*Use implementation="native". Received'
    with pytest.raises(ValueError, match=message):
        convolution_shape(shape, [1, 1, 1, 1], [*shape[:3], 2], "composite")
    with pytest.raises(ValueError, match=message):
        pooling_shape(shape, 3, "composite")


def test_maps_that_turn_out_too_large_for_the_composites_are_refused():
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 1])])
    def convolve(x):
        offset = tf.zeros(tf.concat([tf.shape(x)[:3], [2]], axis=0))
        return deform_conv2d(x, tf.zeros([1, 1, 1, 1]), offset, implementation="composite")

    with pytest.raises(tf.errors.InvalidArgumentError, match="x is too large for the composite implementation"):
        convolve(tf.zeros([0, 2**25, 1, 1]))


def test_too_many_samples_for_the_composite_are_refused():
    # A box over the whole map takes a sample a pixel in each of a million bins.
    with pytest.raises(tf.errors.InvalidArgumentError, match="boxes ask for too many samples"):
        deform_roi_pool(
            tf.zeros([1, 60, 60, 1]),
            [[0.0, 0.0, 1e9, 1e9]],
            [0],
            output_size=1024,
            sampling_ratio=0,
            spatial_scale=1.0,
            implementation="composite",
        )


# 2^31 + 2^26 elements, of which the last image's are beyond 2^31. They take 4.4 GB, and their gradient as much.
LARGE = (33, 8192, 8192, 1)


def count_nonzero(images):
    """One image at a time, to save memory."""
    return sum(np.count_nonzero(image) for image in images)


def available_memory():
    """Bytes that can be had, of which the system may use some to cache files until they are wanted."""
    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return 1024 * int(meminfo["MemAvailable"].split()[0])


@pytest.fixture(scope="module")
def large_map():
    """A map that is zero but for the last pixels of its last image."""
    available = available_memory()
    if available < 19e9:
        pytest.skip(f"needs 19 GB of free memory, there are {available / 1e9:.0f}")
    array = np.zeros(LARGE, np.float16)
    array[-1, -2:, -2:, 0] = [[1, 2], [3, 4]]
    return tf.constant(array)


@pytest.mark.slow
def test_a_map_of_more_than_2_to_the_31_elements_is_convolved(native_ops, large_map):
    # One output an image, at its last pixel but one, moved by half a pixel both ways.
    kernel, offset = tf.ones([1, 1, 1, 1], tf.float16), tf.fill([33, 1, 1, 2], 8190.5)
    with tf.GradientTape() as tape:
        tape.watch([large_map, offset])
        y = deform_conv2d(large_map, kernel, offset, strides=8192, implementation="native")
    dx, doffset = tape.gradient(y, [large_map, offset])

    assert y.numpy().ravel().tolist() == [0] * 32 + [2.5]
    assert dx[-1, -2:, -2:, 0].numpy().tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert dx[0, -2:, -2:, 0].numpy().tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert doffset[-1].numpy().ravel().tolist() == [2, 1]
    assert count_nonzero(dx) == 33 * 4


@pytest.mark.slow
def test_rois_are_pooled_from_a_map_of_more_than_2_to_the_31_elements(native_ops, large_map):
    box = [[8190.5, 8190.5, 8191.5, 8191.5]]
    with tf.GradientTape() as tape:
        tape.watch(large_map)
        pooled = deform_roi_pool(
            large_map, box, [32], output_size=1, sampling_ratio=1, spatial_scale=1.0, implementation="native"
        )
    dx = tape.gradient(pooled, large_map)

    assert pooled.numpy().item() == 2.5
    assert dx[-1, -2:, -2:, 0].numpy().tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert count_nonzero(dx) == 4
