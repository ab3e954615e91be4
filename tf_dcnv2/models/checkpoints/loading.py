"""From a checkpoint of another project to what a detector is built from."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from tf_dcnv2.models.checkpoints.agreement import (
    MASK_HEAD,
    STANDARD_DEPTHS,
    architecture_of_config,
    architecture_of_weights,
    require_agreement,
)
from tf_dcnv2.models.checkpoints.architecture import Settings, class_count, settings_from_shapes
from tf_dcnv2.models.checkpoints.categories import categories_of
from tf_dcnv2.models.checkpoints.conventions import settings_from_config, settings_of_project
from tf_dcnv2.models.checkpoints.first_version import refuse_first_version
from tf_dcnv2.models.checkpoints.layout import converted
from tf_dcnv2.models.checkpoints.project_configs import parse_python_config, read_project_config
from tf_dcnv2.models.checkpoints.projects import MMDETECTION, Project, project_of
from tf_dcnv2.models.checkpoints.source_presets import config_of, source_preset
from tf_dcnv2.models.config import DetectorConfig
from tf_dcnv2.models.weights import WeightReport
from tf_dcnv2.models.weights.checkpoint_files import Checkpoint, read_checkpoint


class ImportedDetector(NamedTuple):
    """A detector of another project, ready to be built.

    Attributes:
        path: of the checkpoint.
        project: whose it is.
        config: what describes it here.
        categories: category id -> name, in the order of the classes.
        weights: values by the path of the variable here, in its layout.
        dropped: names of the checkpoint's weights that are not needed, and why.
    """

    path: str
    project: Project
    config: DetectorConfig
    categories: dict[int, str]
    weights: dict[str, np.ndarray]
    dropped: dict[str, str]

    def assign(self, detector: keras.Model) -> WeightReport:
        """Gives the variables of the detector built from `config` their values.

        Raises:
            ValueError: a variable has no value, or one of another shape; none has changed then.
        """
        values, new = {}, []
        for variable in detector.weights:
            path, shape = variable.path, tuple(variable.shape)
            if path in self.weights:
                values[path] = self.weights[path]
            elif path.endswith("_conv/bias"):
                values[path] = np.zeros(shape, np.float32)  # the projects' convolutions have none
                new.append(path)
            else:
                raise ValueError(f"{self.path} has no weight for {path}: it is incomplete, or of another detector.")
            if values[path].shape != shape:
                raise ValueError(
                    f"{self.path}: its weight for {path} has the shape {values[path].shape}, and the detector that the "
                    f"settings describe wants {shape}."
                )
        if unused := self.weights.keys() - values.keys():
            places = ", ".join(sorted(unused))
            raise ValueError(f"{self.path}: the detector that the settings describe has no place for {places}.")
        for variable in detector.weights:
            variable.assign(values[variable.path])
        loaded = tuple(path for path in values if path not in new)
        return WeightReport(loaded, tuple(new), self.dropped)


def import_detector(
    path: str | os.PathLike,
    *,
    preset: str | None = None,
    config: str | os.PathLike | None = None,
    category_ids: Sequence[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> ImportedDetector:
    """Reads a checkpoint of torchvision, detectron2 or mmdetection.

    Args:
        path: of the checkpoint.
        preset: which of the project's detectors it is, one of `source_preset_names()`, for settings that neither
            shapes nor a configuration tell.
        config: the project's own configuration file; by default the one inside the checkpoint, if there is one.
        category_ids: one for each class; by default COCO's, or 1, 2, ...
        overrides: settings of `DetectorConfig` by dotted name, which win over everything else.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: the file is no checkpoint of such a detector, or something does not fit; the message names it.
    """
    checkpoint = read_checkpoint(path)
    try:
        project = project_of(checkpoint.weights)
        if project is MMDETECTION:
            refuse_first_version(checkpoint, is_described=bool(preset or config))
        found, dropped = _translated(checkpoint.weights, project)
        has_mask_head = "mask_head/classifier/kernel" in found
        shapes = settings_from_shapes(found, project)
        of_weights = architecture_of_weights(shapes, class_count(found), has_mask_head=has_mask_head)
        settings = {
            **settings_of_project(project, checkpoint.weights),
            **_preset_settings(preset, project, of_weights),
            **shapes,
            **_config_settings(checkpoint, config, project, of_weights),
            **(overrides or {}),
        }
        detector_config = config_of(settings, has_mask_head=has_mask_head)
        categories = categories_of(class_count(found), checkpoint.meta, category_ids)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from error
    weights = {target: converted(target, value, project, detector_config) for target, value in found.items()}
    return ImportedDetector(os.fspath(path), project, detector_config, categories, weights, dropped)


def _translated(weights: Mapping[str, np.ndarray], project: Project) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Weights by the path of their variable here, and those that are not needed with the reason.

    Raises:
        ValueError: there are others.
    """
    found, dropped, unknown = {}, {}, []
    for name, value in weights.items():
        target, reason = project.translate(name), project.reason_to_ignore(name)
        if target is not None and target not in found:
            found[target] = value
        elif reason is not None:
            dropped[name] = reason
        else:
            unknown.append(name)
    if unknown:
        raise ValueError(
            f"{len(unknown)} weights belong to no part of a Faster or Mask R-CNN of {project.name} that is known here: "
            f"{', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
        )
    return found, dropped


def _preset_settings(name: str | None, project: Project, of_weights: Mapping[str, Any]) -> Settings:
    """What a preset says besides the shapes.

    Raises:
        ValueError: it is one of another project, or of another detector.
    """
    if name is None:
        return {}
    owner, settings = source_preset(name)
    if owner is not project:
        raise ValueError(f"The weights are those of {project.name}, and preset {name!r} is one of {owner.name}.")
    described = {key: value for key, value in settings.items() if not key.startswith("mask_head.")}
    described[MASK_HEAD] = len(described) < len(settings)
    if of_weights["backbone.depths"] in STANDARD_DEPTHS.values():
        described.setdefault("backbone.depths", STANDARD_DEPTHS[50])
    require_agreement(described, of_weights, f"Preset {name!r}")
    return settings


def _config_settings(
    checkpoint: Checkpoint, path: str | os.PathLike | None, project: Project, of_weights: Mapping[str, Any]
) -> Settings:
    """What the project's configuration says, a file or the one inside the checkpoint; nothing if there is neither.

    Raises:
        ValueError: it is that of another detector, or not as the project writes it.
    """
    if path is not None:
        source, config = os.fspath(path), read_project_config(path)
    elif (text := _configuration_inside(checkpoint)) is not None:
        source = "The configuration inside"
        config = _parsed(text, source)
    else:
        return {}
    try:
        settings = settings_from_config(project, config)
        described = {**settings, **architecture_of_config(project, config)}
    except (AttributeError, LookupError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{source} has an entry that {project.name} would write otherwise: {error}") from error
    require_agreement(described, of_weights, source)
    return settings


def _configuration_inside(checkpoint: Checkpoint) -> str | None:
    """The text of the configuration that mmdetection 3 ("cfg") and 2 ("config") keep in their checkpoints."""
    return next((text for key in ("cfg", "config") if isinstance(text := checkpoint.meta.get(key), str)), None)


def _parsed(text: str, source: str) -> dict[str, Any]:
    try:
        return parse_python_config(text, source)
    except (SyntaxError, RecursionError) as error:
        raise ValueError(f"{source} does not parse: {error}. Give the project's configuration file.") from error
