"""The analysis of an evaluation, as tables on the terminal and as files in a folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_dcnv2_cli.console import log, precision_text

if TYPE_CHECKING:
    from tf_dcnv2.evaluation import Analysis, DetectedDataset

KINDS = {"bbox": "boxes", "segm": "masks"}
_CONTENT = "analysis.json"
_FIGURES = ("precision_recall", "confusion", "errors", "false", "missed")


class AnalysisFolder:
    """The folder of an analysis.

    What is there already is checked at once, before anything is computed: only earlier analyses are replaced.
    """

    def __init__(self, path: str | os.PathLike, inputs: Sequence[str | os.PathLike]):
        from tf_dcnv2._core.output_files import ensure_writable, refuse_foreign, refuse_overwriting
        from tf_dcnv2.visualization import is_figure

        self.path = Path(path)
        content = self.path / _CONTENT
        refuse_overwriting([content], inputs)
        refuse_foreign(content, _is_analysis(content), "an earlier analysis")
        for figure in (self._figure(kind, name) for kind in KINDS for name in _FIGURES):
            if figure.exists():
                refuse_foreign(figure, is_figure(figure), "a figure of an earlier analysis")
        ensure_writable(content)

    def write(
        self,
        detected: "DetectedDataset",
        metrics: Mapping[str, Any],
        analyses: Mapping[str, "Analysis"],
        dataset: Any,
        names: Mapping[int, str],
    ) -> list[str]:
        """Writes JSON and figures, and removes earlier figures of what there is none of now; returns their names."""
        from tf_dcnv2.evaluation import write_analyses
        from tf_dcnv2.visualization import (
            save_confusion_matrix,
            save_errors,
            save_false_detections,
            save_missed_objects,
            save_precision_recall,
        )

        write_analyses(self.path / _CONTENT, metrics, analyses)
        written = [_CONTENT]
        for kind in KINDS:
            for name in _FIGURES:
                self._figure(kind, name).unlink(missing_ok=True)
        for kind, analysis in analyses.items():
            plots: dict[str, Callable] = {
                "precision_recall": save_precision_recall,
                "confusion": save_confusion_matrix,
                "errors": save_errors,
            }
            for name, save in plots.items():
                save(analysis, self._figure(kind, name))
                written.append(self._figure(kind, name).name)
            for name, save in {"false": save_false_detections, "missed": save_missed_objects}.items():
                if save(detected, analysis, dataset, self._figure(kind, name), names=names):
                    written.append(self._figure(kind, name).name)
        return written

    def _figure(self, kind: str, name: str) -> Path:
        return self.path / f"{KINDS[kind]}_{name}.png"


def print_analysis(analysis: "Analysis") -> None:
    """Prints the table of classes and the kinds of errors."""
    width = max(map(len, [*(scores.name for scores in analysis.classes), "class"]))
    log("class", f"{'':{width}}  objects    AP    AR100   best score  precision  recall  F1")
    for scores in analysis.classes:
        numbers = f"{precision_text(scores.average_precision)}  {precision_text(scores.average_recall)}"
        point, best = scores.best, "         -"
        if point:
            best = f"{point.score:10.3f}  {point.precision:9.3f}  {point.recall:6.3f}  {point.f1:.3f}"
        log(f"  {scores.category_id}", f"{scores.name:<{width}}  {scores.objects:7}  {numbers}   {best}")
    print()
    for kind, error in analysis.errors.items():
        log("errors", f"{kind:<12}  {error.count:7}   AP50 {error.ap50_gain:+.3f} without them")


def _is_analysis(path: Path) -> bool:
    from tf_dcnv2.evaluation.analysis import ANALYSIS_FORMAT

    try:
        with open(path, "rb") as file:
            return ANALYSIS_FORMAT.encode() in file.read(64)
    except OSError:
        return False
