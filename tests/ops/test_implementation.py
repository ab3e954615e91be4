"""Which implementation runs: auto, native, composite, and the portable scope."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from tf_dcnv2.ops import deform_conv2d, deform_roi_pool, implementation, native, portable_ops


def convolve(x, implementation="auto"):
    return deform_conv2d(x, tf.ones([1, 1, 2, 2]), tf.zeros([1, 3, 3, 2]), implementation=implementation)


def pool(x, implementation="auto"):
    box = tf.constant([[0.0, 0.0, 3.0, 3.0]])
    return deform_roi_pool(x, box, [0], output_size=2, spatial_scale=1.0, implementation=implementation)


@pytest.fixture(params=[convolve, pool])
def operator(request):
    return request.param


def op_types(operator, implementation="auto"):
    """Types of the nodes in the graph of `operator` and its gradient."""

    @tf.function
    def trace(x):
        return tf.gradients(operator(x, implementation), x)

    return {op.type for op in trace.get_concrete_function(tf.TensorSpec([1, 3, 3, 2])).graph.get_operations()}


def custom(types):
    return {op_type for op_type in types if op_type.startswith("Dcnv2>")}


def test_auto_is_native_where_the_library_is(operator, native_ops):
    assert len(custom(op_types(operator))) == 2


@pytest.fixture
def missing_library(monkeypatch):
    def load():
        raise native.NativeOpsUnavailable("not built")

    monkeypatch.setattr(native, "load", load)
    implementation._warn_of_composite.cache_clear()
    yield
    implementation._warn_of_composite.cache_clear()


def test_auto_is_composite_without_the_library_and_says_so_once(operator, missing_library):
    with pytest.warns(RuntimeWarning, match="not built Until then every operator is computed by TensorFlow's own ops"):
        assert not custom(op_types(operator))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator(tf.ones([1, 3, 3, 2]))


def test_who_asks_for_plain_tensorflow_is_not_warned(operator, missing_library):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        operator(tf.ones([1, 3, 3, 2]), "composite")
        with portable_ops():
            operator(tf.ones([1, 3, 3, 2]))


def test_native_without_the_library_says_so(operator, missing_library):
    with pytest.raises(native.NativeOpsUnavailable, match="not built"):
        operator(tf.ones([1, 3, 3, 2]), "native")


@pytest.mark.parametrize("implementation", ["auto", "native"])
def test_portable_scope_has_no_custom_ops_and_ends(operator, implementation, native_ops):
    with portable_ops():
        assert not custom(op_types(operator, implementation))
    assert custom(op_types(operator, implementation))


def test_auto_compiles_under_xla(operator):
    x = tf.random.stateless_normal([1, 3, 3, 2], [1, 2])
    compiled = tf.function(operator, jit_compile=True)(x)
    tf.debugging.assert_near(compiled, operator(x))


def test_native_under_xla_is_refused_with_a_way_out(operator):
    with pytest.raises(ValueError, match='implementation="native" cannot be compiled by XLA.*composite'):
        tf.function(lambda x: operator(x, "native"), jit_compile=True)(tf.ones([1, 3, 3, 2]))


@pytest.mark.parametrize("padding", ["same", "valid", 1])
@pytest.mark.parametrize("strides, dilation_rate", [(2, 1), ((3, 2), 2)])
def test_portable_graphs_divide_no_negative_integers_which_onnx_rounds_differently(padding, strides, dilation_rate):
    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 2]), tf.TensorSpec([None, None, None, 18])])
    def run(x, offset):
        y = deform_conv2d(
            *(x, tf.ones([3, 3, 2, 2]), offset),
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            implementation="composite",
        )
        boxes = tf.constant([[-9.0, -9.0, 30.0, 7.0]])
        return y, deform_roi_pool([x, y], boxes, [0], spatial_scale=[1.0, 0.5], implementation="composite")

    x = tf.ones([1, 9, 11, 2])
    explicit = padding.upper() if isinstance(padding, str) else [[0, 0], [1, 1], [1, 1], [0, 0]]
    size = tf.nn.conv2d(x, tf.ones([3, 3, 2, 1]), strides, explicit, dilations=dilation_rate).shape[1:3]
    graph = run.get_concrete_function().graph
    divisions = [op for op in graph.get_operations() if op.type in ("FloorDiv", "FloorMod")]
    assert divisions
    with tf.compat.v1.Session(graph=graph) as session:
        fed = dict(
            zip([tensor.name for tensor in graph.inputs], [np.ones(x.shape), np.zeros([1, *size, 18])], strict=True)
        )
        operands = session.run([list(op.inputs) for op in divisions], fed)
    assert all(np.all(operand >= 0) for operand in tf.nest.flatten(operands))
