"""Settings that make presets and commands quick."""

# Of a preset.
TINY = {
    "backbone.depths": [1, 1, 1, 1],
    "backbone.widths": [4, 4, 8, 8],
    "backbone.stem_width": 8,
    "neck.channels": 16,
    "rpn.channels": 16,
    "box_head.pool_branch_units": 16,
    "box_head.units": 32,
    "box_head.samples": 16,
    "mimic.rois_per_image": 2,
}

# Of images, as arguments of a command.
SIZE = ["--short-side", "96", "--max-side", "128"]
