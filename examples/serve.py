"""Detections from an exported model with TensorFlow alone, without this package.

    tf-dcnv2 export runs/cells --output served/cells/1 --ops portable
    python examples/serve.py served/cells/1 320 448 image.jpg

320 and 448 are the short side and the bound of the long side that the detector was trained with (`config.yaml` of the
run). The same model runs in TensorFlow Serving, which takes the same two tensors:

    docker run -p 8501:8501 -v $PWD/served/cells:/models/cells -e MODEL_NAME=cells tensorflow/serving
    curl -d '{"inputs": {"images": [[[[0, 0, 0], ...]]], "image_sizes": [[320, 426]]}}' \\
        localhost:8501/v1/models/cells:predict
"""

import sys

import tensorflow as tf


def load_image(path: str, short_side: int, max_side: int) -> tuple[tf.Tensor, tf.Tensor]:
    """An RGB image resized as in training, and the factor from its pixels to those of the file."""
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(short_side / tf.reduce_min(size), max_side / tf.reduce_max(size))
    resized = tf.round(tf.image.resize(image, tf.cast(tf.round(size * scale), tf.int32)))
    return resized, size / tf.cast(tf.shape(resized)[:2], tf.float32)


def main(model_path: str, short_side: str, max_side: str, *image_paths: str) -> None:
    model = tf.saved_model.load(model_path)
    detect = model.signatures["serving_default"]
    for path in image_paths:
        image, to_file = load_image(path, int(short_side), int(max_side))
        # One image needs no padding. In a batch, pad at the bottom and right and state the sizes without it.
        image_sizes = tf.cast(tf.shape(image)[:2], tf.float32)[None]
        detections = {name: value[0] for name, value in detect(images=image[None], image_sizes=image_sizes).items()}
        boxes = detections["boxes"] * tf.tile(to_file, [2])
        for index in tf.where(detections["scores"] >= 0.5)[:, 0]:
            box = ", ".join(f"{value:.0f}" for value in boxes[index].numpy())
            score, category_id = detections["scores"][index], detections["classes"][index]
            print(f"{path}: class {category_id}, score {score:.2f}, y1 x1 y2 x2 {box}")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
