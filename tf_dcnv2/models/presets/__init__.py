"""Named detector configurations: every row of the paper's tables, and small ones."""

from tf_dcnv2.models.presets.loading import (
    load_preset,
    paper_ap,
    preset_cost,
    preset_model_name,
    preset_names,
    regular_preset,
)

__all__ = ["load_preset", "paper_ap", "preset_cost", "preset_model_name", "preset_names", "regular_preset"]
