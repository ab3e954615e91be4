"""`tf-dcnv2 predict`: detections on images and videos, as pictures, JSON and COCO results."""

import argparse
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_dcnv2_cli.arguments import add_image_size, add_run, add_tta, image_size, positive_int, with_tta
from tf_dcnv2_cli.console import log, progress_bar
from tf_dcnv2_cli.errors import UsageError
from tf_dcnv2_cli.findings import show_skipped
from tf_dcnv2_cli.offsets import log_offsets
from tf_dcnv2_cli.prediction_inputs import Look, Source, find_sources, read_source
from tf_dcnv2_cli.prediction_results import FORMATS, PredictionResults

SUMMARY = "detect objects on images and videos; draw them and write JSON"

DESCRIPTION = """\
Runs a trained detector on image files, videos, folders of both, and patterns. The output folder gets every image, or
frame, with its detections drawn in, and detections.json: for every image its file, size and a list of category_id,
category, score and bbox [x, y, width, height] in pixels of the file, best first; from a Mask R-CNN also segmentation,
COCO's run-length code. Entries of video frames have frame and time_s too. --format jsonl writes an entry a line
instead, coco the detections alone in COCO's results format.
What was found is on the disk at once, in detections.jsonl, whatever ends the command. A file that cannot be read is
skipped; detections.skipped.json lists these, and the exit status is 1."""

EXAMPLES = """\
  tf-dcnv2 predict runs/cells --images sample.jpg --output predictions
  tf-dcnv2 predict runs/cells --images val/ 'other/**/*.png' --output predictions --min-score 0.3
  tf-dcnv2 predict runs/traffic --images street.mp4 --every 10 --batch-size 8 --output predictions
  tf-dcnv2 predict runs/coco --images val2017/ --output submission --no-pictures --min-score 0.05 --format coco \\
      --image-ids instances_val2017.json"""

_SMALLEST_PICTURE_PX = 480
# Marks the pictures of an earlier prediction, which may be replaced, unlike other people's photographs.
_COMMENT = "detections of tf-dcnv2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add_run(parser)
    parser.add_argument(
        "--images", required=True, nargs="+", metavar="PATH", help="images, videos, folders of them, and patterns"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for pictures and detections.json")
    parser.add_argument("--min-score", type=float, default=0.5, metavar="S", help="in 0..1 (default: %(default)s)")
    parser.add_argument(
        "--format",
        nargs="+",
        choices=FORMATS,
        default=["json"],
        metavar="FORMAT",
        help="json (default), jsonl: a line for each image, coco: COCO's results",
    )
    parser.add_argument(
        "--image-ids",
        metavar="JSON",
        help="annotation file from which COCO's results take the images' ids, by the files' names (default: 1, 2, ...)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write no pictures")
    parser.add_argument("--every", type=positive_int, default=1, metavar="N", help="look at each Nth frame of videos")
    parser.add_argument(
        "--batch-size",
        type=positive_int,
        default=1,
        metavar="N",
        help="images at once, padded to the largest of them (default: %(default)s)",
    )
    parser.add_argument(
        "--orientation",
        choices=("as-trained", "upright", "stored"),
        default="as-trained",
        help="of images with an EXIF rotation: turned upright or as stored in the file (default: as the detector's "
        "training images were)",
    )
    add_image_size(parser)
    add_tta(parser)


def run(arguments: argparse.Namespace) -> int:
    """Detects, draws and writes; 1 if some file could not be read."""
    from tf_dcnv2._core.output_files import ensure_writable
    from tf_dcnv2.data.images.videos import require_video_reader
    from tf_dcnv2.visualization import unwritable_names
    from tf_dcnv2_cli.trained import load_trained

    if not 0 <= arguments.min_score <= 1:
        raise UsageError(f"--min-score must be between 0 and 1. Received: {arguments.min_score}")
    if arguments.image_ids and "coco" not in arguments.format:
        raise UsageError("--image-ids is for COCO's results: add --format coco")
    output = Path(arguments.output)
    sources = find_sources(arguments.images, output)
    if any(source.is_video for source in sources):
        require_video_reader()
    results = PredictionResults(output, list(dict.fromkeys(arguments.format)))
    inputs = [*(source.path for source in sources), *([Path(arguments.image_ids)] if arguments.image_ids else [])]
    pictures = [] if arguments.no_pictures else _known_pictures(sources)
    results.check(inputs, pictures)
    _require_ours(pictures)
    image_ids = _image_ids(arguments, sources)
    trained = load_trained(arguments.run_path, allow_non_finite=arguments.allow_non_finite)
    ensure_writable(results.paths[0])
    log("model", trained)
    if names := unwritable_names(trained.names.values()):
        log("note", f"no font here has the characters of {', '.join(names)}: pictures show ids; install Noto Sans CJK")
    prediction = _Prediction(trained, arguments, results, image_ids)
    total = None if any(source.is_video for source in sources) else len(sources)
    try:
        with progress_bar("predict") as progress:
            looks = prediction.read(sources)
            while batch := list(itertools.islice(looks, arguments.batch_size)):
                prediction.add(batch)
                progress(results.images + len(results.findings.skipped), total)
    finally:
        results.finish()
    log(
        "found",
        f"{results.objects} objects on {results.images} images with a score of at least {arguments.min_score:g}",
    )
    if results.images:
        first = prediction.first_picture
        drawn = f" and {results.images} pictures such as {first}" if first else ""
        log("written", f"{', '.join(map(str, results.paths))}{drawn}")
    if skipped := results.findings.skipped:
        show_skipped(skipped, str(results.report_path))
        log("failed", f"{len(skipped)} of {len(sources)} files could not be read")
    return 1 if skipped else 0


class _Prediction:
    """Detects on images, and draws and records what is found."""

    def __init__(
        self, trained, arguments: argparse.Namespace, results: PredictionResults, image_ids: Mapping[str, Any] | None
    ):
        self.first_picture: Path | None = None
        self._results, self._image_ids = results, image_ids
        self._draws, self._every = not arguments.no_pictures, arguments.every
        self._numbered = "coco" in arguments.format
        self._names = trained.names
        self._min_score = arguments.min_score
        orientation = trained.orientation if arguments.orientation == "as-trained" else arguments.orientation
        self._upright = orientation == "upright"
        self._trained = trained.detector
        self._detector = with_tta(arguments, trained.detector)
        self._size = image_size(arguments, self._detector)

    def read(self, sources: Sequence[Source]) -> Iterator[Look]:
        """Reads the sources one after the other; one that cannot be read is noted and left out."""
        for source in sources:
            try:
                yield from read_source(source, upright=self._upright, every=self._every)
            except (ValueError, MemoryError) as error:
                self._skip(source.path, error)

    def add(self, looks: Sequence[Look]) -> None:
        """Detects on a few images at once, or one by one where that fails; one that cannot be used is left out."""
        import tensorflow as tf

        from tf_dcnv2.analysis import network_image

        failures = (ValueError, MemoryError, tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError)
        try:
            found = self._detector.detect([look.image for look in looks], batch_size=len(looks), **self._size)
        except failures as error:
            if len(looks) == 1:
                self._skip(Path(looks[0].fields["file_name"]), error)
            else:
                for look in looks:
                    self.add([look])
            return
        is_first = not self._results.images
        for look, detections in zip(looks, found, strict=True):
            self._record(look, detections)
        if is_first:
            log_offsets(self._trained, network_image(self._trained, looks[0].image, **self._size))

    def _record(self, look: Look, detections: dict) -> None:
        from tf_dcnv2.visualization import draw_detections, save_image

        height, width = look.image.shape[:2]
        whole_pixels = self._detector.whole_pixel_masks
        described = _describe(detections, self._names, self._min_score, height, width, whole_pixels)
        entry = {**look.fields, "height": height, "width": width, "detections": described}
        if self._numbered:
            ids = self._image_ids
            entry["image_id"] = self._results.images + 1 if ids is None else ids[Path(look.fields["file_name"]).name]
        if self._draws:
            zoom = _zoom(height, width)
            picture = draw_detections(look.image, **detections, names=self._names, min_score=self._min_score, zoom=zoom)
            save_image(picture, look.picture, comment=_COMMENT)
            entry["picture"] = str(look.picture)
            self.first_picture = self.first_picture or look.picture
        self._results.add(entry)

    def _skip(self, path: Path, error: Exception) -> None:
        self._results.findings.skip("file", str(path), _reason(error).removeprefix(f"{path} "))


def _image_ids(arguments: argparse.Namespace, sources: Sequence[Source]) -> dict[str, Any] | None:
    """File name -> image id of an annotation file, for every source; None where they are numbered.

    Raises:
        UsageError: it has no image of some file, or there are videos, which it cannot have.
    """
    import json

    if not arguments.image_ids:
        return None
    try:
        content = json.loads(Path(arguments.image_ids).read_text(encoding="utf-8"))
        ids = {Path(image["file_name"]).name: image["id"] for image in content["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{arguments.image_ids} is no annotation file with the names and ids of images") from error
    if missing := [source.path for source in sources if source.is_video or source.path.name not in ids]:
        raise UsageError(f"{arguments.image_ids} has no image id for {missing[0]} ({len(missing)} files are missing)")
    return ids


def _zoom(height: int, width: int) -> float:
    """Computes how much larger than its image a picture is, for labels to be readable and JPEG to take it."""
    from tf_dcnv2.data.images.files import LARGEST_JPEG_PX

    shorter, longer = sorted((height, width))
    readable = max(1.0, _SMALLEST_PICTURE_PX / shorter) if longer < 20 * shorter else 1.0
    return min(readable, LARGEST_JPEG_PX / longer)


def _reason(error: Exception) -> str:
    from tf_dcnv2_cli.errors import describe

    return "it does not fit into memory" if isinstance(error, MemoryError) else describe(error)


def _known_pictures(sources: Sequence[Source]) -> list[Path]:
    """The pictures that will be written, of videos those that are there already."""
    pictures: list[Path] = []
    for source in sources:
        if source.is_video and source.picture.exists() and not source.picture.is_dir():
            raise FileExistsError(
                f"{source.picture} exists and is no folder. Choose another output, or move that file."
            )
        pictures += source.picture.glob("*.jpg") if source.is_video else [source.picture]
    return pictures


def _require_ours(pictures: Sequence[Path]) -> None:
    """Refuses to replace pictures that were not written by an earlier prediction."""
    from tf_dcnv2._core.output_files import refuse_foreign

    for path in pictures:
        if path.exists():
            refuse_foreign(path, _is_picture_of_ours(path), "a picture of an earlier prediction")


def _is_picture_of_ours(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.info.get("comment", b"") == _COMMENT.encode()
    except OSError:
        return False


def _describe(
    detections: dict, names: dict[int, str], min_score: float, height: int, width: int, whole_pixels: bool
) -> list[dict]:
    """The detections of one image as they are written to detections.json."""
    import numpy as np

    from tf_dcnv2._core.masks import pasted_rle

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
            code = pasted_rle(detections["masks"][index], box, height, width, whole_pixels=whole_pixels)
            described[-1]["segmentation"] = code
    return described
