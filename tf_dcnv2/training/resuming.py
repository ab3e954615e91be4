"""Which settings a resumed run has, and what stands against resuming it."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

from tf_dcnv2.data.records.dataset_info import DatasetInfo, describe_shards
from tf_dcnv2.data.records.files import find_shards
from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import Budget
from tf_dcnv2.training.options import BUDGETS, TrainOptions
from tf_dcnv2.training.progress import has_stalled
from tf_dcnv2.training.run_folder import RunFolder

# What the weights, the state of the optimizer and the count of steps belong to. The other options may change.
_FIXED = (
    "preset",
    "overrides",
    "weights",
    "mimic",
    "batch_size",
    "precision",
    "optimizer",
    "ema",
    "short_side",
    "max_side",
)

# Where things are says nothing about the run; whether the data are the same is looked at in the data.
_NAMES = ("output", "resume", "train", "val")

_SHOWN_CATEGORIES = 8


def resumed_options(output: str, given: Mapping[str, Any]) -> TrainOptions:
    """The options of the run in `output`, with those that are given in their place.

    Where a run has used up its budget and another kind of budget is given, as in `--epochs 3`, then `--steps 500`, the
    used one holds no longer.

    Args:
        output: folder of a run; if it holds none, everything has to be given.
        given: fields of `TrainOptions`.

    Raises:
        ValueError: a value is out of range, or the folder holds no run and `preset` or `train` is missing.
    """
    run = RunFolder(output)
    if not run.holds_a_run():
        if missing := [name for name in ("preset", "train") if name not in given]:
            raise ValueError(f"{output} holds no run to resume. A new one needs {' and '.join(missing)}.")
        return TrainOptions(**{**given, "output": output, "resume": True})
    config = run.read_config()
    saved = _known_fields(config["options"])
    overrides = {**saved.get("overrides", {}), **given.get("overrides", {})}
    options = TrainOptions(**{**saved, **given, "overrides": overrides, "output": output, "resume": True})
    state = run.backups.load_state()
    if state is not None and state.is_finished:
        replaced = [name for name in BUDGETS if name not in given and _is_used_up(name, options, config, state)]
        if set(BUDGETS) & set(given) - set(replaced):
            none: dict[str, Any] = dict.fromkeys(replaced)
            options = dataclasses.replace(options, **none)
    return options


def changes(options: TrainOptions, config: Mapping[str, Any]) -> list[str]:
    """Lists how `options` differ from those of the run, one line each.

    Args:
        options: those that are wanted now.
        config: of the run.

    Raises:
        ValueError: an option differs that has to stay.
    """
    saved, new = _flat(_known_fields(config["options"])), _flat(options.to_dict())
    different = [name for name in {**saved, **new} if name not in _NAMES and saved.get(name) != new.get(name)]
    if fixed := [name for name in different if name.split(":")[0] in _FIXED]:
        list_of = ", ".join(f"{name}={saved.get(name)!r}, not {new.get(name)!r}" for name in fixed)
        raise ValueError(
            f"The run in {options.output} was made with {list_of}. Leave out what has to stay, or train another run "
            f"from its weights: weights={options.output}/last.keras."
        )
    return [f"{name} is {new.get(name)}, was {saved.get(name)}" for name in different]


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with each of `overrides` on its own, for messages to name."""
    overrides = {f"overrides:{key}": value for key, value in options["overrides"].items()}
    return {**{name: value for name, value in options.items() if name != "overrides"}, **overrides}


def describe_data(pattern: str | None) -> dict[str, int] | None:
    """Describes what of a data set has to stay the same while a run lasts, wherever its files are; None if unknown."""
    info = describe_shards(find_shards(pattern)) if pattern else None
    if info is None:
        return None
    # By name, which is how the categories of validation data find those of the detector.
    labels = [(info.categories[key], count) for key, count in info.boxes_per_category.items() if count]
    return {
        "images": info.num_images,
        "boxes": info.num_boxes,
        "image_ids_crc32": zlib.crc32(repr(sorted(info.image_ids)).encode()),
        "labels_crc32": zlib.crc32(repr(sorted(labels)).encode()),
    }


def require_same_classes(config: Mapping[str, Any], info: DatasetInfo) -> None:
    """Checks that the classes which the weights tell apart are those of the data.

    Args:
        config: of the run.
        info: of the data to train on.

    Raises:
        ValueError: categories are others, or have other ids, or EXIF-rotated images are turned another way; the
            message names what differs.
    """
    entries = config.get("categories")
    saved = info.categories if entries is None else {entry["id"]: entry["name"] for entry in entries}
    different = [key for key in sorted({**saved, **info.categories}) if saved.get(key) != info.categories.get(key)]
    problems = [f"category {key} was {_name(saved, key)}, now it is {_name(info.categories, key)}" for key in different]
    if len(problems) > _SHOWN_CATEGORIES:
        problems[_SHOWN_CATEGORIES:] = [f"{len(problems) - _SHOWN_CATEGORIES} more categories differ"]
    if (orientation := config.get("orientation", info.orientation)) != info.orientation:
        problems.append(
            f"EXIF-rotated images had the orientation {orientation!r} in `train`, now they have {info.orientation!r}"
        )
    if problems:
        raise ValueError(
            f"The run began with other classes or images: {'; '.join(problems)}. Convert the data as they were, or "
            "train another run, with weights=.../last.keras to start from this one."
        )


def _name(categories: Mapping[int, str], key: int) -> str:
    return repr(categories[key]) if key in categories else "missing"


def require_same_data(config: Mapping[str, Any], new: Mapping[str, Mapping[str, int] | None]) -> None:
    """Checks that a run goes on with the data that it began with.

    Args:
        config: of the run.
        new: of "train" and "val", `describe_data`.

    Raises:
        ValueError: the images or boxes are others, or the categories of the boxes.
    """
    for name, saved in config.get("data", {}).items():
        if saved is None:
            continue
        now = new[name]
        if now is None:
            raise ValueError(f"The run was evaluated on {saved['images']} images so far. Give `{name}` again.")
        # Earlier versions did not write all of them.
        different = {key for key, value in now.items() if saved.get(key, value) != value}
        if not different:
            continue
        counts = [f"{data['images']} images with {data['boxes']} boxes" for data in (saved, now)]
        if counts[0] != counts[1]:
            other = counts[1]
        else:
            other = "other images" if "image_ids_crc32" in different else "other categories for its boxes"
        raise ValueError(
            f"The run began with other data: `{name}` had {counts[0]}, now it has {other}. A schedule and a best AP "
            "mean nothing across data sets: train another run, with weights=.../last.keras to start from this one."
        )


def finished_state(options: TrainOptions) -> RunState | None:
    """The state of the run that `options` resume if nothing is left to do; None if there is something.

    Raises:
        ValueError: `options` give an unfinished run less than it has used already.
    """
    run = RunFolder(options.output)
    if not options.resume or not run.holds_a_run():
        return None
    config, state = run.read_config(), run.backups.load_state()
    if state is None or not run.is_complete(state):
        return None
    stalled = state.is_finished and has_stalled(state.history, options.patience, options.best_by)
    if not stalled and not any(_is_used_up(name, options, config, state) for name in BUDGETS):
        return None
    if not state.is_finished:
        budgets = ", ".join(f"{name}={value}" for name in BUDGETS if (value := getattr(options, name)) is not None)
        raise ValueError(
            f"The run in {options.output} has made {state.steps} steps in {state.seconds / 60:.1f} minutes already, "
            f"which is more than it is given now. Received: {budgets}"
        )
    return state


def _is_used_up(name: str, options: TrainOptions, config: Mapping[str, Any], state: RunState) -> bool:
    limit = getattr(options, name)
    if limit is None:
        return False
    if name == "max_minutes":
        return Budget(minutes=limit, seconds_before=state.seconds).progress >= 1.0
    steps_per_epoch = config["data"]["train"]["images"] // options.batch_size
    return state.steps >= (limit * steps_per_epoch if name == "epochs" else limit)


def _known_fields(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The options in a config.yaml that this version has."""
    return {name: value for name, value in saved.items() if name in TrainOptions.__dataclass_fields__}
