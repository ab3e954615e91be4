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


def load_image(path: str, short_side: int, max_side: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """An image prepared as in training, its size without padding, and the factor from its pixels to the file's."""
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    file_size = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.minimum(short_side / tf.reduce_min(file_size), max_side / tf.reduce_max(file_size))
    height, width = tf.unstack(tf.cast(tf.round(file_size * scale), tf.int32))
    resized = tf.round(tf.image.resize(image, (height, width)))
    # Multiples of 32, the coarsest stride; a batch would be padded to its largest image.
    padded = tf.image.pad_to_bounding_box(resized, 0, 0, -(-height // 32) * 32, -(-width // 32) * 32)
    size = tf.cast(tf.stack([height, width]), tf.float32)
    return padded, size, file_size / size


def main(model_path: str, short_side: str, max_side: str, *image_paths: str) -> None:
    model = tf.saved_model.load(model_path)
    detect = model.signatures["serving_default"]
    for path in image_paths:
        image, size, to_file = load_image(path, int(short_side), int(max_side))
        outputs = detect(images=image[None], image_sizes=size[None])
        detections = {name: value[0] for name, value in outputs.items()}
        boxes = detections["boxes"] * tf.tile(to_file, [2])
        for index in tf.where(detections["scores"] >= 0.5)[:, 0]:
            box = ", ".join(f"{value:.0f}" for value in boxes[index].numpy())
            score, category_id = detections["scores"][index], detections["classes"][index]
            print(f"{path}: class {category_id}, score {score:.2f}, y1 x1 y2 x2 {box}")


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
