"""Sizes so small that measuring them takes milliseconds."""

import dataclasses

import pytest

from benchmarks.cases import ConvCase
from benchmarks.cpu.sizes import QUICK, Sizes


@pytest.fixture
def sizes() -> Sizes:
    case = ConvCase(4, 5, 7)
    return dataclasses.replace(QUICK, conv=(case,), pixels=(case,), channels=(case,), threads=case)


@pytest.fixture
def log():
    """Says nothing."""
    return lambda topic, text: None
