"""`tf-dcnv2 demo`: the whole way from images to an exported detector, on synthetic data."""

import argparse
import importlib
import shlex
from pathlib import Path

from tf_dcnv2_cli.arguments import positive_int, positive_number
from tf_dcnv2_cli.console import log

SUMMARY = "train, evaluate and export a small detector on synthetic images"

DESCRIPTION = """\
Draws a synthetic data set, converts it to TFRecords, trains the small DCNv2 preset with feature mimicking, measures
COCO average precision on held-out images, exports the detector with either kind of ops, checks that the exported models
give what the detector gives, and saves pictures of detections. Every step is a command that you can repeat on data of
your own; they are printed as they run. Takes about 10 minutes on 2 cores."""

EXAMPLES = """\
  tf-dcnv2 demo
  tf-dcnv2 demo --output /tmp/demo --max-minutes 4"""

_PRESET = "faster_rcnn_small_dcnv2"
_PICTURES = 9
# Without a cue from colour, the shapes alone take longer to tell apart than a demonstration should.
_COLOR_CUE = 0.75


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--output", default="runs/demo", metavar="DIR", help="folder of it all (default: %(default)s)")
    parser.add_argument(
        "--max-minutes", type=positive_number, default=5, metavar="M", help="of training (default: %(default)g)"
    )
    parser.add_argument(
        "--train-images", type=positive_int, default=400, metavar="N", help="to draw (default: %(default)s)"
    )
    parser.add_argument(
        "--val-images", type=positive_int, default=80, metavar="N", help="to draw (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of data and weights (default: %(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Runs the other commands one after the other."""
    from tf_dcnv2.data import make_synthetic_coco

    folder = Path(arguments.output)
    records = {split: folder / "records" / split for split in ("train", "val")}
    images_dirs = {}
    for split, count in (("train", arguments.train_images), ("val", arguments.val_images)):
        log("draw", f"{count} synthetic images in {folder / 'data' / 'images' / split}")
        images_dirs[split], annotations = make_synthetic_coco(
            folder / "data", num_images=count, seed=arguments.seed, split=split, color_cue=_COLOR_CUE
        )
        _command("convert", "--images", images_dirs[split], "--annotations", annotations, "--output", records[split])

    run_folder = folder / "run"
    data = ["--train", records["train"], "--val", records["val"]]
    budget = ["--max-minutes", arguments.max_minutes, "--evaluate-every", 5, "--seed", arguments.seed]
    images = ["--short-side", 192, "--max-side", 256, "--batch-size", 4, "--cache"]
    optimizer = ["--optimizer", "adam", "--schedule", "cosine", "--warmup-steps", 50, "--clip-norm", 10]
    _command("train", "--preset", _PRESET, "--output", run_folder, *data, *budget, *images, *optimizer)
    _command("evaluate", run_folder, "--records", records["val"])

    for ops in ("native", "portable"):
        _command("export", run_folder, "--output", folder / "exported" / ops, "--ops", ops, "--overwrite")
    _check_exported(run_folder, folder / "exported", records["val"])

    pictures = sorted(Path(images_dirs["val"]).iterdir())[:_PICTURES]
    _command("predict", run_folder, "--images", *pictures, "--output", folder / "pictures")
    grid = _save_grid(folder / "pictures", [picture.name for picture in pictures])
    log("done", f"look at {grid}")


def _command(name: str, *arguments: object) -> None:
    """Prints a command line and runs it here, where TensorFlow is loaded already."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ tf-dcnv2 {name} {shlex.join(words)}", flush=True)
    module = importlib.import_module(f"tf_dcnv2_cli.{name}")
    parser = argparse.ArgumentParser(prog=f"tf-dcnv2 {name}")
    module.add_arguments(parser)
    if module.run(parser.parse_args(words)):
        raise RuntimeError(f"tf-dcnv2 {name} failed")


def _check_exported(run_folder: Path, exported: Path, records: Path) -> None:
    """Compares the detector with its two SavedModels on one batch of images."""
    import numpy as np

    from tf_dcnv2.data import load_records
    from tf_dcnv2.export import load_exported
    from tf_dcnv2_cli.trained import load_trained

    detector = load_trained(run_folder).detector
    dataset = load_records(records, batch_size=2, short_side=detector.short_side, max_side=detector.max_side)
    inputs, _ = next(iter(dataset))
    expected = detector(inputs)
    print()
    for ops in ("native", "portable"):
        detections = load_exported(exported / ops, "network")(**inputs)
        for name, value in expected.items():
            # Another graph of the same numbers may round differently; boxes are hundreds of pixels.
            np.testing.assert_allclose(detections[name], value, rtol=1e-3, atol=1e-2, err_msg=f"{ops}: {name}")
        log("check", f"{exported / ops} gives the same {int(expected['num_detections'][0])} detections as the detector")


def _save_grid(folder: Path, names: list[str]) -> Path:
    from tf_dcnv2.data import read_image
    from tf_dcnv2.visualization import save_grid

    path = folder / "all.png"
    save_grid([read_image(folder / name) for name in names], path)
    return path
