"""`tf-dcnv2 predict`: detections on image files, as pictures and JSON."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from tf_dcnv2.cli.arguments import add_image_size, add_run, image_size
from tf_dcnv2.cli.console import progress_bar, say
from tf_dcnv2.cli.errors import UsageError

SUMMARY = "detect objects on image files; draw them and write JSON"

DESCRIPTION = """\
Runs a trained detector on image files or folders of images. The output folder gets every image with its detections
drawn in, and detections.json: for every file its size and a list of category_id, category, score and bbox
[x, y, width, height] in pixels of the file, best first; from a Mask R-CNN also segmentation, COCO's run-length code."""

EXAMPLES = """\
  tf-dcnv2 predict runs/cells --images sample.jpg --output predictions
  tf-dcnv2 predict runs/cells --images val/ other/*.png --output predictions --min-score 0.3"""

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}
_SMALLEST_PICTURE_PX = 480


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="image files and folders of images")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for pictures and detections.json")
    parser.add_argument("--min-score", type=float, default=0.5, metavar="S", help="in 0..1 (default: %(default)s)")
    add_image_size(parser)


def run(arguments: argparse.Namespace) -> None:
    """Detects, draws and writes."""
    import json

    from tf_dcnv2.cli.trained import load_trained
    from tf_dcnv2.data import read_image
    from tf_dcnv2.data.atomic_files import write_atomically
    from tf_dcnv2.visualization import draw_detections, save_image

    if not 0 <= arguments.min_score <= 1:
        raise UsageError(f"--min-score must be between 0 and 1. Received: {arguments.min_score}")
    files = [file for path in arguments.images for file in _image_files(Path(path))]
    trained = load_trained(arguments.run_path)
    say("model", trained)
    detect = _Detect(trained.detector, image_size(arguments, trained.detector))
    output = Path(arguments.output)
    picture_paths = _picture_paths(files, output)
    report = []
    with progress_bar("predict") as progress:
        for done, (file, picture_path) in enumerate(zip(files, picture_paths, strict=True), start=1):
            image = read_image(file)
            detections = detect(image)
            zoom = max(1.0, _SMALLEST_PICTURE_PX / min(image.shape[:2]))
            picture = draw_detections(
                image, **detections, names=trained.names, min_score=arguments.min_score, zoom=zoom
            )
            save_image(picture, picture_path)
            height, width = image.shape[:2]
            found = _describe(detections, trained.names, arguments.min_score, height, width)
            report.append({"file_name": str(file), "height": height, "width": width, "detections": found})
            progress(done, len(files))
    json_path = output / "detections.json"
    write_atomically(str(json_path), json.dumps(report, indent=1))
    found = sum(len(entry["detections"]) for entry in report)
    say("found", f"{found} objects on {len(files)} images with a score of at least {arguments.min_score:g}")
    say("written", f"{json_path} and {len(files)} pictures such as {picture_paths[0]}")


class _Detect:
    """A detector from one image to its detections, all in the pixels of that image."""

    def __init__(self, detector, size: dict[str, int]):
        import tensorflow as tf

        self._size = size
        # One graph for images of all sizes.
        self._function = tf.function(
            lambda images, image_sizes: detector(images, image_sizes),
            input_signature=[tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, 2])],
        )

    def __call__(self, image):
        """Arrays `boxes` `(D, 4)`, `scores` `(D,)`, `classes` `(D,)` and perhaps `masks` of an `(H, W, 3)` image."""
        import numpy as np

        from tf_dcnv2.data import prepare_image

        inputs = prepare_image(image, **self._size)
        detections = {name: value[0].numpy() for name, value in self._function(**inputs).items()}
        count = detections.pop("num_detections")
        detections = {name: values[:count] for name, values in detections.items()}
        to_original = np.tile(image.shape[:2] / inputs["image_sizes"][0].numpy(), 2)
        return {**detections, "boxes": detections["boxes"] * to_original}


def _describe(detections: dict, names: dict[int, str], min_score: float, height: int, width: int) -> list[dict]:
    """The detections of one image as they are written to detections.json."""
    import numpy as np

    from tf_dcnv2.data.masks import compressed_rle
    from tf_dcnv2.evaluation import paste_mask

    described = []
    for index in np.flatnonzero(detections["scores"] >= min_score):
        y1, x1, y2, x2 = box = detections["boxes"][index]
        category_id = int(detections["classes"][index])
        described.append(
            {
                "category_id": category_id,
                "category": names[category_id],
                "score": round(float(detections["scores"][index]), 6),
                "bbox": [round(float(value), 2) for value in (x1, y1, x2 - x1, y2 - y1)],
            }
        )
        if "masks" in detections:
            mask = paste_mask(detections["masks"][index], box, height, width)
            described[-1]["segmentation"] = compressed_rle(mask)
    return described


def _image_files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        yield path
        return
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in _EXTENSIONS)
    if not files:
        raise FileNotFoundError(f"{path} holds no image ({', '.join(sorted(_EXTENSIONS))}).")
    yield from files


def _picture_paths(files: list[Path], output: Path) -> list[Path]:
    """One file per picture, also when images from several folders have the same name."""
    taken: set[str] = set()
    paths = []
    for file in files:
        name, number = file.stem, 1
        while name in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name)
        paths.append(output / f"{name}.jpg")
    return paths
