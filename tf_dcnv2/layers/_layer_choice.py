"""Which layers of a Keras model a user means."""

import re
from collections.abc import Callable, Collection, Iterator

import keras

from tf_dcnv2._core.misspelt_names import did_you_mean
from tf_dcnv2.layers.grouped_conv2d import GroupedConv2D

Where = str | Collection[str] | re.Pattern[str] | Callable[[keras.layers.Conv2D], bool] | None


def is_graph(operation: object) -> bool:
    """Whether this is a functional or Sequential model. Keras does not export the class of functional ones."""
    return isinstance(operation, keras.Sequential) or (
        isinstance(operation, keras.Model) and hasattr(operation, "operations")
    )


def spatial_convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    """The convolutions of a functional or Sequential model that look beyond one cell: those larger than 1x1.

    They are what `make_deformable` chooses by default: `Conv2D` and `GroupedConv2D` layers, those of nested models
    included, each once. There may be none.

    Example:
        >>> model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3), keras.layers.Conv2D(8, 1)])
        >>> [layer.kernel_size for layer in tf_dcnv2.layers.spatial_convolutions(model)]
        [(3, 3)]
    """
    return [layer for layer in dict.fromkeys(_layers(model)) if _is_conv2d(layer) and max(layer.kernel_size) > 1]


def choose_convolutions(model: keras.Model, where: Where) -> list[keras.layers.Conv2D]:
    """The `Conv2D` layers of a functional or Sequential model that `where` chooses, see `make_deformable`.

    Raises:
        ValueError: `where` chooses nothing, or has a name that no `Conv2D` has.
    """
    layers = list(dict.fromkeys(_layers(model)))
    convolutions = [layer for layer in layers if _is_conv2d(layer)]
    if where is None:
        chosen = spatial_convolutions(model)
    elif isinstance(where, re.Pattern):
        chosen = [layer for layer in convolutions if where.search(layer.name)]
    elif callable(where):
        chosen = [layer for layer in convolutions if where(layer)]
    else:
        names = _names(where)
        _require_conv2d_names(names, layers, model.name)
        chosen = [layer for layer in convolutions if layer.name in names]
    if not chosen:
        rule = "with a kernel larger than 1x1" if where is None else f"that where={where!r} chooses"
        available = ", ".join(layer.name for layer in convolutions) or "none"
        raise ValueError(f"{model.name} has no Conv2D {rule}. Its Conv2D layers: {available}.")
    return chosen


def _layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """All layers, those of nested models included. A shared one comes several times."""
    for layer in model.layers:
        yield layer
        if is_graph(layer):
            yield from _layers(layer)


def _is_conv2d(layer: keras.layers.Layer) -> bool:
    # Other subclasses may compute something else.
    return type(layer) in (keras.layers.Conv2D, GroupedConv2D)


def _names(where: object) -> list[str]:
    names = [where] if isinstance(where, str) else where
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            "where must be None, names of layers, a compiled regular expression or a function of a layer. "
            f"Received: where={where!r}."
        )
    return list(dict.fromkeys(names))


def _require_conv2d_names(names: list[str], layers: list[keras.layers.Layer], model_name: str) -> None:
    convolutions = [layer.name for layer in layers if _is_conv2d(layer)]
    classes = {layer.name: type(layer).__name__ for layer in layers}
    if wrong := [name for name in names if name not in convolutions]:
        kinds = [f"a {classes[name]}" if name in classes else "no layer" for name in wrong]
        received = ", ".join(f"{name!r} ({kind})" for name, kind in zip(wrong, kinds, strict=True))
        raise ValueError(
            f"where must name Conv2D layers of {model_name}. Received: {received}.{did_you_mean(wrong, convolutions)}"
        )
