"""Starting weights for a backbone, matched by layer name and shape."""

import dataclasses
import os

import keras


@dataclasses.dataclass(frozen=True)
class WeightReport:
    """Names of weights that were `loaded`, are `new` in the model (offset branches), or were `unused` in the source."""

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    unused: tuple[str, ...]


def copy_weights(source: keras.Model, backbone: keras.Model) -> WeightReport:
    """Copies every weight of `source` to the weight of the same layer and name in `backbone`.

    A deformable convolution takes kernel and bias of the convolution it replaces; its offset branch keeps its zeros.

    Raises:
        ValueError: nothing matches, or a weight of the same name has another shape.
    """
    available = _weights_by_path(source)
    loaded, new = [], []
    for path, variable in _weights_by_path(backbone).items():
        value = available.pop(path, None)
        if value is None:
            new.append(path)
        elif tuple(value.shape) != tuple(variable.shape):
            raise ValueError(
                f"{path} has shape {tuple(value.shape)} in {source.name!r}, but {tuple(variable.shape)} in "
                f"{backbone.name!r}: the two networks have different widths."
            )
        else:
            variable.assign(value)
            loaded.append(path)
    if not loaded:
        raise ValueError(f"No layer of {source.name!r} has the name of a layer of {backbone.name!r}: nothing to load.")
    return WeightReport(tuple(loaded), tuple(new), tuple(available))


def load_backbone_weights(backbone: keras.Model, weights: str) -> WeightReport | None:
    """Loads "imagenet", a `.keras` model or a `.weights.h5` file into a backbone.

    Returns:
        What was loaded; None for `.weights.h5`, which must fit exactly.

    Raises:
        ValueError: "imagenet" for a depth that keras.applications does not have, or an unknown kind of file.
        FileNotFoundError: the file does not exist.
    """
    if weights == "imagenet":
        applications = {(3, 4, 6, 3): keras.applications.ResNet50, (3, 4, 23, 3): keras.applications.ResNet101}
        application = applications.get(backbone.backbone_config.depths)
        if application is None:
            raise ValueError(
                "weights='imagenet' exist for ResNet-50 and ResNet-101. "
                f"Received: depths={backbone.backbone_config.depths}"
            )
        return copy_weights(application(include_top=False, weights="imagenet", input_shape=(None, None, 3)), backbone)
    if not os.path.exists(weights):
        raise FileNotFoundError(f"weights: no file {weights!r}. Expected 'imagenet', or a .keras or .weights.h5 file.")
    if weights.endswith(".weights.h5"):
        return backbone.load_weights(weights)
    if weights.endswith(".keras"):
        source = keras.saving.load_model(weights, compile=False)
        return copy_weights(getattr(source, "backbone", source), backbone)
    raise ValueError(f"weights must be 'imagenet' or a .keras or .weights.h5 file. Received: {weights!r}")


def _weights_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    return {f"{layer.name}/{variable.name}": variable for layer in model.layers for variable in layer.weights}
