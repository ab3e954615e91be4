"""Detections from an exported model with TensorFlow alone, without this package.

    tf-dcnv2 export runs/cells --output served/cells/1 --ops portable
    python examples/serve.py served/cells/1 image.jpg another.png

The model decodes and resizes; boxes are in pixels of the files. examples/serving/client.py asks a TensorFlow Serving
instead.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf


def main(model_path: str, *image_paths: str) -> None:
    detect = tf.saved_model.load(model_path).signatures["serving_bytes"]
    labels = json.loads((Path(model_path) / "assets.extra" / "labels.json").read_text(encoding="utf-8"))
    for path in image_paths:
        detections = {name: value[0] for name, value in detect(image_bytes=tf.io.read_file(path)[None]).items()}
        for index in tf.where(detections["scores"] >= 0.5)[:, 0]:
            box = ", ".join(f"{value:.0f}" for value in detections["boxes"][index].numpy())
            score, category_id = detections["scores"][index], detections["classes"][index]
            print(f"{path}: {labels[str(category_id.numpy())]}, score {score:.2f}, y1 x1 y2 x2 {box}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
