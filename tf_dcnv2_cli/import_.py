"""`tf-dcnv2 import`: a checkpoint of another project to a detector."""

import argparse
import shlex
from pathlib import Path

from tf_dcnv2_cli.arguments import parse_setting
from tf_dcnv2_cli.console import log

SUMMARY = "turn a checkpoint of torchvision, detectron2 or mmdetection into a detector"

DESCRIPTION = """\
Reads a Faster or Mask R-CNN with a feature pyramid, regular or deformable, from the file in which its project saves it,
and writes a folder that evaluate, predict, export and train take. PyTorch is not needed; no code in the file is run.

Depths, widths and classes come from the weights. The rest comes from --set, from the project's own configuration
(--config, or the one inside the file) and from what the project does by default."""

EXAMPLES = """\
  tf-dcnv2 import maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --output runs/torchvision
  tf-dcnv2 import model_final_a54504.pkl --config mask_rcnn_R_50_FPN_1x.yaml --output runs/detectron2
  tf-dcnv2 train --preset runs/detectron2/config.yaml --weights runs/detectron2/best.keras ...   # fine-tune it"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("path", metavar="PATH", help="a .pth, .pt, .pkl or .safetensors file")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to create")
    parser.add_argument(
        "--config", metavar="FILE", help="the project's configuration: .yaml, .json or .py, read as data"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="which of the project's detectors it is, such as detectron2/mask_rcnn_R_50_FPN_3x",
    )
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", help="change a setting; may be repeated")


def run(arguments: argparse.Namespace) -> None:
    """Imports and says what became of each weight."""
    from tf_dcnv2.models.checkpoints import import_detector
    from tf_dcnv2.training.run_folder import RunFolder, save_detector

    folder = RunFolder(Path(arguments.output))
    if folder.holds_a_run():
        raise FileExistsError(f"{arguments.output} holds a detector already. Choose another output folder.")
    folder.refuse_foreign_files()
    with folder.in_use():
        imported = import_detector(
            arguments.path,
            preset=arguments.preset,
            config=arguments.config,
            overrides=dict(map(parse_setting, arguments.set or ())),
        )
        detector = imported.config.build(list(imported.categories), name=imported.project.name)
        report = imported.assign(detector)
        log("source", f"{imported.project.name}, {len(imported.categories)} classes")
        save_detector(detector, folder.best)
        folder.write_weight_report(report.details())
        config = {
            "source": {"path": str(arguments.path), "project": imported.project.name},
            "detector": imported.config.to_dict(),
            "categories": [{"id": key, "name": name} for key, name in imported.categories.items()],
            "orientation": "upright",
        }
        folder.write_config(config)  # the last, because it makes the folder that of a detector
    log("weights", f"{report}; each is listed in {folder.path / 'weights.txt'}")
    log("written", folder.best)
    output = shlex.quote(arguments.output)
    log(
        "next",
        f"tf-dcnv2 evaluate {output} --records ...   |   tf-dcnv2 train --preset {output}/config.yaml "
        f"--weights {output}/best.keras ...",
    )
