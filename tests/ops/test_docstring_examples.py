"""The examples in the operators' documentation."""

import doctest
import inspect

import pytest
import tensorflow as tf

from tf_dcnv2 import ops


@pytest.mark.parametrize("function", [ops.deform_conv2d, ops.deform_roi_pool])
def test_examples_print_what_they_say(function, native_ops):
    (example,) = doctest.DocTestFinder(recurse=False).find(
        inspect.unwrap(function), globs={"tf": tf, function.__name__: function}
    )
    assert doctest.DocTestRunner().run(example).failed == 0 < len(example.examples)
