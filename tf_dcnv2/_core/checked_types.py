"""Annotations that say what a value must be, and the check of a value against one.

    samples: PositiveInt = 256
    score_threshold: Annotated[float, Range(0, below=1)] = 0.05
    levels: tuple[Annotated[int, Range(2, 6)], ...] = (2, 3, 4, 5, 6)

`Settings` checks its fields this way, and `checked_arguments` the arguments of a function.
"""

import contextlib
import dataclasses
import functools
import inspect
import math
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

# check(value, name) returns the value in the annotated type, or raises a ValueError that begins with the name.
Check = Callable[[Any, str], Any]

P = ParamSpec("P")
R = TypeVar("R")


class UnsupportedType(TypeError):
    """There is no check for an annotation."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number. `minimum` and `maximum` are allowed themselves, `above` and `below` are not."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = dataclasses.field(default=None, kw_only=True)
    below: float | None = dataclasses.field(default=None, kw_only=True)

    def allows(self, number: float) -> bool:
        return (
            (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        lowest = f"[{self.minimum}" if self.above is None else f"({self.above}"
        highest = f"{self.maximum}]" if self.below is None else f"{self.below})"
        if "None" not in lowest + highest:
            return f"in {lowest}, {highest}"
        if self.minimum is not None:
            return "non-negative" if self.minimum == 0 else f"at least {self.minimum}"
        if self.above is not None:
            return "positive" if self.above == 0 else f"greater than {self.above}"
        return f"at most {self.maximum}" if self.below is None else f"less than {self.below}"


@dataclasses.dataclass(frozen=True)
class MultipleOf:
    """A whole number that `factor` divides."""

    factor: int

    def allows(self, number: int) -> bool:
        return number % self.factor == 0

    def __str__(self) -> str:
        return f"a multiple of {self.factor}"


@dataclasses.dataclass(frozen=True)
class MinLength:
    """A list of at least so many values."""

    count: int

    def allows(self, values: Sequence) -> bool:
        return len(values) >= self.count

    def __str__(self) -> str:
        return f"a list of at least {self.count} value{'s' if self.count > 1 else ''}"


PositiveInt = Annotated[int, Range(1)]
NonNegativeInt = Annotated[int, Range(0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(0)]


def require(condition: bool, name: str, expected: str, received: Any) -> None:
    """Raises the ValueError that every wrong setting gets."""
    if not condition:
        raise ValueError(f"{name} must be {expected}. Received: {received!r}")


@functools.cache
def check_for(annotation: Any) -> Check:
    """The check of an annotation: bool, int, float, str, a dataclass, Any, and what is built of these.

    Values arrive as YAML, JSON and the command line give them. A list becomes a tuple, an int a float, text that
    stands for a number a float (YAML takes `1e-5`, without a decimal point, for text), and a path text. A bool is no
    number, and a float has to be finite.

    Args:
        annotation: may also be `Literal[...]`, `tuple[...]` of fixed or any length, `Mapping[...]`, `... | None`, and
            `Annotated` with a `Range`, `MultipleOf` or `MinLength`.

    Raises:
        UnsupportedType: the annotation is something else.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _CHECKS:
        return _CHECKS[annotation]
    if origin is Annotated:
        return _constrained(check_for(arguments[0]), arguments[1:])
    if origin in (typing.Union, UnionType) and len(arguments) == 2 and NoneType in arguments:
        return _optional(next(check_for(kind) for kind in arguments if kind is not NoneType))
    if origin is Literal:
        return _choice(arguments)
    if origin is tuple:
        return _list(check_for(arguments[0])) if arguments[-1] is Ellipsis else _fixed_list(*map(check_for, arguments))
    if origin is Mapping:
        return _mapping(*map(check_for, arguments))
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return _instance(annotation)
    raise UnsupportedType(f"There is no check for settings of type {annotation}.")


def checked_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """A decorator that checks the arguments of a function, those whose annotations have a check."""
    checks: dict[str, Check] = {}
    for name, annotation in typing.get_type_hints(function, include_extras=True).items():
        with contextlib.suppress(UnsupportedType):
            checks[name] = check_for(annotation)
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in checks:
                bound.arguments[name] = checks[name](value, name)
        return function(*bound.args, **bound.kwargs)

    return checked


def _anything(value: Any, name: str) -> Any:
    return value


def _truth(value: Any, name: str) -> bool:
    require(isinstance(value, bool), name, "True or False", value)
    return value


def _whole_number(value: Any, name: str) -> int:
    require(isinstance(value, Integral) and not isinstance(value, bool), name, "a whole number", value)
    return int(value)


def _real_number(value: Any, name: str) -> float:
    number = math.nan
    if isinstance(value, Real | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
    require(math.isfinite(number), name, "a finite number", value)
    return number


def _text(value: Any, name: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    require(isinstance(text, str), name, "text", value)
    return text


_CHECKS: dict[Any, Check] = {
    bool: _truth,
    int: _whole_number,
    float: _real_number,
    str: _text,
    Any: _anything,
}


def _constrained(check: Check, constraints: Sequence[Range | MultipleOf | MinLength]) -> Check:
    def checked(value: Any, name: str) -> Any:
        accepted = check(value, name)
        for constraint in constraints:
            require(constraint.allows(accepted), name, str(constraint), value)
        return accepted

    return checked


def _optional(check: Check) -> Check:
    return lambda value, name: None if value is None else check(value, name)


def _choice(choices: tuple[Any, ...]) -> Check:
    def checked(value: Any, name: str) -> Any:
        # The type counts too: 1 and 1.0 and True are equal.
        is_known = any(type(value) is type(choice) and value == choice for choice in choices)
        require(is_known, name, f"one of {choices}", value)
        return value

    return checked


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _list(check: Check) -> Check:
    def checked(values: Any, name: str) -> tuple:
        require(_is_list(values), name, "a list", values)
        return tuple(check(value, f"{name}[{index}]") for index, value in enumerate(values))

    return checked


def _fixed_list(*checks: Check) -> Check:
    def checked(values: Any, name: str) -> tuple:
        require(_is_list(values) and len(values) == len(checks), name, f"a list of {len(checks)} values", values)
        pairs = zip(checks, values, strict=True)
        return tuple(check(value, f"{name}[{index}]") for index, (check, value) in enumerate(pairs))

    return checked


def _mapping(check_key: Check, check_value: Check) -> Check:
    def checked(values: Any, name: str) -> dict:
        require(isinstance(values, Mapping), name, "a mapping", values)
        return {
            check_key(key, f"A key of {name}"): check_value(value, f"{name}[{key!r}]") for key, value in values.items()
        }

    return checked


def _instance(kind: type) -> Check:
    def checked(value: Any, name: str) -> Any:
        require(isinstance(value, kind), name, f"a {kind.__name__}", value)
        return value

    return checked
