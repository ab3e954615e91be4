"""What a training run shows: a moving bar within an epoch, a line when it is over, a line for each evaluation."""

import math
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from tf_dcnv2.training import RunFolder, RunState, TrainOptions
from tf_dcnv2_cli.console import label, log, precision_text


class TrainingReport(keras.callbacks.Callback):
    """Reports a `tf_dcnv2.training.train` run to the terminal; the last of its callbacks, so that it sees all results.

    Args:
        options: of the run.
        num_images: of the training set.
    """

    def __init__(self, options: TrainOptions, num_images: int):
        super().__init__()
        self._options = options
        self._steps_per_epoch = max(1, num_images // options.batch_size)
        budgets = [options.steps, options.epochs and options.epochs * self._steps_per_epoch]
        self._total_steps = min((steps for steps in budgets if steps), default=None)
        earlier = (RunFolder(options.output).backups.load_state() if options.resume else None) or RunState()
        self._best_ap, self._seconds_before = earlier.best_ap, earlier.seconds
        self._steps_done = earlier.steps
        self._total_epochs = None
        if self._total_steps is not None:
            left = self._total_steps - earlier.steps
            self._total_epochs = earlier.epochs + -(-left // self._steps_per_epoch)
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
        self._task = self._bar.add_task("", total=self._steps_per_epoch, progress="building the training graph")

    def close(self) -> None:
        """Gives the terminal back, however the run ended."""
        self._bar.stop()

    def on_train_begin(self, logs=None) -> None:
        self._started = time.monotonic() - self._seconds_before
        self._first_step = None

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._epoch = epoch
        self._epoch_started = time.monotonic()
        self._steps = self._timed_steps = 0
        self._bar.reset(self._task, description=self._epoch_name())
        self._bar.start()

    def on_train_batch_end(self, batch, logs=None) -> None:
        self._steps = batch + 1
        self._steps_done += 1
        if self._first_step is None:
            # It includes the tracing of the graph: counting it would spoil every estimate.
            self._first_step = self._steps_done
            self._steady_since = self._epoch_started = time.monotonic()
        else:
            self._timed_steps += 1
        self._progress = f"{self._images_per_second()}  {_losses(logs or {})}  {self._eta()}"
        self._bar.update(self._task, completed=self._steps, progress=self._progress)

    def on_epoch_end(self, epoch, logs=None) -> None:
        logs = logs or {}
        self._bar.stop()
        log("epoch", f"{self._epoch_name()}  {self._progress}")
        if math.isfinite(logs.get("val_AP", math.nan)):
            note = ""
            if logs["val_AP"] > self._best_ap:
                self._best_ap = logs["val_AP"]
                note = f"   best so far, saved to {self._options.output}/best.keras"
            log("val", _precision(logs, "val_") + note)

    def _epoch_name(self) -> str:
        return f"{self._epoch + 1}" if self._total_epochs is None else f"{self._epoch + 1}/{self._total_epochs}"

    def _images_per_second(self) -> str:
        seconds = time.monotonic() - self._epoch_started
        return f"{self._timed_steps * self._options.batch_size / seconds:.1f} img/s" if self._timed_steps else "- img/s"

    def _eta(self) -> str:
        """Time left by the budget that runs out first; evaluations count, as they recur."""
        estimates = []
        now = time.monotonic()
        if self._options.max_minutes:
            estimates.append(60 * self._options.max_minutes - (now - self._started))
        if self._total_steps and self._steps_done > self._first_step:
            seconds_per_step = (now - self._steady_since) / (self._steps_done - self._first_step)
            estimates.append(seconds_per_step * (self._total_steps - self._steps_done))
        if not estimates:
            return ""
        minutes, seconds = divmod(max(0, round(min(estimates))), 60)
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
