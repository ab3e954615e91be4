"""The examples in the layers' documentation."""

import doctest

import keras
import pytest

import tf_dcnv2


@pytest.mark.parametrize("name", tf_dcnv2.layers.__all__)
def test_examples_print_what_they_say(name):
    (example,) = doctest.DocTestFinder(recurse=False).find(
        getattr(tf_dcnv2.layers, name), name, globs={"tf_dcnv2": tf_dcnv2, "keras": keras}
    )
    assert doctest.DocTestRunner().run(example).failed == 0 < len(example.examples)
