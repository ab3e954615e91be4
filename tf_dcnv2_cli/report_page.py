"""The HTML page of `tf-dcnv2 report`."""

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tf_dcnv2.training import RunFolder, RunState
from tf_dcnv2.visualization import draw_curves, html
from tf_dcnv2_cli.report import GENERATOR

_LONGEST_PICTURE_PX = 1100
_KINDS = {"bbox": "boxes", "segm": "masks"}
_FIGURES = {
    "precision_recall": "precision and recall",
    "confusion": "confusion matrix: rows are annotated classes, columns detected ones",
    "errors": "what each kind of error costs",
    "false": "the false detections with the highest scores",
    "missed": "missed objects",
}


def report_page(run: RunFolder, analysis: Path) -> str:
    """The page of a run, and of an analysis of its detector if its folder has one, as text."""
    config = run.read_config()
    state = run.backups.load_state() or RunState()
    parts = [html.table(("", ""), _facts(config, state), text_columns=[1])]
    if state.history:
        parts += [html.heading("Curves"), html.drawing(draw_curves(state.history))]
    parts += [html.heading("Detections"), *_pictures(run)]
    parts += [html.heading("Evaluation"), *_analysis(run, analysis)]
    parts += [html.heading("Configuration"), html.preformatted(_text_of(config))]
    return html.page(f"Run {run.path.resolve().name}", *parts, generator=GENERATOR)


def _facts(config: Mapping[str, Any], state: RunState) -> Iterator[tuple[str, str]]:
    options = config["options"]
    yield "preset", options["preset"]
    for name in ("train", "val"):
        yield f"{name} records", str(options.get(name) or "none")
    yield "classes", ", ".join(category["name"] for category in config.get("categories", ()))
    ended = ", the budget is used up" if state.is_finished else ", not at its end"
    yield "steps", f"{state.steps} in {state.epochs} epochs and {state.seconds / 60:.1f} minutes{ended}"
    if state.best_ap >= 0:
        which = "masks" if options.get("best_by") == "mask" else "boxes"
        yield f"best AP of {which}", f"{state.best_ap:.3f} after {state.best_steps} steps"


def _pictures(run: RunFolder) -> list[str]:
    drawings = sorted(run.pictures.glob("epoch-*"), key=lambda path: path.name)
    if not drawings:
        return [html.paragraph("The run has drawn none: they are drawn after evaluations, see `train --pictures`.")]
    files = sorted(drawings[-1].glob("*.jpg"))
    epoch = drawings[-1].name.removeprefix("epoch-").lstrip("0")
    return [
        html.paragraph(f"After epoch {epoch}: annotated on the left, detected on the right."),
        html.pictures((_read(path), path.stem) for path in files),
    ]


def _analysis(run: RunFolder, folder: Path) -> list[str]:
    path = folder / "analysis.json"
    if not path.exists():
        command = f"tf-dcnv2 evaluate {shlex.quote(str(run))} --records RECORDS --analysis {shlex.quote(str(folder))}"
        return [html.paragraph(f"There is none. `{command}` makes one.")]
    content = json.loads(path.read_text(encoding="utf-8"))
    parts = []
    for kind, name in _KINDS.items():
        if kind in content:
            figures = [(folder / f"{name}_{figure}.png", caption) for figure, caption in _FIGURES.items()]
            parts += [
                html.paragraph(f"Of {name}, on {content[kind]['images']} images:"),
                _classes(content[kind]["classes"]),
                html.pictures(
                    ((_read(path), f"{name}: {caption}") for path, caption in figures if path.exists()), large=True
                ),
            ]
    return parts


def _classes(classes: list[dict[str, Any]]) -> str:
    columns = ("class", "objects", "AP", "AP50", "AR", "best score", "precision", "recall", "F1")
    rows = []
    for scores in classes:
        numbers = [scores[name] for name in ("average_precision", "average_precision_50", "average_recall")]
        best = scores["best"] or {}
        numbers += [best.get(name, math.nan) for name in ("score", "precision", "recall", "f1")]
        rows.append((scores["name"], scores["objects"], *map(_number, numbers)))
    return html.table(columns, rows)


def _number(value: float | None) -> str:
    """A share with three digits, "-" where there is none."""
    return "-" if value is None or not math.isfinite(value) or value < 0 else f"{value:.3f}"


def _read(path: Path) -> np.ndarray:
    """A picture, no larger than it is worth on a page."""
    from PIL import Image

    with Image.open(path) as image:
        return html.reduced(np.asarray(image.convert("RGB")), _LONGEST_PICTURE_PX)


def _text_of(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
