"""Turns convolutions of an existing Keras model into deformable ones."""

from collections.abc import Iterable
from typing import Any

import keras

from tf_dcnv2.layers._layer_choice import Where, choose_convolutions, is_graph
from tf_dcnv2.layers.deformable_conv2d import DeformableConv2D
from tf_dcnv2.layers.modulated_deformable_conv2d import ModulatedDeformableConv2D

LayerClass = type[DeformableConv2D] | type[ModulatedDeformableConv2D]


def make_deformable(
    model: keras.Model,
    where: Where = None,
    *,
    modulated: bool = True,
    mask_scale: float = 2.0,
    deformable_groups: int = 1,
    offset_clip: float | None = None,
    offset_learning_rate_multiplier: float = 0.1,
    implementation: str = "auto",
) -> keras.Model:
    """Copies a functional or Sequential model, with deformable convolutions in the place of chosen `Conv2D` layers.

    The copy starts as the same function, to rounding: each deformable layer has the kernel and bias of its `Conv2D`,
    offsets of zero and a modulation of 1. All other layers, the weights, names, trainable flags, regularizers,
    constraints and dtype policies are copied. `model` stays as it is and shares no variables with the copy.

    The copy is not compiled. Compile it with `tf_dcnv2.optimizers.scale_learning_rates(optimizer)`, so that the offset
    branches learn at their own rate. It is saved and loaded as any Keras model is, after `import tf_dcnv2`. A
    `.weights.h5` file of `model` does not fit the copy, because Keras finds layers in it by their classes: load it into
    `model`, then call `make_deformable` again.

    Layers of nested functional and Sequential models are found too, and a layer that is used in several places becomes
    one deformable layer used in the same places. Convolutions inside other layers, such as `TimeDistributed` or layers
    of your own, are not found.

    Example:
        >>> model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3, name="stem")])
        >>> deformable = tf_dcnv2.layers.make_deformable(model)
        >>> deformable.get_layer("stem").__class__.__name__
        'ModulatedDeformableConv2D'
        >>> x = keras.random.normal((1, 32, 32, 3))
        >>> bool(keras.ops.max(keras.ops.abs(deformable(x) - model(x))) < 1e-5)
        True

    Args:
        model: a functional or Sequential model, compiled or not. A Sequential model may have no weights yet.
        where: which `Conv2D` layers become deformable. `None` chooses all with a kernel larger than 1x1. Otherwise
            a name or several names, a compiled regular expression that is searched for in the names, or a function
            that is called with each `Conv2D` and returns whether to choose it. Depthwise, separable and transposed
            convolutions, and subclasses of `Conv2D` other than `GroupedConv2D`, cannot be chosen.
        modulated: whether the layers are `ModulatedDeformableConv2D` (DCNv2) or `DeformableConv2D` (DCNv1).
        mask_scale: largest modulation of modulated layers, which start at half of it. With 1.0, as in the paper,
            the chosen layers start at half of their output before (plus the bias).
        deformable_groups: groups of input channels with offsets of their own, in every chosen layer.
        offset_clip: limit of the offsets' absolute value in pixels; `None` for no limit.
        offset_learning_rate_multiplier: learning rate of the offset branches, relative to the optimizer's.
        implementation: "auto", "native" or "composite", see `tf_dcnv2.ops.deform_conv2d`.

    Returns:
        The copy, of the class of `model`.

    Raises:
        ValueError: `model` is a subclassed model, `where` chooses nothing or has a name that no `Conv2D` has, or an
            argument does not fit a chosen layer.
    """
    if not is_graph(model):
        raise ValueError(
            "model must be a functional or Sequential model, whose layers Keras can replace. Received: "
            f"{model!r}, a {type(model).__name__}. In a subclassed model, use the deformable layers in its constructor."
        )
    layer_class = ModulatedDeformableConv2D if modulated else DeformableConv2D
    options = {
        "deformable_groups": deformable_groups,
        "offset_clip": offset_clip,
        "offset_learning_rate_multiplier": offset_learning_rate_multiplier,
        "implementation": implementation,
        **({"mask_scale": mask_scale} if modulated else {}),
    }
    chosen = choose_convolutions(model, where)
    return _Copier(chosen, layer_class, options).copy(model)


class _Copier:
    """Copies layers, each once however often it is used, and makes the chosen ones deformable."""

    def __init__(self, chosen: Iterable[keras.layers.Conv2D], layer_class: LayerClass, options: dict[str, Any]) -> None:
        self._chosen = set(chosen)
        self._layer_class = layer_class
        self._options = options
        self._copies: dict[keras.Operation, keras.Operation] = {}

    def copy(self, model: keras.Model) -> keras.Model:
        copy = self._copy_of(model)
        # A model comes after its layers in `_copies`. In reverse, because setting its flag sets those of its layers.
        for old, new in reversed(self._copies.items()):
            if isinstance(old, keras.layers.Layer):
                _copy_state(old, new)
        return copy

    def _copy_of(self, operation: keras.Operation) -> keras.Operation:
        if operation not in self._copies:
            self._copies[operation] = self._new(operation)
        return self._copies[operation]

    def _new(self, operation: keras.Operation) -> keras.Operation:
        if is_graph(operation):
            return self._new_model(operation)
        config = operation.get_config()
        if operation in self._chosen:
            # The kernel that is copied has the low-rank update of `Conv2D.enable_lora` in it.
            config = {name: value for name, value in config.items() if not name.startswith("lora_")}
            return self._new_deformable({**config, **self._options})
        if isinstance(operation, keras.layers.Lambda):
            # `from_config` refuses functions that come out of a file; this one is in memory.
            return keras.layers.Lambda(**{**config, "function": operation.function})
        return type(operation).from_config(config)

    def _new_deformable(self, config: dict[str, Any]) -> keras.layers.Layer:
        try:
            return self._layer_class(**config)
        except ValueError as error:
            raise ValueError(f"{config['name']} cannot become a {self._layer_class.__name__}: {error}") from error

    def _new_model(self, model: keras.Model) -> keras.Model:
        # Keras would compile the clone too, and fail if a loss or metric is not registered for loading.
        compiled, model.compiled = model.compiled, False
        try:
            clone = keras.models.clone_model(model, self._new_inputs(model), clone_function=self._copy_of)
        finally:
            model.compiled = compiled
        if type(clone) is not type(model):
            raise ValueError(
                f"{model.name} is a {type(model).__name__}, a class that Keras cannot rebuild with other layers. "
                "Use it as a plain model: keras.Model(model.inputs, model.outputs)."
            )
        return clone

    def _new_inputs(self, model: keras.Model) -> Any:
        """The inputs of a functional model's copy: those that Keras would make are never optional or sparse."""
        if isinstance(model, keras.Sequential):
            return None
        layers = {id(layer.output): layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)}
        return keras.tree.map_structure(lambda tensor: self._copy_of(layers[id(tensor)]).output, model.input)


def _copy_state(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """Copies trainable flag and variables; of a layer that is no model, also those of the layers inside it."""
    inner = [] if is_graph(old) else zip(_inner_layers(old), _inner_layers(new), strict=True)
    for old_layer, new_layer in ((old, new), *inner):
        new_layer.trainable = old_layer.trainable
        # As files do it: layers such as Normalization update more than variables when they are loaded.
        values: dict = {}
        old_layer.save_own_variables(values)
        new_layer.load_own_variables(values)


def _inner_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return layer._flatten_layers(include_self=False)
