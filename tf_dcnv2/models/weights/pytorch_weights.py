"""Weights of PyTorch ResNets, as torchvision and mmdetection save them, in this package's layout.

Their names for the layers of a backbone are the same; mmdetection adds the offset branches of deformable convolutions.

    PyTorch                                        here
    conv1.weight (O, I, kh, kw)                    conv1_conv/kernel (kh, kw, I, O)
    layer1.0.conv2.weight                          conv2_block1_2_conv/kernel
    layer1.0.conv2.conv_offset.weight, .bias       conv2_block1_2_conv/offset_kernel, offset_bias
    layer1.0.bn2.weight, bias                      conv2_block1_2_bn/gamma, beta
    layer1.0.bn2.running_mean, running_var         conv2_block1_2_bn/moving_mean, moving_variance
    layer1.0.downsample.0, downsample.1            conv2_block1_0_conv, conv2_block1_0_bn

The channels of an offset branch need no reordering: there too they are (deformable group, tap, (dy, dx)), followed by
the logits of the modulation as (deformable group, tap).
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

PYTORCH_SUFFIXES = (".pth", ".pt", ".safetensors")

_ANCHOR = "layer1.0.conv1.weight"  # every ResNet has it

_LAYER = re.compile(
    r"""(?:layer(?P<stage>[1-4])\.(?P<block>\d+)\.)?      # the stem has neither
        (?:(?P<kind>conv|bn|gn|norm)(?P<number>[123])     # conv2, bn2
           (?P<offset>\.conv_offset|_offset)?             # as mmcv names the branch now, and before
          |downsample\.(?P<part>[01]))
        \.(?P<weight>weight|bias|running_mean|running_var)""",
    re.VERBOSE,
)
NORM_WEIGHTS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
CONV_WEIGHTS = {"weight": "kernel", "bias": "bias"}


def convert_pytorch_backbone(
    state_dict: Mapping[str, Any],
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Translates names and layouts of a PyTorch ResNet or ResNeXt, with or without deformable convolutions.

    Args:
        state_dict: arrays (anything `numpy.asarray` takes) by name; that of a whole detector will do, its backbone is
            found by its names.

    Returns:
        Arrays by `layer/weight`, as `ResNetBackbone` names them, and the names that were not used. Convolutions
        without a bias, which is all of them in torchvision, get one of zeros.

    Raises:
        ValueError: there is no ResNet in `state_dict`, or more than one.

    Example:
        >>> values, unused = convert_pytorch_backbone(torchvision.models.resnet50().state_dict())
        >>> values["conv1_conv/kernel"].shape
        (7, 7, 3, 64)
    """
    prefix = _find_prefix(state_dict)
    converted: dict[str, np.ndarray] = {}
    unused = []
    for name, value in state_dict.items():
        if name.endswith(".num_batches_tracked"):
            continue
        target = translate_resnet_name(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if target is None:
            unused.append(name)
        else:
            value = np.asarray(value)
            converted[target] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    for target in [target for target in converted if target.endswith("/kernel")]:
        converted.setdefault(target.removesuffix("kernel") + "bias", np.zeros(converted[target].shape[-1], np.float32))
    return converted, tuple(unused)


def _find_prefix(state_dict: Mapping[str, Any]) -> str:
    prefixes = sorted({name.removesuffix(_ANCHOR) for name in state_dict if name.endswith(_ANCHOR)})
    prefixes = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    if len(prefixes) != 1:
        found = f"several: {prefixes}" if prefixes else f"none, for example {list(state_dict)[:3]}"
        raise ValueError(
            f"The state dict must hold one ResNet, recognised by a weight called '[prefix.]{_ANCHOR}'. Received {found}"
        )
    return prefixes[0]


def translate_resnet_name(name: str) -> str | None:
    """The path here of a weight of a PyTorch ResNet, such as `layer1.0.conv2.weight`; `None` for what is none."""
    match = _LAYER.fullmatch(name)
    if match is None or (match["stage"] is None and (match["part"] or match["number"] != "1")):
        return None
    is_convolution = match["kind"] == "conv" or match["part"] == "0"
    weights = CONV_WEIGHTS if is_convolution else NORM_WEIGHTS
    if match["weight"] not in weights or (match["offset"] and not is_convolution):
        return None
    layer = "conv1"
    if match["stage"] is not None:
        # Stages count from the stem, which is the first; a shortcut is the block's convolution 0.
        layer = f"conv{int(match['stage']) + 1}_block{int(match['block']) + 1}_{match['number'] or 0}"
    offset = "offset_" if match["offset"] else ""
    return f"{layer}_{'conv' if is_convolution else 'bn'}/{offset}{weights[match['weight']]}"
