"""Starting weights of a detector or of its backbone, matched by name and shape."""

import dataclasses
import logging
import os
import warnings
from collections.abc import Mapping

import keras
import numpy as np

from tf_dcnv2.models.config import BackboneConfig
from tf_dcnv2.models.weights.checkpoint_files import read_checkpoint
from tf_dcnv2.models.weights.pytorch_weights import PYTORCH_SUFFIXES, convert_pytorch_backbone

_log = logging.getLogger(__name__)
_FILES = "a .keras, .weights.h5, .pth, .pt or .safetensors file"


@dataclasses.dataclass(frozen=True)
class WeightReport:
    """What became of each weight when others were loaded.

    Attributes:
        loaded: names of the model's weights that were given a value.
        new: names of those that keep their initial value: offset branches, layers of other classes.
        skipped: names of the source's weights that were not used, and why.
    """

    loaded: tuple[str, ...]
    new: tuple[str, ...]
    skipped: Mapping[str, str]

    def __str__(self) -> str:
        return f"{len(self.loaded)} weights loaded, {len(self.new)} new, {len(self.skipped)} skipped"

    def details(self) -> list[str]:
        """A line for each weight."""
        lines = [f"loaded   {name}" for name in self.loaded] + [f"new      {name}" for name in self.new]
        return lines + [f"skipped  {name}: {reason}" for name, reason in self.skipped.items()]


def assign_weights(values: Mapping[str, np.ndarray], model: keras.Model, source: str) -> WeightReport:
    """Gives the weights of `model` the values of the same names.

    A deformable convolution takes kernel and bias of the convolution it replaces, and its offset branch keeps its zeros
    if the source has none, or one of another size. Outside the backbone, layers of other sizes keep their initial
    values: those that depend on the classes, a neck or anchors of another kind.

    Args:
        values: by `keras.Variable.path`, such as "conv1_conv/kernel".
        model: a `ResNetBackbone` or a detector.
        source: where the values come from, for messages.

    Raises:
        ValueError: nothing matches, or a weight of the backbone has another shape; no weight has changed then.
    """
    backbone = {variable.path for variable in getattr(model, "backbone", model).weights}
    matches, new, skipped = [], [], {name: "the model has no such weight" for name in values}
    for variable in model.weights:
        name = variable.path
        if name not in values:
            new.append(name)
            continue
        shape, wanted = tuple(values[name].shape), tuple(variable.shape)
        if shape == wanted:
            matches.append(variable)
            del skipped[name]
        elif name in backbone and "/offset_" not in name:
            raise ValueError(
                f"{name} has shape {shape} in {source}, but {wanted} in {model.name!r}: the two backbones have "
                "different widths."
            )
        else:
            new.append(name)
            skipped[name] = f"shape {shape}, the model has {wanted}"
    if not matches:
        raise ValueError(f"No weight of {source} has the name of a weight of {model.name!r}: nothing to load.")
    for variable in matches:
        variable.assign(values[variable.path])
    return WeightReport(tuple(variable.path for variable in matches), tuple(new), skipped)


def copy_weights(source: keras.Model, model: keras.Model) -> WeightReport:
    """Copies every weight of `source` that fits to the weight of the same name; see `assign_weights`."""
    return assign_weights({variable.path: variable for variable in source.weights}, model, repr(source.name))


def load_weights(model: keras.Model, weights: str) -> WeightReport:
    """Loads starting weights into a `ResNetBackbone` or a detector.

    Args:
        model: a backbone or detector, whose weights are set in place.
        weights: "imagenet" (the backbone's, from keras.applications); a `.keras` file of a backbone, of one of
            keras.applications' ResNets or of a whole detector, of which everything that fits is taken; a `.weights.h5`
            file of the same backbone or detector, which has no names and must fit exactly; or a `.pth`, `.pt` or
            `.safetensors` checkpoint of PyTorch, as torchvision or mmdetection save them, of which the backbone is
            taken (see `convert_pytorch_backbone`).

    Returns:
        What was loaded. It is also logged: one line at level INFO, every weight at level DEBUG.

    Raises:
        ValueError: the weights are of another network, or of an unknown kind.
        FileNotFoundError: the file does not exist.
        OSError: keras.applications' weights could not be fetched.
    """
    if weights == "imagenet":
        backbone = getattr(model, "backbone", model)
        report = copy_weights(_imagenet(_resnet_config(backbone, weights)), backbone)
    elif not os.path.exists(weights):
        raise FileNotFoundError(f"weights: no file {weights!r}. Expected 'imagenet', or {_FILES}.")
    elif weights.endswith(".weights.h5"):
        report = _load_exactly(model, weights)
    elif weights.endswith(".keras"):
        source = keras.saving.load_model(weights, compile=False)
        source = getattr(source, "detector", source)  # of a model that was trained with mimicking
        if hasattr(source, "backbone") != hasattr(model, "backbone"):
            source, model = getattr(source, "backbone", source), getattr(model, "backbone", model)
        report = copy_weights(source, model)
    elif weights.endswith(PYTORCH_SUFFIXES):
        backbone = getattr(model, "backbone", model)
        config = _resnet_config(backbone, weights)
        values, unused = convert_pytorch_backbone(read_checkpoint(weights).weights)
        report = assign_weights(values, backbone, repr(weights))
        _warn_of_applications_layout(weights, config)
        report = dataclasses.replace(report, skipped={**report.skipped, **dict.fromkeys(unused, "not of the backbone")})
    else:
        raise ValueError(f"weights must be 'imagenet' or {_FILES}. Received: {weights!r}")
    _log.info("%s: %s", weights, report)
    _log.debug("\n".join(report.details()))
    return report


def _resnet_config(backbone: keras.Model, weights: str) -> BackboneConfig:
    config = getattr(backbone, "config", None)
    if not isinstance(config, BackboneConfig):
        raise ValueError(
            f"weights={weights!r} are those of a ResNet, for a ResNetBackbone. Received: a {type(backbone).__name__}; "
            "give its own network the weights before it becomes a backbone."
        )
    return config


def _imagenet(config: BackboneConfig) -> keras.Model:
    """keras.applications' ResNet of the same architecture."""
    applications = {(3, 4, 6, 3): keras.applications.ResNet50, (3, 4, 23, 3): keras.applications.ResNet101}
    # What may differ: the place of deformable layers, dilation, and what is trained.
    same = ("widths", "groups", "width_per_group", "stem_width", "stride_in", "preprocessing")
    differing = [name for name in same if getattr(config, name) != getattr(BackboneConfig(), name)]
    differing += ["depths"] if config.depths not in applications else []
    differing += ["norm"] if config.norm == "group" else []
    if differing:
        settings = _listed({name: getattr(config, name) for name in differing})
        raise ValueError(
            "weights='imagenet' exist for keras.applications' ResNet-50 and ResNet-101 with batch normalisation only. "
            f"Received: {settings}"
        )
    try:
        return applications[config.depths](include_top=False, weights="imagenet", input_shape=(None, None, 3))
    except Exception as error:  # Keras raises nothing more specific when a download fails
        raise OSError(
            f"weights='imagenet' could not be fetched: {error}. Where there is no network, give the path of a .keras "
            "file instead."
        ) from error


def _warn_of_applications_layout(weights: str, config: BackboneConfig) -> None:
    """Nothing in a checkpoint tells strides and input apart, so that wrong ones would only show in poor results."""
    usual = {"stride_in": "3x3", "preprocessing": "torch"}
    differing = {name: getattr(config, name) for name in usual if getattr(config, name) != usual[name]}
    if differing:
        wanted = {name: usual[name] for name in differing}
        warnings.warn(
            f"{weights} was loaded into a backbone with {_listed(differing)}. Weights trained by torchvision or "
            f"mmdetection want {_listed(wanted)}, unless they are conversions of Caffe's: see the settings of "
            "BackboneConfig.",
            stacklevel=4,
        )


def _listed(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def _load_exactly(model: keras.Model, path: str) -> WeightReport:
    import h5py  # Keras' own requirement

    with h5py.File(path) as file:
        of_detector = "backbone" in file
    target = model if of_detector else getattr(model, "backbone", model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one warning for each container that does not fit, before the error
            target.load_weights(path)
    except ValueError as error:
        raise ValueError(
            f"{path} does not fit {target.name!r}. A .weights.h5 file must be of exactly the same network; save the "
            f"whole model as .keras to load what fits. Keras says: {str(error).splitlines()[0]}"
        ) from error
    return WeightReport(tuple(variable.path for variable in target.weights), (), {})
