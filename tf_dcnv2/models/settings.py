"""The base of configurations and options: frozen dataclasses that check themselves."""

import dataclasses
import math
from numbers import Integral
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin


@dataclasses.dataclass(frozen=True)
class Settings:
    """Takes values as YAML gives them and checks their types; subclasses check their ranges.

    Lists become tuples, and text that stands for a number becomes one where a real number is expected.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            kinds = get_args(field.type) if isinstance(field.type, UnionType) else (field.type,)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            elif value is None and NoneType in kinds:
                continue
            elif float in kinds:
                object.__setattr__(self, field.name, self._real_number(field.name))
            elif int in kinds:
                self._require(isinstance(value, Integral), field.name, "a whole number")
            elif get_origin(field.type) is Literal:
                self._require(value in get_args(field.type), field.name, f"one of {get_args(field.type)}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested dictionaries of plain YAML types."""
        return _plain(dataclasses.asdict(self))

    def _real_number(self, name: str) -> float:
        value = getattr(self, name)
        try:
            # YAML takes 1e-5, without a decimal point, for a string.
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        self._require(math.isfinite(number), name, "a finite number")
        return number

    def _require(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}.{name} must be {expected}. Received: {getattr(self, name)!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
