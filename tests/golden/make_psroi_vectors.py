"""Makes the vectors `psroi_*.npz` with MXNet's own DeformablePSROIPooling; see README.md.

python make_psroi_vectors.py OUTPUT_DIRECTORY      # needs mxnet 1.9.1 (Python 3.9, numpy < 1.24)
"""

import sys
from pathlib import Path

import mxnet as mx
import numpy as np

# name: (map height and width, channels, RoIs, pooled_size, part_size, spatial_scale, sample_per_part, trans_std)
CONFIGURATIONS = {
    "stride16": ((14, 18), 6, 5, 7, 7, 1 / 16, 4, 0.1),
    "stride8": ((13, 9), 4, 6, 3, 3, 1 / 8, 2, 0.1),
    "unscaled": ((10, 12), 3, 5, 4, 4, 1.0, 3, 0.5),
    "one_sample": ((8, 11), 5, 6, 2, 2, 1 / 8, 1, 0.5),
    "part_smaller_than_pooled": ((9, 9), 3, 4, 4, 2, 1 / 8, 2, 0.1),
    "no_trans": ((12, 10), 4, 5, 3, 3, 1 / 16, 2, 0.0),
}
IMAGES = 2


def make_rois(rng: np.random.Generator, count: int, image_size: np.ndarray) -> np.ndarray:
    """RoIs `[image, x1, y1, x2, y2]` of any size, some partly outside the image.

    The first is wholly outside, the second has corners halfway between pixels, the last has no area.
    """
    height, width = image_size
    corners = np.sort(rng.uniform(-0.3, 1.3, size=(count, 2, 2)), axis=1) * [width, height]
    corners[1] = np.floor(corners[1]) + 0.5
    corners[-1] = [width * 0.4, height * 0.6]
    corners[0] = [[width * 1.2, height * 1.2], [width * 1.5, height * 1.5]]
    images = rng.integers(0, IMAGES, size=(count, 1))
    return np.concatenate([images, corners.reshape(count, 4)], axis=1).astype(np.float32)


def make_vectors(rng, map_size, channels, count, pooled_size, part_size, scale, samples, trans_std) -> dict:
    data = rng.standard_normal((IMAGES, channels, *map_size)).astype(np.float32)
    rois = make_rois(rng, count, np.array(map_size) / scale)
    trans = rng.standard_normal((count, 2, part_size, part_size)).astype(np.float32)
    dy = rng.standard_normal((count, channels, pooled_size, pooled_size)).astype(np.float32)
    attributes = {
        "spatial_scale": scale,
        "output_dim": channels,
        "group_size": 1,
        "pooled_size": pooled_size,
        "part_size": part_size,
        "sample_per_part": samples,
        "trans_std": trans_std,
        "no_trans": trans_std == 0,
    }
    inputs = [mx.nd.array(data), mx.nd.array(rois)] + ([] if attributes["no_trans"] else [mx.nd.array(trans)])
    for differentiable in (inputs[0], *inputs[2:]):
        differentiable.attach_grad()
    with mx.autograd.record():
        y = mx.nd.contrib.DeformablePSROIPooling(*inputs, **attributes)
    y.backward(mx.nd.array(dy))
    vectors = {"data": data, "rois": rois, "dy": dy, "y": y.asnumpy(), "ddata": inputs[0].grad.asnumpy()}
    if not attributes["no_trans"]:
        vectors.update(trans=trans, dtrans=inputs[2].grad.asnumpy())
    return {**vectors, **attributes}


def main(directory: str) -> None:
    for seed, (name, configuration) in enumerate(CONFIGURATIONS.items()):
        vectors = make_vectors(np.random.default_rng(seed), *configuration)
        np.savez_compressed(Path(directory) / f"psroi_{name}.npz", **vectors)


if __name__ == "__main__":
    main(sys.argv[1])
