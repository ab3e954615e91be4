import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from tf_dcnv2._core.checked_types import (
    MinLength,
    MultipleOf,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Range,
    UnsupportedType,
    check_for,
    checked_arguments,
)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (bool, False, False),
        (int, np.int64(3), 3),
        (float, 3, 3.0),
        (float, "1e-5", 1e-5),
        (float, np.float32(0.5), 0.5),
        (str, "records/train", "records/train"),
        (str, Path("records/train"), "records/train"),
        (Any, [1, "x"], [1, "x"]),
        (int | None, None, None),
        (PositiveInt | None, 1, 1),
        (Literal["v1", "v2"], "v2", "v2"),
        (tuple[int, ...], [], ()),
        (tuple[float, ...], [1, "2.5"], (1.0, 2.5)),
        (tuple[tuple[int, int], ...], [[1, 2], (3, 4)], ((1, 2), (3, 4))),
        (Mapping[str, Any], {"a.b": [1]}, {"a.b": [1]}),
        (Annotated[float, Range(0, 1)], 0, 0.0),
        (Annotated[float, Range(0, 1)], 1, 1.0),
        (Annotated[int, Range(1), MultipleOf(32)], 64, 64),
    ],
)
def test_a_value_comes_in_the_annotated_type(annotation, value, expected):
    found = check_for(annotation)(value, "name")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (bool, 1, "name must be True or False. Received: 1"),
        (bool, "no", "name must be True or False. Received: 'no'"),
        (int, True, "name must be a whole number. Received: True"),
        (int, 3.0, "name must be a whole number. Received: 3.0"),
        (int, "3", "name must be a whole number. Received: '3'"),
        (int, None, "name must be a whole number. Received: None"),
        (float, False, "name must be a finite number. Received: False"),
        (float, math.nan, "name must be a finite number. Received: nan"),
        (float, "inf", "name must be a finite number. Received: 'inf'"),
        (float, 10**400, "name must be a finite number. Received: 1000"),
        (str, b"x", "name must be text. Received: b'x'"),
        (Literal[1, 2], True, "name must be one of (1, 2). Received: True"),
        (Literal["v1", "v2"], ["v1"], "name must be one of ('v1', 'v2'). Received: ['v1']"),
        (tuple[int, ...], "123", "name must be a list. Received: '123'"),
        (tuple[int, ...], 1, "name must be a list. Received: 1"),
        (tuple[int, ...], [1, 2.5], "name[1] must be a whole number. Received: 2.5"),
        (tuple[int, int], [1, 2, 3], "name must be a list of 2 values. Received: [1, 2, 3]"),
        (tuple[tuple[int, int], ...], [[1, 2], [3, "x"]], "name[1][1] must be a whole number. Received: 'x'"),
        (Mapping[str, int], [("a", 1)], "name must be a mapping. Received: [('a', 1)]"),
        (Mapping[str, int], {1: 1}, "A key of name must be text. Received: 1"),
        (Mapping[str, int], {"a": 1.5}, "name['a'] must be a whole number. Received: 1.5"),
        (PositiveInt, 0, "name must be at least 1. Received: 0"),
        (PositiveInt | None, 0, "name must be at least 1. Received: 0"),
        (PositiveFloat, 0, "name must be positive. Received: 0"),
        (NonNegativeFloat, "-1e-9", "name must be non-negative. Received: '-1e-9'"),
        (Annotated[float, Range(above=0, maximum=1)], 0, "name must be in (0, 1]. Received: 0"),
        (Annotated[float, Range(0, below=1)], 1, "name must be in [0, 1). Received: 1"),
        (Annotated[float, Range(maximum=2)], 2.1, "name must be at most 2. Received: 2.1"),
        (Annotated[float, Range(below=2)], 2, "name must be less than 2. Received: 2"),
        (Annotated[float, Range(above=2)], 2, "name must be greater than 2. Received: 2"),
        (Annotated[int, MultipleOf(32)], 33, "name must be a multiple of 32. Received: 33"),
        (Annotated[tuple[int, ...], MinLength(1)], [], "name must be a list of at least 1 value. Received: []"),
    ],
)
def test_another_value_is_refused_in_one_wording(annotation, value, message):
    with pytest.raises(ValueError) as raised:
        check_for(annotation)(value, "name")
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("annotation", [int | str, list[int], dict, np.ndarray, "int"])
def test_an_annotation_that_cannot_be_checked_is_not_ignored(annotation):
    with pytest.raises(UnsupportedType, match="There is no check"):
        check_for(annotation)


@checked_arguments
def scale(values: np.ndarray, factor: PositiveFloat, *, sides: tuple[PositiveInt, PositiveInt] = (1, 1)):
    """Scales."""
    return values, factor, sides


def test_arguments_are_checked_and_converted_however_they_are_given():
    assert scale("anything", "2.5", sides=[3, 4]) == ("anything", 2.5, (3, 4))
    assert scale(values=None, factor=1) == (None, 1.0, (1, 1))
    with pytest.raises(ValueError, match=r"^factor must be positive. Received: -1$"):
        scale(None, -1)
    with pytest.raises(ValueError, match=r"^sides\[1\] must be at least 1. Received: 0$"):
        scale(None, 1, sides=(1, 0))
    with pytest.raises(TypeError, match="missing a required argument: 'factor'"):
        scale(None)


def test_a_checked_function_keeps_its_name_and_documentation():
    assert (scale.__name__, scale.__doc__) == ("scale", "Scales.")
