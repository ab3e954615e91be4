"""Overfits a detector on four images: the first thing to try on new data, or after changing a network.

    python examples/overfit_four_images.py --images train2017 --annotations instances_train2017.json --output runs/four

Trains a small preset from scratch on the first images of a data set in COCO's layout (`--count`, four by default),
prints how well it finds their objects, and draws what is annotated beside what it detects. This takes ten minutes on
two cores. If `detector.keras` is in the output folder already, it is only scored and drawn.
"""

import argparse
import json
from pathlib import Path

import keras
import numpy as np

from tf_dcnv2.data import convert_coco, load_records, read_dataset_info
from tf_dcnv2.evaluation import evaluate_coco
from tf_dcnv2.models import FasterRCNN, load_preset
from tf_dcnv2.visualization import draw_annotations, draw_detections, save_grid

SIZE = {"batch_size": 4, "short_side": 320, "max_side": 448}
GREY = 170


def main() -> None:
    """Trains or loads the detector, scores it and draws."""
    arguments = parse()
    output = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    annotations, records = output / "annotations.json", output / "records"
    first_images(arguments.annotations, arguments.count, annotations)
    print(convert_coco(arguments.images, annotations, records))

    if (output / "detector.keras").exists():
        detector = keras.saving.load_model(output / "detector.keras", compile=False)
    else:
        keras.utils.set_random_seed(arguments.seed)
        detector = make(arguments.preset, records)
        overfit(detector, records, arguments.steps)
        detector.save(output / "detector.keras")
    for kind, metrics in evaluate_coco(detector, load_records(records, **SIZE), annotations=annotations).items():
        print(f"{kind}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}  AP75 {metrics['AP75']:.3f}")
    draw(detector, records, output / "overfit.png", photographs=not arguments.grey)


def first_images(annotations: Path, count: int, path: Path) -> None:
    """Writes the annotations of the first `count` images, with only the categories that occur in them."""
    content = json.loads(annotations.read_text())
    content["images"] = content["images"][:count]
    image_ids = {image["id"] for image in content["images"]}
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] in image_ids]
    used = {item["category_id"] for item in content["annotations"]}
    content["categories"] = [category for category in content["categories"] if category["id"] in used]
    path.write_text(json.dumps(content))


def make(preset: str, records: Path, **overrides) -> FasterRCNN:
    """Builds the detector of a preset for the categories of these records."""
    config = load_preset(preset).replace(**overrides)
    return config.build(read_dataset_info(records).category_ids)


def overfit(detector: FasterRCNN, records: Path, steps: int) -> dict[str, list[float]]:
    """Trains the detector on the records, without mimicking, and returns the losses of each quarter of the steps."""
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps, alpha=0.02)
    detector.compile(keras.optimizers.Adam(rate, global_clipnorm=10.0))
    images = load_records(records, training=True, masks=detector.has_mask_head, repeat=True, cache=True, seed=0, **SIZE)
    return detector.fit(images, steps_per_epoch=steps // 4, epochs=4, shuffle=False, verbose=2).history


def draw(detector: FasterRCNN, records: Path, path: Path, photographs: bool) -> None:
    """Draws two pictures of each image, annotated and detected; on plain grey unless with `photographs`."""
    names = read_dataset_info(records).categories
    pictures = []
    for inputs, targets in load_records(records, masks=detector.has_mask_head, **SIZE):
        detections = {name: value.numpy() for name, value in detector(inputs).items()}
        annotated = {
            name: targets[name].numpy()
            for name in ("boxes", "classes", "crowd", "masks", "mask_boxes")
            if name in targets
        }
        for index, (height, width) in enumerate(inputs["image_sizes"].numpy().astype(int)):
            image = inputs["images"][index, :height, :width].numpy()
            image = image if photographs else np.full_like(image, GREY)
            truth = {name: values[index] for name, values in annotated.items()}
            found = {
                name: detections[name][index] for name in ("boxes", "scores", "classes", "masks") if name in detections
            }
            pictures.append(draw_annotations(image, **truth, names=names))
            pictures.append(draw_detections(image, **found, names=names))
    save_grid(pictures, path, columns=4)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--annotations", type=Path, required=True, metavar="JSON", help="COCO instances file")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--preset", default="mask_rcnn_small_mdconv_c3_c5_mdpool", metavar="NAME")
    parser.add_argument("--count", type=int, default=4, metavar="N", help="images to overfit")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="steps of four images each")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--grey", action="store_true", help="draw on plain grey instead of the photographs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
