"""Presets: named detector configurations, put together from the YAML fragments beside this file.

A name lists its parts, `mask_rcnn_r50_dconv_c3_c5_dpool_mimic_all_800`, and each part is a fragment. Which combinations
there are is in `families.yaml`; every row of the paper's tables 1 to 4 is one.
"""

import functools
import itertools
import re
from importlib import resources
from typing import Any

from tf_dcnv2._core.misspelt_names import did_you_mean
from tf_dcnv2._core.yaml_files import read_yaml
from tf_dcnv2.models.checkpoints.source_presets import load_source_preset
from tf_dcnv2.models.config import DetectorConfig
from tf_dcnv2.models.cost import Cost

# The parts of a name in their order, with what stands before each. A later fragment overrides an earlier one.
_PARTS = {"detector": "", "backbone": "_", "neck": "_", "setting": "_", "mimic": "_mimic_", "size": "_"}


def preset_names(detector: str | None = None) -> tuple[str, ...]:
    """Names of all presets, in the order of the paper's tables.

    Args:
        detector: only those of "faster_rcnn" or "mask_rcnn".
    """
    return tuple(name for name in _fragments() if detector is None or name.startswith(f"{detector}_"))


def load_preset(name: str) -> DetectorConfig:
    """The configuration of a preset, or of a detector that was trained or imported.

    Args:
        name: of a preset; of another project's detector, such as "torchvision/maskrcnn_resnet50_fpn"; or the path of a
            `config.yaml` that `tf-dcnv2 train` and `tf-dcnv2 import` write.

    Raises:
        ValueError: there is no such preset, and the message suggests the nearest; or the file describes no detector.
        FileNotFoundError: the file does not exist.
    """
    if name.endswith(".yaml"):
        return _of_file(name)
    return load_source_preset(name) if "/" in name else _of_fragments(name)


def preset_model_name(name: str) -> str:
    """What a model is called that is made from a preset: its name, without what TensorFlow takes in no name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_")


def _of_file(path: str) -> DetectorConfig:
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("detector"), dict):
        raise ValueError(f"{path} describes no detector: it has no section `detector`.")
    return DetectorConfig.from_dict(content["detector"])


@functools.cache
def _of_fragments(name: str) -> DetectorConfig:
    if name not in _fragments():
        raise ValueError(
            f"Unknown preset {name!r}.{did_you_mean([name], _fragments())} `tf-dcnv2 presets --all` lists all "
            f"{len(_fragments())}, such as faster_rcnn_r50_dcnv2."
        )
    values: dict[str, Any] = {}
    for fragment in _fragments()[name]:
        _apply(fragment, values)
    return DetectorConfig.from_dict(values)


def preset_cost(name: str) -> Cost:
    """The cost of the detector of preset `name`, for COCO's 80 classes and one image of 4:3 at the preset's size.

    Counted beforehand by tools/preset_costs.py; `tf_dcnv2.models.detector_cost` counts any configuration.
    """
    return Cost(**_read("costs")[name])


def regular_preset(name: str) -> str:
    """The preset of the same detector with regular convolutions and regular RoI pooling, trained without mimicking."""
    regular = tuple(
        "setting/regular" if fragment.startswith("setting/") else fragment
        for fragment in _fragments()[name]
        if not fragment.startswith("mimic/")
    )
    return next(other for other, fragments in _fragments().items() if fragments == regular)


def paper_ap(name: str) -> dict[str, float]:
    """The paper's AP in percent, `{"box": 43.1, "mask": 37.3}`; empty where its text states none for this preset."""
    config = load_preset(name)
    return next((ap for row, ap in _read("paper_results").items() if load_preset(row) == config), {})


@functools.cache
def _fragments() -> dict[str, tuple[str, ...]]:
    """The fragments of each preset, such as `("detector/faster_rcnn", "backbone/r50", "setting/regular")`."""
    presets = {}
    for family in _read("families"):
        for parts in itertools.product(*(family.get(kind, [""]) for kind in _PARTS)):
            used = [(kind, part) for kind, part in zip(_PARTS, parts, strict=True) if part != ""]
            name = "".join(f"{_PARTS[kind]}{part}" for kind, part in used)
            presets[name] = tuple(f"{kind}/{part}" for kind, part in used)
    return presets


def _apply(fragment: str, values: dict[str, Any]) -> None:
    """Changes `values` by what the fragment includes, and then by what it says itself."""
    sections = dict(_read(fragment))
    for included in sections.pop("include", []):
        _apply(included, values)
    for section, settings in sections.items():
        if not isinstance(settings, dict):
            values[section] = settings
        elif section not in values or values[section] is not None:  # Faster R-CNN has no mask head to change
            values[section] = {**values.get(section, {}), **settings}


@functools.cache
def _read(fragment: str) -> Any:
    import yaml  # part of the [detection] extra: only presets need it

    path = resources.files("tf_dcnv2.models.presets").joinpath(*f"{fragment}.yaml".split("/"))
    return yaml.safe_load(path.read_text(encoding="utf-8"))
