"""Sizes so small that measuring them takes milliseconds."""

import dataclasses

import pytest

from tf_dcnv2.benchmark.conv_case import ConvCase
from tf_dcnv2.benchmark.sizes import QUICK, Sizes


@pytest.fixture
def sizes() -> Sizes:
    case = ConvCase(4, 5, 7)
    return dataclasses.replace(QUICK, conv=(case,), pixels=(case,), channels=(case,), threads=case)


@pytest.fixture
def log():
    """Says nothing."""
    return lambda topic, text: None
