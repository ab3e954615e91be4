"""The paper's ablation on one machine: regular, DCNv1, DCNv2 and DCNv2 with mimicking, same budget, several seeds.

    python examples/ablation/ablate.py [--output runs/ablation] [--seeds 3] [--steps 1500]

Draws strongly deformed, cluttered shapes, trains the small presets on them from scratch, and writes `table.md`,
`results.json` and `ablation.png`. Runs that are done are not repeated, so the command can be interrupted and started
again, and more seeds can be added later.
"""

import argparse
import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

METRICS = ("AP", "AP50", "AP75")
DATA = {"deformation": 2.0, "color_cue": 0.5, "image_size": (160, 192)}
RECIPE = {
    "batch_size": 4,
    "optimizer": "adam",
    "schedule": "cosine",
    "warmup_steps": 50,
    "clip_norm": 10.0,
    "short_side": 192,
    "max_side": 256,
    "cache": True,
    "evaluate_every": 0,
}


class Variant(NamedTuple):
    """A row of the table: a preset, and which RoIs it mimics."""

    name: str
    preset: str
    mimic: str = "none"


VARIANTS = (
    Variant("regular", "faster_rcnn_small_regular"),
    Variant("DCNv1", "faster_rcnn_small_dcnv1"),
    Variant("DCNv2", "faster_rcnn_small_dcnv2"),
    Variant("DCNv2 + mimicking", "faster_rcnn_small_dcnv2", "positive"),
)


def main() -> None:
    arguments = _parse()
    records = draw(arguments.output / "data", arguments.train_images, arguments.val_images)
    results = {variant.name: [] for variant in VARIANTS}
    # Seed by seed: an interrupted ablation has as many runs of every variant.
    for seed in range(arguments.seeds) if arguments.only_seed is None else [arguments.only_seed]:
        for variant in VARIANTS:
            results[variant.name].append(run(variant, seed, arguments.steps, records, arguments.output))
    if arguments.only_seed is not None:
        return
    table = make_table(results)
    (arguments.output / "table.md").write_text(table)
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2))
    plot(results, arguments.output / "ablation.png")
    print(table)


def draw(folder: Path, train_images: int, val_images: int) -> dict[str, Path]:
    """Draws and converts the data unless it is there; returns the prefixes of the records by split."""
    from tf_dcnv2.data import convert_coco, make_synthetic_coco

    records = {}
    for split, count in (("train", train_images), ("val", val_images)):
        # The number is part of the name, so that another number means other records.
        records[split] = folder / "records" / f"{split}{count}"
        if not any(records[split].parent.glob(f"{records[split].name}-*")):
            images, annotations = make_synthetic_coco(folder, num_images=count, split=split, **DATA)
            convert_coco(images, annotations, records[split])
    return records


def run(variant: Variant, seed: int, steps: int, records: dict[str, Path], output: Path) -> dict[str, float]:
    """Trains and evaluates one variant with one seed, unless that is done; returns its metrics and minutes."""
    from tf_dcnv2._core.atomic_files import write_atomically
    from tf_dcnv2.training import TrainOptions, train

    folder = output / f"{variant.name.replace(' ', '').lower()}-{steps}-seed{seed}"
    done = folder / "metrics.json"
    if not done.exists():
        print(f"{variant.name}, seed {seed}, {steps} steps", flush=True)
        options = TrainOptions(
            preset=variant.preset,
            overrides={"mimic.rois": variant.mimic},
            train=str(records["train"]),
            val=str(records["val"]),
            output=str(folder),
            steps=steps,
            seed=seed,
            resume=folder.exists(),
            **RECIPE,
        )
        result = train(options)
        metrics = {name: result.metrics["bbox"][name] for name in METRICS}
        write_atomically(str(done), json.dumps({**metrics, "minutes": result.seconds / 60}))
    return json.loads(done.read_text())


def make_table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown, mean ± standard deviation over the seeds; AP in percent, and the minutes of the fastest run."""
    seeds = len(next(iter(results.values())))
    lines = [f"| {seeds} seeds | {' | '.join(METRICS)} | minutes at best |", "| --- |" + " --- |" * (len(METRICS) + 1)]
    for name, runs in results.items():
        cells = [_spread([100 * run[metric] for run in runs]) for metric in METRICS]
        lines.append(f"| {name} | {' | '.join(cells)} | {min(run['minutes'] for run in runs):.1f} |")
    return "\n".join(lines) + "\n"


def _spread(values: Iterable[float]) -> str:
    values = list(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


def plot(results: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One dot a run, one bar for the mean of a variant."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(METRICS), figsize=(10, 3.4), constrained_layout=True)
    for axis, metric in zip(axes, METRICS, strict=True):
        for row, runs in enumerate(reversed(results.values())):
            values = [100 * run[metric] for run in runs]
            axis.plot(values, [row] * len(values), "o", color="tab:blue", alpha=0.6)
            axis.plot([statistics.mean(values)], [row], "|", color="black", markersize=22, markeredgewidth=2)
        axis.set_yticks(range(len(results)), list(reversed(results)) if axis is axes[0] else [""] * len(results))
        axis.set_ylim(-0.6, len(results) - 0.4)
        axis.set_xlabel(f"{metric}, %")
        axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"), metavar="DIR")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--only-seed", type=int, metavar="N", help="train the runs of this seed, and make no table")
    parser.add_argument("--steps", type=int, default=1500, metavar="N", help="of each run, 4 images a step")
    parser.add_argument("--train-images", type=int, default=800, metavar="N")
    parser.add_argument("--val-images", type=int, default=200, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    main()
