"""From backbone features to what the RPN and the RoI heads look at."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_dcnv2.models.config import FixedNormalization, NeckConfig
from tf_dcnv2.models.normalization import make_normalization


class Neck(keras.layers.Layer):
    """A layer from backbone features to `{"rpn": [level, ...], "roi": [level, ...]}`, finest level first.

    Attributes:
        strides: `{"rpn": (...), "roi": (...)}`, pixels per feature cell of each level of the two lists.
        channels: `{"rpn": ..., "roi": ...}`, channels of all levels of each list.

    Args:
        in_strides: pixels per cell of each level of the backbone, by name: `backbone.strides`.
        in_channels: channels of these levels: `backbone.channels`.
        channels: of the levels that the neck computes.
        kernel_regularizer: of its kernels.
    """

    def __init__(
        self,
        in_strides: Mapping[str, int],
        in_channels: Mapping[str, int],
        *,
        channels: int = 256,
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.in_strides, self.in_channels = dict(in_strides), dict(in_channels)
        self.out_channels = channels
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    @property
    def strides(self) -> dict[str, tuple[int, ...]]:
        """Pixels per feature cell of each level, finest first: `{"rpn": (...), "roi": (...)}`."""
        raise NotImplementedError(f"{type(self).__name__} must define strides")

    @property
    def channels(self) -> dict[str, int]:
        """Channels of all levels of each list: `{"rpn": ..., "roi": ...}`."""
        raise NotImplementedError(f"{type(self).__name__} must define channels")

    def _convolution(self, size: int, name: str, **arguments: Any) -> keras.layers.Conv2D:
        return keras.layers.Conv2D(
            self.out_channels,
            size,
            padding="same",
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
            **arguments,
        )

    def _require_levels(self, levels: Sequence[str]) -> None:
        missing = [level for level in levels if level not in self.in_strides]
        if missing:
            raise ValueError(
                f"{type(self).__name__} needs the levels {', '.join(levels)} of the backbone. "
                f"Received: in_strides={self.in_strides}"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            **super().get_config(),
            "in_strides": dict(self.in_strides),
            "in_channels": dict(self.in_channels),
            "channels": self.out_channels,
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class C5Neck(Neck):
    """RPN on C4, RoI heads on C5 reduced by a 1x1 convolution: Faster R-CNN of the paper (sec. 3.3 and 5).

    Example:
        >>> backbone = ResNetBackbone(dilated_c5=True)
        >>> neck = C5Neck(backbone.strides, backbone.channels)
        >>> [level.shape for level in neck(backbone(tf.zeros([1, 224, 224, 3])))["roi"]]
        [TensorShape([1, 14, 14, 256])]
    """

    def __init__(self, in_strides: Mapping[str, int], in_channels: Mapping[str, int], **kwargs: Any):
        super().__init__(in_strides, in_channels, **kwargs)
        self._require_levels(["C4", "C5"])
        self._reduce = self._convolution(1, "c5_reduce", activation="relu")

    @property
    def strides(self) -> dict[str, tuple[int, ...]]:
        """Pixels per feature cell of each level, finest first: `{"rpn": (...), "roi": (...)}`."""
        return {"rpn": (self.in_strides["C4"],), "roi": (self.in_strides["C5"],)}

    @property
    def channels(self) -> dict[str, int]:
        """Channels of all levels of each list: `{"rpn": ..., "roi": ...}`."""
        return {"rpn": self.in_channels["C4"], "roi": self.out_channels}

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        self._reduce.build((None, None, None, self.in_channels["C5"]))

    def call(self, features: Mapping[str, tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        """C4 for the RPN and the reduced C5 for the RoI heads, from the levels of a backbone by name."""
        return {"rpn": [features["C4"]], "roi": [self._reduce(features["C5"])]}


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class FeaturePyramid(Neck):
    """A feature pyramid (Lin et al., arXiv:1612.03144): RPN on every level, RoI heads on all but P6.

    Args:
        in_strides: pixels per cell of each level of the backbone; that of `"C{l}"` must be 2**l.
        in_channels: channels of these levels.
        channels: of every level of the pyramid.
        levels: consecutive levels between 2 and 6, such as (2, 3, 4, 5, 6). P6 is every second cell of P5.
        norm: what follows each convolution: "none", or "frozen_batch", see `NeckConfig`.
        norm_epsilon: added to its variances.
        kernel_regularizer: of all kernels.

    Example:
        >>> backbone = ResNetBackbone()
        >>> neck = FeaturePyramid(backbone.strides, backbone.channels)
        >>> [level.shape[1] for level in neck(backbone(tf.zeros([1, 224, 224, 3])))["rpn"]]
        [56, 28, 14, 7, 4]
    """

    def __init__(
        self,
        in_strides: Mapping[str, int],
        in_channels: Mapping[str, int],
        *,
        levels: Sequence[int] = (2, 3, 4, 5, 6),
        norm: FixedNormalization = "none",
        norm_epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(in_strides, in_channels, **kwargs)
        config = NeckConfig(
            kind="fpn", channels=self.out_channels, levels=tuple(levels), norm=norm, norm_epsilon=norm_epsilon
        )
        self.levels, self.norm, self.norm_epsilon = config.levels, config.norm, config.norm_epsilon
        self._lateral_levels = [level for level in self.levels if level <= 5]
        self._require_levels([f"C{level}" for level in self._lateral_levels])
        wrong = {f"C{n}": in_strides[f"C{n}"] for n in self._lateral_levels if in_strides[f"C{n}"] != 2**n}
        if wrong:
            raise ValueError(
                "FeaturePyramid needs a backbone whose level C{l} has a stride of 2**l pixels, which a dilated stage "
                f"has not. Received: {wrong}"
            )
        self._laterals, self._lateral_norms = self._convolutions(1, "lateral")
        self._outputs, self._output_norms = self._convolutions(3, "p")

    def _convolutions(self, size: int, name: str) -> tuple[list[keras.layers.Layer], list[keras.layers.Layer]]:
        """A convolution for each level, and what normalises its output."""
        names = [f"{name}{level}" for level in self._lateral_levels]
        convolutions = [self._convolution(size, one, use_bias=self.norm == "none") for one in names]
        if self.norm == "none":
            return convolutions, [keras.layers.Identity(dtype=self.dtype_policy) for _ in names]
        arguments = {"epsilon": self.norm_epsilon, "dtype": self.dtype_policy}
        norms = [make_normalization(self.norm, self.out_channels, name=f"{one}_norm", **arguments) for one in names]
        return convolutions, norms

    @property
    def strides(self) -> dict[str, tuple[int, ...]]:
        """Pixels per feature cell of each level, finest first: `{"rpn": (...), "roi": (...)}`."""
        return {name: tuple(2**level for level in levels) for name, levels in self._pooled_levels().items()}

    @property
    def channels(self) -> dict[str, int]:
        """Channels of all levels of each list: `{"rpn": ..., "roi": ...}`."""
        return {"rpn": self.out_channels, "roi": self.out_channels}

    def _pooled_levels(self) -> dict[str, Sequence[int]]:
        return {"rpn": self.levels, "roi": self._lateral_levels}

    def build(self, input_shape: Any = None) -> None:
        """Creates the variables. Their shapes follow from the constructor's arguments, whatever `input_shape` is."""
        for level, lateral in zip(self._lateral_levels, self._laterals, strict=True):
            lateral.build((None, None, None, self.in_channels[f"C{level}"]))
        for layer in (*self._outputs, *self._lateral_norms, *self._output_norms):
            layer.build((None, None, None, self.out_channels))

    def call(self, features: Mapping[str, tf.Tensor]) -> dict[str, list[tf.Tensor]]:
        """The pyramid levels for the RPN and for the RoI heads, from the levels of a backbone by name."""
        inputs = [features[f"C{level}"] for level in self._lateral_levels]
        merged = _normalized(self._laterals, self._lateral_norms, inputs)
        for index in reversed(range(len(merged) - 1)):
            merged[index] = add_enlarged(merged[index], merged[index + 1])
        roi = _normalized(self._outputs, self._output_norms, merged)
        coarsest = [roi[-1][:, ::2, ::2]] if 6 in self.levels else []
        return {"rpn": roi + coarsest, "roi": roi}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments in the form that Keras saves and `from_config` takes."""
        return {
            **super().get_config(),
            "levels": list(self.levels),
            "norm": self.norm,
            "norm_epsilon": self.norm_epsilon,
        }


def _normalized(
    convolutions: Sequence[keras.layers.Layer], norms: Sequence[keras.layers.Layer], levels: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Each level through its convolution and what normalises that."""
    return [norm(convolution(level)) for convolution, norm, level in zip(convolutions, norms, levels, strict=True)]


def add_enlarged(fine: tf.Tensor, coarse: tf.Tensor) -> tf.Tensor:
    """Adds the next coarser level, enlarged to the nearest cell, to a pyramid level `(B, H, W, C)`.

    A level has ceil(n / 2) rows of the finer one, so for odd n the enlarged map is cropped: images need not be
    multiples of the coarsest stride.
    """
    enlarged = tf.repeat(tf.repeat(coarse, 2, axis=1), 2, axis=2)
    # A slice that is all of a map costs nothing, and its gradient neither, where that of [:, :h, :w] is a copy.
    return fine + tf.slice(enlarged, [0, 0, 0, 0], tf.shape(fine))
