"""From backbone features to what the RPN and the RoI head look at."""

import dataclasses

import keras

from tf_dcnv2.models.config import NeckConfig
from tf_dcnv2.models.resnet import ResNetBackbone


@dataclasses.dataclass(frozen=True)
class Neck:
    """`model` maps backbone features to `{"rpn": [level, ...], "roi": [level, ...]}`, finest level first.

    Attributes:
        model: a `keras.Model`.
        rpn_strides, roi_strides: pixels per feature cell of each level.
        rpn_channels, roi_channels: channels of every level of the two lists.
    """

    model: keras.Model
    rpn_strides: tuple[int, ...]
    roi_strides: tuple[int, ...]
    rpn_channels: int
    roi_channels: int


def make_neck(config: NeckConfig, backbone: ResNetBackbone, kernel_regularizer=None) -> Neck:
    """The C5 neck (paper sec. 3.3) or a feature pyramid (Lin et al., arXiv:1612.03144)."""
    inputs = {name: keras.Input((None, None, channels), name=name) for name, channels in backbone.channels.items()}
    build = _c5 if config.kind == "c5" else _pyramid
    outputs, rpn_strides, roi_strides = build(config, backbone, inputs, kernel_regularizer)
    return Neck(
        model=keras.Model(inputs, outputs, name="neck"),
        rpn_strides=rpn_strides,
        roi_strides=roi_strides,
        rpn_channels=outputs["rpn"][0].shape[-1],
        roi_channels=outputs["roi"][0].shape[-1],
    )


def _c5(config, backbone, inputs, kernel_regularizer):
    reduced = keras.layers.Conv2D(
        config.channels, 1, activation="relu", name="c5_reduce", kernel_regularizer=kernel_regularizer
    )(inputs["C5"])
    return {"rpn": [inputs["C4"]], "roi": [reduced]}, (backbone.strides["C4"],), (backbone.strides["C5"],)


def _pyramid(config, backbone, inputs, kernel_regularizer):
    def convolution(size, name):
        return keras.layers.Conv2D(
            config.channels, size, padding="same", name=name, kernel_regularizer=kernel_regularizer
        )

    lateral_levels = [level for level in config.levels if level <= 5]
    merged = {}
    for level in reversed(lateral_levels):
        merged[level] = convolution(1, f"lateral{level}")(inputs[f"C{level}"])
        if level + 1 in merged:
            merged[level] = AddUpsampled(name=f"top_down{level}")([merged[level], merged[level + 1]])
    roi = [convolution(3, f"p{level}")(merged[level]) for level in lateral_levels]
    rpn = list(roi)
    strides = tuple(backbone.strides[f"C{level}"] for level in lateral_levels)
    if config.levels[-1] == 6:
        rpn.append(keras.layers.MaxPooling2D(1, strides=2, name="p6")(roi[-1]))
        return {"rpn": rpn, "roi": roi}, (*strides, 2 * strides[-1]), strides
    return {"rpn": rpn, "roi": roi}, strides, strides


@keras.saving.register_keras_serializable(package="tf_dcnv2")
class AddUpsampled(keras.layers.Layer):
    """Adds the next coarser level, enlarged to the nearest, to a pyramid level.

    A level has ceil(n / 2) rows of the finer one, so for odd n the enlarged map is cropped: images need not be
    multiples of the coarsest stride.
    """

    def call(self, inputs):
        fine, coarse = inputs
        enlarged = keras.ops.repeat(keras.ops.repeat(coarse, 2, axis=1), 2, axis=2)
        height, width = keras.ops.shape(fine)[1:3]
        return fine + enlarged[:, :height, :width]

    def compute_output_shape(self, input_shape):
        return input_shape[0]
