"""The paper's claims on spatial support as numbers: how much of it lies on the object, and does it adapt to its size?

    python examples/spatial_support/measure.py --runs runs/ablation [--output runs/spatial_support] [--objects 10]

Takes the detectors that `examples/ablation/ablate.py` left in its folder, looks at the same objects of its validation
images with each of them, and writes `table.md`, `results.json` and `support.png`. What is measured of a run is kept in
a file of its own and not measured again.
"""

import argparse
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VARIANTS = ("regular", "DCNv1", "DCNv2", "DCNv2 + mimicking")
SIZES = ("small", "medium", "large")
LEVEL, DEPTH = "C5", 3
# What is measured: key, heading, and how the number is written.
MEASURES = {
    "node_locations": ("effective sampling locations in the box, %", 100),
    "node_field": ("effective receptive field in the box, %", 100),
    "node_radius": ("radius of the receptive field, px", 1),
    "node_saliency": ("saliency area / box area", 1),
    "roi_bins": ("effective bins in the box, %", 100),
    "roi_field": ("RoI: receptive field in the box, %", 100),
    "roi_saliency": ("RoI: saliency area / box area", 1),
    "roi_empty": ("RoI: error of the empty image", 1),
}

Box = tuple[float, float, float, float]
Results = dict[str, list[dict[str, dict[str, float]]]]


class Object(NamedTuple):
    """An object of the validation set: its image file, its box `(y1, x1, y2, x2)` there, and how large it is."""

    image: str
    box: Box
    size: str


def main() -> None:
    arguments = _parse()
    objects = sample_objects(arguments.runs / "data", arguments.objects, arguments.seed)
    results: Results = {variant: [] for variant in VARIANTS}
    for variant, seed, folder in runs_in(arguments.runs, arguments.steps):
        results[variant].append(measure_run(folder, objects, arguments.output, f"{variant}, seed {seed}"))
    results = {variant: runs for variant, runs in results.items() if runs}
    if not results:
        raise SystemExit(f"{arguments.runs} holds no finished run of {arguments.steps} steps.")
    table = make_table(results)
    (arguments.output / "table.md").write_text(table)
    (arguments.output / "results.json").write_text(json.dumps(results, indent=2))
    plot(results, arguments.output / "support.png")
    print(table)


def runs_in(folder: Path, steps: int) -> Iterator[tuple[str, int, Path]]:
    """Variant, seed and folder of every finished run of an ablation, by seed."""
    names = {variant.replace(" ", "").lower(): variant for variant in VARIANTS}
    found = []
    for path in folder.glob(f"*-{steps}-seed*"):
        match = re.fullmatch(rf"(.+)-{steps}-seed(\d+)", path.name)
        if match and match[1] in names and (path / "metrics.json").exists():
            found.append((int(match[2]), VARIANTS.index(names[match[1]]), path))
    for seed, variant, path in sorted(found):
        yield VARIANTS[variant], seed, path


def sample_objects(data: Path, count: int, seed: int) -> list[Object]:
    """`count` random objects of each size: the smallest, middle and largest third of the whole ones by area."""
    content = json.loads((data / "annotations" / "instances_val.json").read_text())
    images = {image["id"]: image for image in content["images"]}
    whole = []
    for annotation in content["annotations"]:
        image = images[annotation["image_id"]]
        x, y, width, height = annotation["bbox"]
        inside = min(x, y) >= 1 and x + width <= image["width"] - 1 and y + height <= image["height"] - 1
        if inside and not annotation.get("iscrowd"):
            whole.append(
                (width * height, str(data / "images" / "val" / image["file_name"]), (y, x, y + height, x + width))
            )
    whole.sort()
    generator = np.random.default_rng(seed)
    sampled = []
    for size, third in zip(SIZES, np.array_split(np.arange(len(whole)), len(SIZES)), strict=True):
        chosen = generator.choice(third, min(count, len(third)), replace=False)
        sampled += [Object(whole[index][1], whole[index][2], size) for index in chosen.tolist()]
    return sampled


def measure_run(folder: Path, objects: Sequence[Object], output: Path, title: str) -> dict[str, dict[str, float]]:
    """The means of every measure over the objects of each size, for one run; from its file where it has one."""
    from tf_dcnv2._core.atomic_files import write_atomically

    done = output / f"{folder.name}.json"
    asked = [list(one) for one in json.loads(json.dumps(objects))]
    if done.exists() and (kept := json.loads(done.read_text()))["objects"] == asked:
        return kept["means"]
    from tf_dcnv2_cli.trained import load_trained

    print(title, flush=True)
    detector = load_trained(folder / "last.keras").detector
    measured = [measure(detector, one.image, one.box) for one in objects]
    means = {
        size: {
            name: statistics.mean(
                numbers[name] for numbers, one in zip(measured, objects, strict=True) if one.size == size
            )
            for name in MEASURES
        }
        for size in SIZES
    }
    write_atomically(done, json.dumps({"objects": asked, "means": means, "measured": measured}))
    return means


def measure(detector: Any, file: str, box: Box, **search: int) -> dict[str, float]:
    """Every measure of one object: of the cell at its centre, and of the RoI that is its box.

    Args:
        detector: a Faster R-CNN.
        file: the image.
        box: `(y1, x1, y2, x2)` in pixels of the file.
        **search: options of the saliency regions' search.
    """
    from tf_dcnv2 import analysis
    from tf_dcnv2.data import read_image

    pixels = read_image(file)
    image = analysis.network_image(detector, pixels)
    scale = np.tile(np.array(image.shape[:2]) / pixels.shape[:2], 2)
    y1, x1, y2, x2 = box = tuple((np.array(box) * scale).tolist())
    node = analysis.node_at(detector, image, LEVEL, ((y1 + y2) / 2, (x1 + x2) / 2))
    roi = analysis.RoINode(box)
    samples = analysis.effective_sampling_locations(detector, image, node)[-DEPTH:]
    field = analysis.effective_receptive_field(detector, image, node)
    bins = analysis.effective_bin_locations(detector, image, roi)
    roi_region = analysis.error_bounded_saliency(detector, image, roi, **search)
    return {
        "node_locations": analysis.strength_share(samples, box),
        "node_field": analysis.receptive_field_share(field, box),
        "node_radius": radius(field),
        "node_saliency": analysis.saliency_area_ratio(
            analysis.error_bounded_saliency(detector, image, node, **search), box
        ),
        "roi_bins": analysis.strength_share(bins, box),
        "roi_field": analysis.receptive_field_share(analysis.effective_receptive_field(detector, image, roi), box),
        "roi_saliency": analysis.saliency_area_ratio(roi_region, box),
        "roi_empty": roi_region.empty_error,
    }


def radius(field: np.ndarray) -> float:
    """The mean distance of a receptive field from its centre of gravity, weighted by strength, in pixels."""
    rows, columns = np.indices(field.shape)
    weights = field / field.sum()
    centre = (rows * weights).sum(), (columns * weights).sum()
    return float((np.hypot(rows - centre[0], columns - centre[1]) * weights).sum())


def make_table(results: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]]) -> str:
    """Markdown: a table over all sizes, and one for each; mean ± standard deviation over the runs of a variant."""
    variants = list(results)
    seeds = ", ".join(f"{len(runs)} of {variant}" for variant, runs in results.items())
    lines = [f"Runs: {seeds}. Mean ± standard deviation over the runs of a variant.", ""]
    for title, sizes in (("all objects", SIZES), *((f"{size} objects", (size,)) for size in SIZES)):
        lines += [f"| {title} | {' | '.join(variants)} |", "| --- |" + " --- |" * len(variants)]
        for name, (heading, factor) in MEASURES.items():
            cells = [
                _spread([factor * statistics.mean(run[size][name] for size in sizes) for run in runs])
                for runs in results.values()
            ]
            lines.append(f"| {heading} | {' | '.join(cells)} |")
        if len(sizes) > 1:
            growth = [
                _spread([run["large"]["node_radius"] / run["small"]["node_radius"] for run in runs])
                for runs in results.values()
            ]
            lines.append(f"| radius on large objects / on small ones | {' | '.join(growth)} |")
        lines.append("")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    mean = statistics.mean(values)
    digits = 1 if mean >= 10 else 2
    return f"{mean:.{digits}f}" + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def plot(results: Mapping[str, Sequence[Mapping[str, Mapping[str, float]]]], path: Path) -> None:
    """For each measure a line for each variant over the sizes of objects, with a dot for each run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    styles = dict(zip(VARIANTS, (("#555555", "o"), ("#0072b2", "s"), ("#e69f00", "^"), ("#cc3311", "D")), strict=True))
    figure, axes = pyplot.subplots(2, 4, figsize=(12, 5.6), constrained_layout=True)
    for axis, (name, (heading, factor)) in zip(axes.flat, MEASURES.items(), strict=True):
        for number, (variant, runs) in enumerate(results.items()):
            color, marker = styles[variant]
            places = np.arange(len(SIZES)) + 0.12 * (number - (len(results) - 1) / 2)
            values = factor * np.array([[run[size][name] for size in SIZES] for run in runs])
            axis.plot(places, values.mean(axis=0), "-", color=color, label=variant)
            for run in values:
                axis.plot(places, run, marker, color=color, alpha=0.6, markersize=4)
        axis.set_xticks(range(len(SIZES)), SIZES)
        axis.set_title(heading, fontsize=8.5)
        axis.set_ylim(bottom=0)
        axis.grid(axis="y", alpha=0.3)
    figure.supxlabel("size of the object", fontsize=9)
    handles = axes.flat[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(results), fontsize=9, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/ablation"), metavar="DIR", help="folder of the ablation"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/spatial_support"), metavar="DIR")
    parser.add_argument("--objects", type=int, default=10, metavar="N", help="of each size")
    parser.add_argument("--steps", type=int, default=1500, metavar="N", help="of the runs to look at")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample of objects")
    return parser.parse_args()


if __name__ == "__main__":
    main()
