"""The two sampling conventions of RoI pooling: where an RoI lies on the feature map and which samples count."""

import abc

import tensorflow as tf


class Convention(abc.ABC):
    """Geometry of one convention. Pairs are (row, column); all positions are in feature pixels.

    Attributes:
        phase: position of a sample in its cell of the sampling grid: 0 the near edge, 0.5 the centre.
        counts_skipped: whether the average is over all samples or only over those that `clamp` kept.
    """

    phase: float
    counts_skipped: bool

    @abc.abstractmethod
    def extent(self, near: tf.Tensor, far: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(N, 2)` start and size of RoIs with corners `near` and `far` in image pixels."""

    @abc.abstractmethod
    def keep(self, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Whether a position on an axis of `length` pixels is sampled at all; False for NaN."""

    def clamp(self, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Moves a position to [0, length - 1]; its derivative is the right-hand one, so 0 from length - 1 onwards."""
        last = tf.broadcast_to(length - 1, tf.shape(position))
        return tf.where(position < last, tf.maximum(position, 0), last)


class Aligned(Convention):
    """RoIAlign(aligned=True): pixel centres at integers, no rounding, no minimum size."""

    phase = 0.5
    counts_skipped = True

    def extent(self, near: tf.Tensor, far: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(N, 2)` start and size of RoIs; minus half a pixel, as positions count from the centre of pixel 0."""
        start = near * scale - 0.5
        return start, far * scale - 0.5 - start

    def keep(self, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Whether a position is at most one pixel off the map."""
        return (position >= -1) & (position <= length)


class MXNet(Convention):
    """DeformablePSROIPooling with group size 1: whole image pixels with the far one, at least 0.1 feature pixels."""

    phase = 0.0
    counts_skipped = False

    def extent(self, near: tf.Tensor, far: tf.Tensor, scale: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(N, 2)` start and size of RoIs whose corners are rounded, with the pixels of the far corner included."""
        start = _round_half_away(near) * scale - 0.5
        return start, tf.maximum((_round_half_away(far) + 1) * scale - 0.5 - start, 0.1)

    def keep(self, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Whether a position is at most half a pixel beyond the centres of the map's outermost pixels."""
        return (position >= -0.5) & (position <= length - 0.5)

    def clamp(self, position: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """Moves a position to [0, length - 1]; its derivative is 0 at every integer."""
        # MXNet's neighbours are floor and ceil, the same pixel at an integer: it sees no slope there.
        between_pixels = position != tf.floor(position)
        return super().clamp(tf.where(between_pixels, position, tf.stop_gradient(position)), length)


CONVENTIONS = {"aligned": Aligned(), "mxnet": MXNet()}


def _round_half_away(value: tf.Tensor) -> tf.Tensor:
    """C's `round`. `tf.round` rounds halves to even, and adding 0.5 first would itself round."""
    whole = tf.floor(tf.abs(value))
    return tf.sign(value) * tf.where(tf.abs(value) - whole >= 0.5, whole + 1, whole)
