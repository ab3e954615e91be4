"""What the parts of a detector have in common."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import keras

from tf_dcnv2._core.settings import Settings
from tf_dcnv2.layers import DeformableConv2D, ModulatedDeformableConv2D

T = TypeVar("T", bound=Settings)


def take_settings(kind: type[T], config: T | None, arguments: Mapping[str, Any]) -> tuple[T, dict[str, Any]]:
    """The settings of a part, which are given as one object or field by field, and the arguments that are left.

    Args:
        kind: the class of the settings.
        config: an object of it, or None.
        arguments: keyword arguments of the part's constructor, among them perhaps fields of `kind`.

    Raises:
        ValueError: there are both, `config` is something else, or a field is out of its range.
    """
    names = {field.name for field in dataclasses.fields(kind)}
    fields = {name: value for name, value in arguments.items() if name in names}
    rest = {name: value for name, value in arguments.items() if name not in names}
    if config is not None and fields:
        raise ValueError(f"Give either config or its fields. Received: config={config}, and {', '.join(fields)}")
    if config is not None and not isinstance(config, kind):
        raise ValueError(f"config must be a {kind.__name__}. Received: {config!r}")
    return config or kind(**fields), rest


def deformable_convolutions(model: keras.Model | keras.layers.Layer) -> list[keras.layers.Layer]:
    """The deformable convolutions of a model, those of nested models included, in the order of its layers."""
    kinds = (DeformableConv2D, ModulatedDeformableConv2D)
    layers: Iterable[keras.layers.Layer] = model._flatten_layers(include_self=False)
    return [layer for layer in layers if isinstance(layer, kinds)]
