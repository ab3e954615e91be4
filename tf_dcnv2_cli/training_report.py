"""What a training run shows: a moving bar within an epoch, a line when it is over, a line for each evaluation."""

import math
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tf_dcnv2.training import ProgressCallback, TrainOptions
from tf_dcnv2_cli.console import label, log, precision_text


class TrainingReport(ProgressCallback):
    """Reports a `tf_dcnv2.training.train` run to the terminal; the last of its callbacks, so that it sees all results.

    Args:
        options: of the run.
    """

    def __init__(self, options: TrainOptions):
        super().__init__()
        self._options = options
        self._is_traced = False
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(f"{label('epoch')}{{task.description}}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[progress]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", progress="building the training graph")

    def close(self) -> None:
        """Gives the terminal back, however the run ended."""
        self._bar.stop()

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._timed_steps = 0
        self._timed_since = time.monotonic()
        self._bar.reset(self._task, description=self._epoch_name(epoch), total=self.progress.steps_per_epoch)
        self._bar.start()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self._is_traced:
            self._timed_steps += 1
        else:
            # The first step includes the tracing of the graph, which would spoil the rate.
            self._is_traced, self._timed_since = True, time.monotonic()
        self._line = f"{self._images_per_second()}  {_losses(logs or {})}  {self._eta()}"
        self._bar.update(self._task, completed=batch + 1, progress=self._line)

    def on_epoch_end(self, epoch, logs=None) -> None:
        logs = logs or {}
        self._bar.stop()
        log("epoch", f"{self._epoch_name(epoch)}  {self._line}")
        if math.isfinite(logs.get("val_AP", math.nan)):
            is_best = self.progress.state.is_best
            note = f"   best so far, saved to {self._options.output}/best.keras" if is_best else ""
            log("val", _precision(logs, "val_") + note)

    def _epoch_name(self, epoch: int) -> str:
        epochs = self.progress.epochs
        return f"{epoch + 1}" if epochs is None else f"{epoch + 1}/{epochs}"

    def _images_per_second(self) -> str:
        seconds = time.monotonic() - self._timed_since
        return f"{self._timed_steps * self._options.batch_size / seconds:.1f} img/s" if self._timed_steps else "- img/s"

    def _eta(self) -> str:
        seconds_left = self.progress.budget.seconds_left
        if seconds_left is None:
            return ""
        minutes, seconds = divmod(round(seconds_left), 60)
        return f"eta {minutes}:{seconds:02d}"


def _precision(logs: dict[str, float], prefix: str) -> str:
    """Formats `AP 0.412  AP50 0.701  AP75 0.433` of boxes, and of masks if there are any."""
    numbers = "  ".join(f"{name} {precision_text(logs[prefix + name])}" for name in ("AP", "AP50", "AP75"))
    masks = f"{prefix}mask_"
    return numbers + (f"  masks {_precision(logs, masks)}" if f"{masks}AP" in logs else "")


def _losses(logs: dict[str, float]) -> str:
    """Formats `loss 1.42 (rpn 0.21+0.11, box 0.62+0.30, mimic 0.12, r-cnn 0.06)`: classes + boxes of either stage."""
    parts = [
        f"{title} " + "+".join(f"{logs[name]:.2f}" for name in names)
        for title, names in (
            ("rpn", ("rpn_class_loss", "rpn_box_loss")),
            ("box", ("class_loss", "box_loss")),
            ("mask", ("mask_loss",)),
            ("mimic", ("mimic_loss",)),
            ("r-cnn", ("rcnn_class_loss",)),
        )
        if all(name in logs for name in names)
    ]
    return f"loss {logs.get('loss', float('nan')):.2f} ({', '.join(parts)})"
