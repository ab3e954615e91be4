"""Presets: named detector configurations, one YAML file each in `presets/`, named after the paper's rows."""

import functools
from importlib import resources

from tf_dcnv2.models.config import DetectorConfig


@functools.cache
def preset_names() -> tuple[str, ...]:
    """Names of all presets, sorted."""
    folder = resources.files("tf_dcnv2.models") / "presets"
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


def load_preset(name: str) -> DetectorConfig:
    """The configuration of preset `name`.

    Raises:
        ValueError: there is no such preset; the message lists all.
    """
    import yaml  # part of the [detection] extra: only presets need it

    if name not in preset_names():
        raise ValueError(f"Unknown preset {name!r}. Available: {', '.join(preset_names())}")
    text = (resources.files("tf_dcnv2.models") / "presets" / f"{name}.yaml").read_text(encoding="utf-8")
    return DetectorConfig.from_dict(yaml.safe_load(text))
