"""The graph of layers that a Keras model is made of."""

import keras

from tf_dcnv2.models import KerasBackbone


def graph_of(model: object) -> keras.Model | None:
    """The functional model that a Sequential or functional model, or a wrapper of one, is; `None` for all others."""
    if isinstance(model, KerasBackbone):
        return model.network
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name) if model.built else None
    return model if isinstance(model, keras.Model) and hasattr(model, "operations") else None
