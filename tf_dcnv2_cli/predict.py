"""`tf-dcnv2 predict`: detections on image files, as pictures and JSON."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tf_dcnv2_cli.arguments import add_image_size, add_run, image_size
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.findings import show_skipped

SUMMARY = "detect objects on image files; draw them and write JSON"

DESCRIPTION = """\
Runs a trained detector on image files or folders of images. The output folder gets every image with its detections
drawn in, and detections.json: for every file its size and a list of category_id, category, score and bbox
[x, y, width, height] in pixels of the file, best first; from a Mask R-CNN also segmentation, COCO's run-length code.
A file that cannot be read is skipped; detections.skipped.json lists these, and the exit status is 1."""

EXAMPLES = """\
  tf-dcnv2 predict runs/cells --images sample.jpg --output predictions
  tf-dcnv2 predict runs/cells --images val/ other/*.png --output predictions --min-score 0.3"""

_EXTENSIONS = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
_EXTENSIONS |= {".jp2", ".avif", ".ppm", ".pgm", ".pnm", ".tga", ".dds"}
_RESULTS, _REPORT = "detections.json", "detections.skipped.json"
_SMALLEST_PICTURE_PX = 480
_SECONDS_BETWEEN_REPORTS = 30
# Marks the pictures of an earlier prediction, which may be replaced, unlike other people's photographs.
_COMMENT = "detections of tf-dcnv2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument("--images", required=True, nargs="+", metavar="PATH", help="image files and folders of images")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for pictures and detections.json")
    parser.add_argument("--min-score", type=float, default=0.5, metavar="S", help="in 0..1 (default: %(default)s)")
    parser.add_argument(
        "--orientation",
        choices=("as-trained", "upright", "stored"),
        default="as-trained",
        help="of images with an EXIF rotation: turned upright or as stored in the file (default: as the detector's "
        "training images were)",
    )
    add_image_size(parser)


def run(arguments: argparse.Namespace) -> int:
    """Detects, draws and writes; 1 if some file could not be read."""
    from tf_dcnv2._core.output_files import ensure_writable
    from tf_dcnv2.visualization import unwritable_names
    from tf_dcnv2_cli.trained import load_trained

    if not 0 <= arguments.min_score <= 1:
        raise UsageError(f"--min-score must be between 0 and 1. Received: {arguments.min_score}")
    files = [file for path in arguments.images for file in _image_files(Path(path))]
    output = Path(arguments.output)
    pictures = _picture_paths(files, output)
    _check_output(files, pictures, output)
    trained = load_trained(arguments.run_path, allow_non_finite=arguments.allow_non_finite)
    ensure_writable(output / _RESULTS)
    log("model", trained)
    if names := unwritable_names(trained.names.values()):
        log("note", f"no font here has the characters of {', '.join(names)}: pictures show ids; install Noto Sans CJK")
    prediction = _Prediction(trained, arguments, output)
    try:
        with progress_bar("predict") as progress:
            for done, (file, picture) in enumerate(zip(files, pictures, strict=True), start=1):
                prediction.add(file, picture)
                progress(done, len(files))
    finally:
        if prediction.entries or prediction.findings.skipped:  # however it ends, what was found is kept
            prediction.save()
    found = sum(len(entry["detections"]) for entry in prediction.entries)
    count = len(prediction.entries)
    log("found", f"{found} objects on {count} images with a score of at least {arguments.min_score:g}")
    if prediction.entries:
        log("written", f"{prediction.path} and {count} pictures such as {prediction.entries[0]['picture']}")
    if skipped := prediction.findings.skipped:
        show_skipped(skipped, str(prediction.report_path))
        log("failed", f"{len(skipped)} of {len(files)} files could not be read")
    return 1 if skipped else 0


class _Prediction:
    """Keeps what was detected so far, and the files that hold it."""

    def __init__(self, trained, arguments: argparse.Namespace, output: Path):
        from tf_dcnv2.data.findings import Findings

        self.path = output / _RESULTS
        self.report_path = output / _REPORT
        self.entries: list[dict] = []
        self.findings = Findings()
        self._names = trained.names
        self._min_score = arguments.min_score
        orientation = trained.orientation if arguments.orientation == "as-trained" else arguments.orientation
        self._upright = orientation == "upright"
        self._detector = trained.detector
        self._size = image_size(arguments, trained.detector)
        self._saved = time.monotonic()

    def add(self, file: Path, picture_path: Path) -> None:
        """Detects and draws on one image; one that cannot be used is noted and left out."""
        import tensorflow as tf

        from tf_dcnv2.data import read_image
        from tf_dcnv2.visualization import draw_detections, save_image

        try:
            image = read_image(file, upright=self._upright)
            detections = self._detector.detect(image, **self._size)
        except (ValueError, MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError) as error:
            self.findings.skip("file", str(file), _reason(error).removeprefix(f"{file} "))
            return
        height, width = image.shape[:2]
        zoom = _zoom(height, width)
        picture = draw_detections(image, **detections, names=self._names, min_score=self._min_score, zoom=zoom)
        save_image(picture, picture_path, comment=_COMMENT)
        whole_pixels = self._detector.whole_pixel_masks
        found = _describe(detections, self._names, self._min_score, height, width, whole_pixels)
        entry = {"file_name": str(file), "height": height, "width": width, "detections": found}
        self.entries.append(entry | {"picture": str(picture_path)})
        if time.monotonic() - self._saved > _SECONDS_BETWEEN_REPORTS:
            self.save()

    def save(self) -> None:
        """Writes everything found so far."""
        import json

        from tf_dcnv2._core.atomic_files import write_atomically
        from tf_dcnv2.data.findings import write_report

        write_atomically(self.path, json.dumps(self.entries, indent=1))
        write_report(self.report_path, self.findings)
        self._saved = time.monotonic()


def _zoom(height: int, width: int) -> float:
    """Computes how much larger than its image a picture is, for labels to be readable and JPEG to take it."""
    from tf_dcnv2.data.images.files import LARGEST_JPEG_PX

    shorter, longer = sorted((height, width))
    readable = max(1.0, _SMALLEST_PICTURE_PX / shorter) if longer < 20 * shorter else 1.0
    return min(readable, LARGEST_JPEG_PX / longer)


def _reason(error: Exception) -> str:
    from tf_dcnv2_cli.errors import describe

    return "it does not fit into memory" if isinstance(error, MemoryError) else describe(error)


def _check_output(files: Sequence[Path], pictures: Sequence[Path], output: Path) -> None:
    """Refuses to overwrite what was not written by an earlier prediction, before anything is computed."""
    from tf_dcnv2._core.output_files import refuse_foreign, refuse_overwriting
    from tf_dcnv2.data.findings import refuse_foreign_report

    json_path = output / _RESULTS
    report_path = output / _REPORT
    refuse_overwriting([*pictures, json_path, report_path], files)
    refuse_foreign_report(report_path)
    for path in pictures:
        if path.exists():
            refuse_foreign(path, _is_picture_of_ours(path), "a picture of an earlier prediction")
    refuse_foreign(json_path, json_path.is_file() and _starts_as_ours(json_path), "of an earlier prediction")


def _is_picture_of_ours(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.info.get("comment", b"") == _COMMENT.encode()
    except OSError:
        return False


def _starts_as_ours(path: Path) -> bool:
    with open(path, "rb") as file:
        start = file.read(200).split()
    return start[:1] == [b"[]"] or start[:3] == [b"[", b"{", b'"file_name":']


def _describe(
    detections: dict, names: dict[int, str], min_score: float, height: int, width: int, whole_pixels: bool
) -> list[dict]:
    """The detections of one image as they are written to detections.json."""
    import numpy as np

    from tf_dcnv2._core.masks import compressed_rle, paste_mask

    described = []
    usable = (detections["scores"] >= min_score) & np.isfinite(detections["boxes"]).all(axis=1)
    for index in np.flatnonzero(usable):
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
            mask = paste_mask(detections["masks"][index], box, height, width, whole_pixels=whole_pixels)
            described[-1]["segmentation"] = compressed_rle(mask)
    return described


def _image_files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        yield path
        return
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if not entry.is_dir()]
    images = [file for file in files if file.suffix.lower() in _EXTENSIONS]
    if not images:
        raise FileNotFoundError(f"{path} holds no image ({', '.join(sorted(_EXTENSIONS))}).")
    if others := sorted(set(files) - set(images)):
        log(
            "note", f"{len(others)} files in {path} do not look like images, such as {others[0].name}: name them to try"
        )
    if folders := [entry.name for entry in entries if entry.is_dir()]:
        log("note", f"{len(folders)} folders in {path} are not searched, such as {folders[0]}: name them to do so")
    yield from images


def _picture_paths(files: list[Path], output: Path) -> list[Path]:
    """One file per picture, also when images from several folders have the same name."""
    taken: set[str] = set()
    paths = []
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        paths.append(output / f"{name}.jpg")
    return paths
