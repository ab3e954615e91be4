"""The base of configurations and options: frozen dataclasses that check themselves."""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from tf_dcnv2._core.checked_types import check_for, require
from tf_dcnv2._core.misspelt_names import did_you_mean

SettingsT = TypeVar("SettingsT", bound="Settings")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Plain data whose types and ranges are checked from the annotations; see `check_for` for what these may be.

    Settings round-trip through nested dictionaries of YAML types. A field that is a `Settings` itself is a section. A
    subclass checks in `__post_init__` only what concerns several fields.

    Raises:
        ValueError: a value is not what its annotation says; the message names the field.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Smoothing(Settings):
        ...     sigma: PositiveFloat = 1.0
        ...     mode: Literal["reflect", "constant"] = "reflect"
        >>> Smoothing(sigma=-1)
        ValueError: Smoothing.sigma must be positive. Received: -1.0
    """

    def __post_init__(self) -> None:
        for name, annotation in self._annotations().items():
            value = check_for(annotation)(getattr(self, name), f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls: type[SettingsT], values: Mapping[str, Any]) -> SettingsT:
        """Builds settings from nested dictionaries; keys left out keep their defaults.

        Raises:
            ValueError: a key is unknown or missing, or a value is wrong; the message names it.
        """
        return cls._from_dict(values, "")

    def to_dict(self) -> dict[str, Any]:
        """The settings as nested dictionaries of plain YAML types."""
        return _plain(dataclasses.asdict(self))

    def replace(self: SettingsT, **overrides: Any) -> SettingsT:
        """Returns a changed copy.

        Args:
            **overrides: values of fields, or of the fields of a section by their dotted path, such as
                `**{"box_head.samples": 128}`. A mapping changes those fields of a section that it has.

        Raises:
            ValueError: a key is unknown, or a value is wrong; the message names it.
        """
        values = self.to_dict()
        for path, value in overrides.items():
            *parents, leaf = path.split(".")
            kind: type[Settings] = type(self)
            node = values
            for depth, parent in enumerate(parents):
                sections = kind._sections()
                if not isinstance(node.get(parent), dict) or parent not in sections:
                    section = ".".join(parents[: depth + 1])
                    near = did_you_mean([parent], sections, ".".join([*parents[:depth], ""]))
                    raise ValueError(f"No configuration section named {section!r} (in {path!r}).{near}")
                kind, node = sections[parent], node[parent]
            if leaf in kind._sections():
                value = value.to_dict() if isinstance(value, Settings) else value
                if isinstance(value, Mapping):
                    value = {**(node[leaf] or {}), **value}
            node[leaf] = value
        return self.from_dict(values)

    def _require(self, condition: bool, name: str, expected: str) -> None:
        require(condition, f"{type(self).__name__}.{name}", expected, getattr(self, name))

    @classmethod
    def _from_dict(cls: type[SettingsT], values: Any, path: str) -> SettingsT:
        """`path` is where the values are, `"box_head."`, for messages to name."""
        require(isinstance(values, Mapping), path.rstrip(".") or cls.__name__, "a mapping of settings", values)
        known = cls._annotations()
        for name in values:
            if name not in known:
                near = did_you_mean([name], known, path)
                raise ValueError(
                    f"Unknown setting {f'{path}{name}'!r}.{near} Known: {', '.join(path + name for name in known)}"
                )
        if missing := [path + name for name in cls._required() if name not in values]:
            raise ValueError(f"{cls.__name__} needs {' and '.join(missing)}.")
        arguments = dict(values)
        for name, section in cls._sections().items():
            value = values.get(name)
            if not (value is None or isinstance(value, section)):
                arguments[name] = section._from_dict(value, f"{path}{name}.")
        return cls(**arguments)

    @classmethod
    @functools.cache
    def _annotations(cls) -> dict[str, Any]:
        """The type of each field."""
        hints = typing.get_type_hints(cls, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

    @classmethod
    @functools.cache
    def _sections(cls) -> dict[str, "type[Settings]"]:
        """The class of each field that is a section, `Section` or `Section | None`."""
        sections = {}
        for name, annotation in cls._annotations().items():
            for candidate in (annotation, *typing.get_args(annotation)):
                if isinstance(candidate, type) and issubclass(candidate, Settings):
                    sections[name] = candidate
        return sections

    @classmethod
    def _required(cls) -> list[str]:
        """The fields without a default."""
        missing = dataclasses.MISSING
        return [field.name for field in dataclasses.fields(cls) if field.default is field.default_factory is missing]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
