"""Values that an annotation of settings allows, and values that it does not."""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal

from tf_dcnv2._core.checked_types import MinLength, MultipleOf, Range


def valid(annotation: Any) -> Any:
    """Some value that the annotation allows."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _valid_within(arguments[0], arguments[1:])
    if origin in (typing.Union, UnionType):
        return valid(next(kind for kind in arguments if kind is not NoneType))
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        return tuple(valid(kind) for kind in arguments if kind is not Ellipsis)
    if origin is Mapping:
        return {}
    return {bool: True, int: 1, float: 1.0, str: "text", Any: "anything"}.get(annotation) or annotation()


def _valid_within(kind: Any, constraints: tuple) -> Any:
    candidates = [valid(kind)]
    for constraint in constraints:
        if isinstance(constraint, MultipleOf):
            candidates.append(constraint.factor)
        elif isinstance(constraint, Range):
            candidates.append(constraint.minimum if constraint.above is None else constraint.above + 0.5)
    return next(value for value in candidates if all(constraint.allows(value) for constraint in constraints))


def wrong(annotation: Any) -> Iterator[Any]:
    """Values that the annotation does not allow: other types, and just out of range."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        kind = next(kind for kind in arguments if kind is not NoneType)
        yield from (value for value in wrong(kind) if value is not None)
    elif origin is Annotated:
        yield from wrong(arguments[0])
        for constraint in arguments[1:]:
            yield from _outside(constraint)
    elif origin is Literal:
        yield from (None, True, 3, "something else", list(arguments))
    elif origin is tuple:
        yield from (None, 3, "text")
        if arguments[-1] is Ellipsis:
            yield from ([value] for value in wrong(arguments[0]))
        else:
            good = [valid(kind) for kind in arguments]
            yield from ([], good[:-1], [*good, good[-1]])
            for index, kind in enumerate(arguments):
                yield from ([*good[:index], value, *good[index + 1 :]] for value in wrong(kind))
    elif origin is Mapping:
        yield from (None, 3, "text", [1], {3.5: valid(arguments[1])})
    elif annotation in TYPES:
        yield from TYPES[annotation]
    elif dataclasses.is_dataclass(annotation):
        yield from (None, 3, "text", Range())
    elif annotation is not Any:
        raise NotImplementedError(f"Nothing is known to be wrong for {annotation}.")


TYPES = {
    bool: (None, 1, 0.0, "yes", [True]),
    int: (None, True, 1.5, math.nan, "3", [3]),
    float: (None, True, math.nan, math.inf, "many", [1.0], 10**400),
    str: (None, True, 3, b"text", ["text"]),
}


def _outside(constraint: Range | MultipleOf | MinLength) -> Iterator[Any]:
    if isinstance(constraint, Range):
        if constraint.minimum is not None:
            yield constraint.minimum - 1
        if constraint.maximum is not None:
            yield constraint.maximum + 1
        yield from (bound for bound in (constraint.above, constraint.below) if bound is not None)
    elif isinstance(constraint, MultipleOf):
        yield constraint.factor + 1
    else:
        yield [1] * (constraint.count - 1)
