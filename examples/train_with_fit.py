"""The library instead of the command line: records, `model.fit`, COCO AP, export, on synthetic images.

    python examples/train_with_fit.py OUTPUT

Takes a few minutes; `tf-dcnv2 demo` does the same with more images, for longer.
"""

import sys
from pathlib import Path

import keras

from tf_dcnv2.data import convert_coco, load_records, make_synthetic_coco, read_dataset_info
from tf_dcnv2.evaluation import evaluate_coco
from tf_dcnv2.export import export_saved_model
from tf_dcnv2.models import FeatureMimicking, load_preset


def main(output: Path) -> None:
    for split, count in (("train", 100), ("val", 20)):
        images, annotations = make_synthetic_coco(output / "data", num_images=count, split=split, color_cue=0.75)
        print(convert_coco(images, annotations, output / "records" / split))

    info = read_dataset_info(output / "records/train")
    size = {"short_side": 192, "max_side": 256}
    train = load_records(output / "records/train", batch_size=4, training=True, cache=True, **size)
    val = load_records(output / "records/val", batch_size=4, **size)

    keras.utils.set_random_seed(0)
    config = load_preset("faster_rcnn_small_dcnv2")
    detector = config.build(info.category_ids)
    # Mimicking is a model around the detector, for training only: what is evaluated and exported is `detector`.
    model = FeatureMimicking(detector, config.mimic)
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=10.0))
    model.fit(train, epochs=8, shuffle=False, verbose=2)

    metrics = evaluate_coco(detector, val)["bbox"]
    print(f"AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
    detector.save(output / "detector.keras")
    print("exported to", export_saved_model(detector, output / "served" / "1", ops="portable", overwrite=True))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
