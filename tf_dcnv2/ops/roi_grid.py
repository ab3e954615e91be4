"""The grid of bins and samples that RoI pooling lays over an RoI: what users say about it, checked once."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_dcnv2.ops import arguments
from tf_dcnv2.ops.shapes import Size

CONVENTIONS = ("aligned", "mxnet")

# Far beyond any use; they keep the cost of one RoI finite.
_MOST_BINS = 1024
_MOST_SAMPLES = 128


@dataclasses.dataclass(frozen=True)
class RoiGrid:
    """Where the bins and samples of an RoI are before offsets move them. `from_arguments` checks and makes it.

    Attributes:
        output_size: rows and columns of bins, (P, Q).
        spatial_scales: feature pixels per image pixel, one number a level.
        sampling_ratio: samples a bin and axis; 0 takes the bin's size in feature pixels.
        gamma: unit of the offsets, in RoI sizes.
        convention: "aligned" or "mxnet".
    """

    output_size: tuple[int, int]
    spatial_scales: tuple[float, ...] | tf.Tensor
    sampling_ratio: int
    gamma: float | tf.Tensor
    convention: str

    @classmethod
    def from_arguments(
        cls,
        *,
        output_size: int | Sequence[int] = 7,
        spatial_scale: float | Sequence[float],
        sampling_ratio: int = 2,
        gamma: float = 0.1,
        convention: str = "aligned",
    ) -> "RoiGrid":
        """The grid that the arguments of `tf_dcnv2.ops.deform_roi_pool` describe.

        Raises:
            ValueError: an argument is not one of its accepted forms, or out of range; the message names it.

        Example:
            >>> RoiGrid.from_arguments(output_size=7, spatial_scale=1 / 16).offset_shape(rois=100)
            [100, 7, 7, 2]
        """
        if convention not in CONVENTIONS:
            raise ValueError(f"convention must be one of {CONVENTIONS}. Received: convention={convention!r}.")
        fewest_samples = 1 if convention == "mxnet" else 0
        return cls(
            output_size=arguments.pair(output_size, "output_size", maximum=_MOST_BINS),
            spatial_scales=_spatial_scales(spatial_scale),
            sampling_ratio=arguments.integer(
                sampling_ratio, "sampling_ratio", minimum=fewest_samples, maximum=_MOST_SAMPLES
            ),
            gamma=arguments.number(gamma, "gamma", "a finite number"),
            convention=convention,
        )

    @classmethod
    def from_op(cls, op: tf.Operation, spatial_scales: tf.Tensor, gamma: tf.Tensor) -> "RoiGrid":
        """The grid of a custom op, forward or gradient, of which `spatial_scales` and `gamma` are inputs."""
        return cls(
            output_size=tuple(op.get_attr("output_size")),
            spatial_scales=spatial_scales,
            sampling_ratio=op.get_attr("sampling_ratio"),
            gamma=gamma,
            convention=tf.compat.as_str(op.get_attr("convention")),
        )

    def attributes(self) -> dict[str, Any]:
        """The attributes of a custom op with this grid. The other fields are inputs of the op."""
        names = ("output_size", "sampling_ratio", "convention")
        return {name: getattr(self, name) for name in names}

    @property
    def bins(self) -> int:
        """Bins of one RoI."""
        return self.output_size[0] * self.output_size[1]

    def offset_shape(self, rois: Size | None) -> list[Size | None]:
        """The shape of the offsets of `rois` RoIs, `None` where their number is not known."""
        return [rois, *self.output_size, 2]

    def mask_shape(self, rois: Size | None) -> list[Size | None]:
        """The shape of the modulation of `rois` RoIs, `None` where their number is not known."""
        return [rois, *self.output_size]


def _spatial_scales(value: object) -> tuple[float, ...]:
    """One positive number, or one a feature level, as a tuple."""
    values = value if arguments.is_sequence(value) else [value]
    try:
        scales = tuple(arguments.positive(scale, "spatial_scale") for scale in values)
    except ValueError:
        scales = ()
    if not scales:
        raise ValueError(
            "spatial_scale must be a positive number, feature pixels per image pixel, or a list with one a level. "
            f"Received: spatial_scale={value!r}."
        )
    return scales
