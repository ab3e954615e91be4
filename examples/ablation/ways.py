"""The same training in other ways: half precision, batches in parts, several processes. Their AP should be one.

    python examples/ablation/ways.py [--output runs/ways] [--seeds 3] [--steps 1500]

Trains one preset on the ablation's shapes, and writes `table.md` and `results.json`. Runs that are done are not
repeated.
"""

import argparse
import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from ablate import DATA, METRICS, RECIPE, draw, make_table

PRESET = "faster_rcnn_small_dcnv2"
WAYS: dict[str, dict[str, object]] = {
    "float32": {},
    "bfloat16": {"precision": "mixed_bfloat16"},
    "float16": {"precision": "mixed_float16"},
    "2 parts": {"accumulate": 2},
    "2 processes": {"strategy": "multiworker"},
}


def main() -> None:
    arguments = _parse()
    records = draw(arguments.output / "data", arguments.train_images, arguments.val_images)
    results = {way: [] for way in arguments.ways}
    # Seed by seed: an interrupted comparison has as many runs of every way.
    for seed in range(arguments.seeds):
        for way in arguments.ways:
            results[way].append(run(way, seed, arguments.steps, records, arguments.output))
            table = make_table({name: runs for name, runs in results.items() if len(runs) == seed + 1})
    (arguments.output / "table.md").write_text(table)
    (arguments.output / "results.json").write_text(json.dumps({"data": DATA, "results": results}, indent=2))
    print(table)


def run(way: str, seed: int, steps: int, records: dict[str, Path], output: Path) -> dict[str, float]:
    """Trains in one way with one seed, or goes on with that; returns the metrics and the minutes."""
    folder = output / f"{way.replace(' ', '')}-{steps}-seed{seed}"
    options = {**RECIPE, **WAYS[way], "preset": PRESET, "train": records["train"], "val": records["val"]}
    options |= {"steps": steps, "seed": seed, "output": folder}
    words = ["--resume", "--no-mimic"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, str(value)]
    command = [sys.executable, "-m", "tf_dcnv2", "train", *words]
    if "multiworker" in command:
        processes = [subprocess.Popen(command, env={**os.environ, "TF_CONFIG": text}) for text in _tf_configs(2)]
    else:
        processes = [subprocess.Popen(command)]
    if any([process.wait() for process in processes]):
        raise SystemExit(f"{way}, seed {seed}: the run failed")
    with open(folder / "log.csv") as file:
        *_, last = csv.DictReader(file)
    state = json.loads((folder / "state.json").read_text())
    return {**{name: float(last[f"val_{name}"]) for name in METRICS}, "minutes": state["seconds"] / 60}


def _tf_configs(count: int) -> list[str]:
    """TF_CONFIG of each of several processes of this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/ways"), metavar="DIR")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--steps", type=int, default=1500, metavar="N", help="of each run, 4 images a step")
    parser.add_argument("--train-images", type=int, default=800, metavar="N")
    parser.add_argument("--val-images", type=int, default=200, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    main()
