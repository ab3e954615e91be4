"""`tf-dcnv2 train`: a preset trained on records, kept in a run folder."""

import argparse
import shlex
from pathlib import Path

from tf_dcnv2_cli.arguments import add_augmentation, parse_setting
from tf_dcnv2_cli.console import log
from tf_dcnv2_cli.direct_data import add_images_of, records_of
from tf_dcnv2_cli.errors import UsageError

SUMMARY = "train a detector on records"

DESCRIPTION = """\
Trains a preset on TFRecords from `tf-dcnv2 convert` and keeps everything in a run folder: config.yaml, best.keras
(highest AP on --val), last.keras, log.csv. The run ends when the first of --epochs, --steps and --max-minutes is used
up; the learning rate follows the fraction of it that is gone.

A checkpoint is written at the end of every epoch, every ten minutes, and when SIGINT (Ctrl-C) or SIGTERM ends the run.
--resume continues from the last one, with the images in the order that they would have come in, and with the run's own
settings for everything that is left out. What the weights belong to (preset, --set, batch size, optimizer, image size,
...) and the images, boxes and categories have to stay. A finished run stays as it is, or goes on with a larger budget:
the learning rate then follows the fraction of the new budget."""

EXAMPLES = """\
  # annotations and images as they are: converted once, into runs/cells.records
  tf-dcnv2 train --preset faster_rcnn_small_dcnv2 --train train.json --train-images train/ --val val.json \\
      --val-images val/ --output runs/cells --max-minutes 30
  # from scratch on a CPU, half an hour
  tf-dcnv2 train --preset faster_rcnn_small_dcnv2 --train records/train --val records/val --output runs/cells \\
      --max-minutes 30 --batch-size 4 --optimizer adam --schedule cosine
  # the paper's recipe
  tf-dcnv2 train --preset faster_rcnn_r50_dcnv2 --train 'records/train-*' --val 'records/val-*' --output runs/coco \\
      --weights imagenet --epochs 16 --batch-size 8
  # other settings of the preset; continue a run that was stopped
  tf-dcnv2 train ... --set box_head.samples=256 --set rpn.anchor_sizes=[16,32,64]
  tf-dcnv2 train --resume --output runs/cells
  # let a finished run go on: 60 minutes in all
  tf-dcnv2 train --resume --output runs/cells --max-minutes 60"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments; each that is given becomes the field of that name in `TrainOptions`."""
    # What is not given stays out of the namespace, so that the defaults live in one place, `TrainOptions`.
    parser.argument_default = argparse.SUPPRESS

    required = parser.add_argument_group("what to train")
    # --resume needs neither of the first two, so that `run` has to look whether they are there.
    required.add_argument(
        "--preset", metavar="NAME", help="such as faster_rcnn_r50_dcnv2; `tf-dcnv2 presets` lists all"
    )
    required.add_argument("--train", metavar="PREFIX", help="records to train on: prefix or pattern")
    add_images_of(required, "--train-images", "--train")
    required.add_argument("--val", metavar="PREFIX", help="records to evaluate on")
    add_images_of(required, "--val-images", "--val")
    required.add_argument("--output", required=True, metavar="DIR", help="folder of the run")
    required.add_argument(
        "--weights",
        metavar="WHICH",
        help="start from: 'imagenet', a .keras or .weights.h5 file, or a PyTorch checkpoint (.pth, .pt, .safetensors)",
    )
    required.add_argument(
        "--mimic",
        action=argparse.BooleanOptionalAction,
        help="train with R-CNN feature mimicking (default: as the preset)",
    )
    required.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="change a setting of the preset; may be repeated"
    )

    budget = parser.add_argument_group("how long")
    budget.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the data (default: 16 if no budget is given)"
    )
    budget.add_argument("--steps", type=int, metavar="N", help="optimizer steps")
    budget.add_argument("--max-minutes", type=float, metavar="M", help="wall-clock time, evaluations included")
    budget.add_argument(
        "--patience", type=int, metavar="N", help="end after N evaluations without a better AP (default: never)"
    )
    budget.add_argument("--resume", action="store_true", help="continue the run found in --output")
    budget.add_argument(
        "--checkpoint-minutes", type=float, metavar="M", help="write a checkpoint inside an epoch too (default: 10)"
    )
    budget.add_argument("--checkpoint-steps", type=int, metavar="N", help="likewise, after N steps (default: none)")

    optimizer = parser.add_argument_group("optimisation")
    optimizer.add_argument("--batch-size", type=int, metavar="N", help="images per step (default: 2)")
    optimizer.add_argument(
        "--accumulate", type=int, metavar="N", help="compute a batch in N parts, for less memory (default: 1)"
    )
    optimizer.add_argument(
        "--strategy",
        choices=("one", "mirrored", "multiworker"),
        help="one device (default), all of this machine, or those of all processes in TF_CONFIG",
    )
    optimizer.add_argument(
        "--precision",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
        help="what layers compute in (default: float32)",
    )
    optimizer.add_argument("--optimizer", choices=("sgd", "adam", "adamw"), help="default: sgd, with momentum 0.9")
    optimizer.add_argument(
        "--learning-rate", type=float, metavar="LR", help="peak (default: 0.02 per 16 images for sgd, 0.001 otherwise)"
    )
    optimizer.add_argument(
        "--schedule", choices=("step", "cosine"), help="default: step, divided by 10 at 10/16 and 14/16 of the run"
    )
    optimizer.add_argument("--warmup-steps", type=int, metavar="N", help="of linear warm-up (default: 500)")
    optimizer.add_argument("--clip-norm", type=float, metavar="G", help="bound of the gradient's norm (default: none)")
    for name, metavar, description in (
        ("offset_clip", "PX", "bound of the offsets, in cells of a map (default: none)"),
        ("offset_learning_rate_multiplier", "X", "rate of offsets, relative to the others' (default: 0.1)"),
    ):
        # Settings of the preset, as --set would give them.
        option, setting = f"--{name.replace('_', '-')}", f"backbone.{name}={{}}".format
        optimizer.add_argument(option, dest="set", action="append", type=setting, metavar=metavar, help=description)
    optimizer.add_argument(
        "--ema", type=float, metavar="D", help="decay per step of a moving average of the weights (default: none)"
    )

    images = parser.add_argument_group("images")
    images.add_argument("--short-side", type=int, metavar="PX", help="shorter side (default: the preset's)")
    images.add_argument("--max-side", type=int, metavar="PX", help="bound of the longer (default: the preset's)")
    add_augmentation(images)
    images.add_argument("--cache", action="store_true", help="keep decoded images in memory")

    other = parser.add_argument_group("other")
    other.add_argument("--evaluate-every", type=int, metavar="N", help="epochs between evaluations (default: 1)")
    other.add_argument(
        "--pictures", type=int, metavar="N", help="images of --val to draw after each evaluation (default: 4)"
    )
    other.add_argument(
        "--tensorboard", action=argparse.BooleanOptionalAction, help="write the folder's tensorboard/ (default: yes)"
    )
    other.add_argument(
        "--best-by", choices=("box", "mask"), help="whose AP chooses best.keras, and --patience follows (default: box)"
    )
    other.add_argument("--seed", type=int, metavar="N", help="of initial weights, shuffling and sampling")
    other.add_argument(
        "--deterministic", action="store_true", help="the same weights, bit by bit, for the same seed (slower)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains, with a line per epoch, and says what to do next."""
    from tf_dcnv2.training import TrainingStopped, describe_finished, finished_state, train
    from tf_dcnv2_cli.training_report import TrainingReport

    options = _options(arguments)
    output = shlex.quote(options.output)
    if (finished := finished_state(options)) is not None:
        log("finished", describe_finished(options, finished))
    else:
        report = TrainingReport(options)
        try:
            result = train(options, log=log, callbacks=[report])
        except TrainingStopped as stopped:
            log("stopped", f"after {stopped.steps} steps, which are saved")
            log("next", f"tf-dcnv2 train --resume --output {output}")
            return
        finally:
            report.close()
        log("done", f"{result.steps} steps in {result.seconds / 60:.1f} minutes")
    if options.val:
        log("next", f"tf-dcnv2 evaluate {output} --records {shlex.quote(options.val)}")
    log("next", f"tf-dcnv2 export {output} --output exported/{shlex.quote(Path(options.output).name)}")


def _options(arguments: argparse.Namespace):
    """The `TrainOptions` of the arguments, those of the run in the folder included where it is resumed."""
    from tf_dcnv2.models.presets import load_preset
    from tf_dcnv2.training import TrainOptions, resumed_options

    given = {name: value for name, value in vars(arguments).items() if name in TrainOptions.__dataclass_fields__}
    for name in ("train", "val"):
        if name in given:
            images_dir = vars(arguments).get(f"{name}_images")
            given[name] = records_of(given[name], images_dir, arguments.output, f"--{name}-images")
        elif f"{name}_images" in arguments:
            raise UsageError(f"--{name}-images is the folder of the images of --{name}: give both")
    if settings := vars(arguments).get("set"):
        given["overrides"] = dict(map(parse_setting, settings))
    try:
        if given.get("resume"):
            options = resumed_options(arguments.output, given)
        elif missing := [f"--{name}" for name in ("preset", "train") if name not in given]:
            raise UsageError(f"the following arguments are required: {', '.join(missing)}")
        else:
            options = TrainOptions(**given)
        load_preset(options.preset).replace(**options.overrides)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return options
