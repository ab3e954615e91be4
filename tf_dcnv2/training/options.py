"""Everything a training run can be told, as one frozen dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tf_dcnv2._core.checked_types import MinLength, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Range
from tf_dcnv2._core.settings import Settings
from tf_dcnv2.data.images.resizing import SIZE_MULTIPLE

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]

BUDGETS = ("epochs", "steps", "max_minutes")
AUGMENTATION = (
    "canvas",
    "vertical_flip",
    "rotate",
    "short_sides",
    "scale_range",
    "color_jitter",
    "copy_paste",
    "aspect_grouping",
)


@dataclasses.dataclass(frozen=True)
class TrainOptions(Settings):
    """Options of `train`, and of `tf-dcnv2 train`.

    The run ends when the first of the given budgets (`epochs`, `steps`, `max_minutes`) is used up; the learning rate
    follows the fraction of it that is gone, so a run limited by the clock also gets its full schedule.

    Attributes:
        preset: name of a preset.
        train: records to train on: prefix, file or glob pattern.
        output: folder of the run.
        val: records to evaluate on; None trains without evaluation.
        overrides: changes to the preset's configuration, `{"box_head.samples": 128}`.
        weights: None, "imagenet", or a file of a backbone or a detector to start from (`.keras`, `.weights.h5`, or a
            PyTorch checkpoint).
        mimic: train with R-CNN feature mimicking; by default as the preset. True mimics positive RoIs where the preset
            mimics none; `overrides` of `mimic.rois` choose others.
        epochs, steps, max_minutes: budgets of the whole run, what was done before it was resumed included;
            `max_minutes` is wall-clock, evaluations during the run included.
        batch_size: images per step of the optimizer, all parts and devices together.
        accumulate: in how many parts a device computes its share of a batch, one after another, to need less memory. It
            changes nothing else, except what batch normalisation learns, which sees each part by itself.
        strategy: "one" device; "mirrored": all GPUs of this machine (without any, all logical CPUs), among which each
            batch is divided; "multiworker": those of all the processes that the environment variable TF_CONFIG lists,
            each of which makes this call with the same options and the same folder.
        precision: what layers compute in: "float32", or "mixed_bfloat16" or "mixed_float16" for speed and less memory.
            Weights, offsets, boxes and losses are float32 in any case; float16 scales the loss, on one device only.
        optimizer: "sgd" (momentum 0.9), "adam" or "adamw".
        learning_rate: peak; by default 0.02 per 16 images for "sgd" (linear scaling, paper sec. 5), 1e-3 otherwise.
        schedule: "step": divided by 10 at 10/16 and 14/16 of the run (paper sec. 5); "cosine": down to zero.
        warmup_steps: of linear warm-up.
        clip_norm: bound of the gradient's norm over all variables; 0 for none.
        ema: decay per step of an exponential moving average of the weights, which is what is evaluated and saved;
            0 for none.
        short_side, max_side: image size in pixels; the preset's by default.
        canvas: height and width to pad every training image to; by default those of the largest of the batch.
        vertical_flip, rotate, short_sides, scale_range, color_jitter, copy_paste: augmentation, see
            `tf_dcnv2.data.load_records`.
        aspect_grouping: make batches of images of similar aspect ratio; by default unless there is a canvas.
        cache: keep decoded images in memory.
        evaluate_every: epochs between evaluations; 0 evaluates only at the end.
        pictures: how many images of `val` are drawn after each evaluation, with what is annotated and what is detected;
            0 for none.
        tensorboard: write losses, learning rate, AP, offsets and pictures for TensorBoard too.
        best_by: whose AP makes the best detector: that of boxes, or of masks.
        patience: evaluations without a better AP after which the run ends before its budget is used up; None for never.
        checkpoint_steps, checkpoint_minutes: after how many steps or minutes, whichever is first, a checkpoint is
            written inside an epoch; None for never. There is one at the end of every epoch.
        seed: of initial weights, shuffling, augmentation and sampling. None draws one, which the run keeps.
        deterministic: choose kernels that give the same result every time, as `tf.config.experimental.
            enable_op_determinism` does for the whole process: two runs with the same seed have the same weights, bit by
            bit, also if one was stopped and resumed.
        resume: continue the run found in `output`, or start it if there is none. A finished run goes on when it is
            given a larger budget: weights and the optimizer's state are those it ended with, and the learning rate
            follows the fraction of the new budget that is gone, so it may rise again. `resumed_options` fills in the
            run's own options.
    """

    preset: str
    train: str
    output: str
    val: str | None = None
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    weights: str | None = None
    mimic: bool | None = None
    epochs: PositiveInt | None = None
    steps: PositiveInt | None = None
    max_minutes: PositiveFloat | None = None
    batch_size: PositiveInt = 2
    accumulate: PositiveInt = 1
    strategy: Literal["one", "mirrored", "multiworker"] = "one"
    precision: Precision = "float32"
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    learning_rate: PositiveFloat | None = None
    schedule: Literal["step", "cosine"] = "step"
    warmup_steps: NonNegativeInt = 500
    clip_norm: NonNegativeFloat = 0.0
    ema: Annotated[float, Range(0, below=1)] = 0.0
    short_side: PositiveInt | None = None
    max_side: PositiveInt | None = None
    canvas: tuple[PositiveInt, PositiveInt] | None = None
    vertical_flip: bool = False
    rotate: bool = False
    short_sides: Annotated[tuple[PositiveInt, ...], MinLength(1)] | None = None
    scale_range: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    color_jitter: Annotated[float, Range(0, 1)] = 0.0
    copy_paste: Annotated[float, Range(0, 1)] = 0.0
    aspect_grouping: bool | None = None
    cache: bool = False
    evaluate_every: NonNegativeInt = 1
    pictures: NonNegativeInt = 4
    tensorboard: bool = True
    best_by: Literal["box", "mask"] = "box"
    patience: PositiveInt | None = None
    checkpoint_steps: PositiveInt | None = None
    checkpoint_minutes: PositiveFloat | None = 10.0
    deterministic: bool = False
    seed: Annotated[int, Range(0, 2**32 - 1)] | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if all(getattr(self, name) is None for name in BUDGETS):
            object.__setattr__(self, "epochs", 16)
        self._require(self.accumulate <= self.batch_size, "accumulate", f"at most batch_size={self.batch_size}")
        low, high = self.scale_range
        self._require(low <= high, "scale_range", "(low, high) with low <= high")
        fits = self.canvas is None or not any(side % SIZE_MULTIPLE for side in self.canvas)
        self._require(fits, "canvas", f"(height, width), multiples of {SIZE_MULTIPLE}")

    @property
    def peak_learning_rate(self) -> float:
        """The peak learning rate: `learning_rate`, or the default of the optimizer."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 0.02 * self.batch_size / 16 if self.optimizer == "sgd" else 1e-3

    @property
    def augmentation(self) -> dict[str, Any]:
        """The arguments of `load_records` that change training images at random, or put them together."""
        return {name: getattr(self, name) for name in AUGMENTATION}
