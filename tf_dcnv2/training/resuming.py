"""Which settings a resumed run has, and what stands against resuming it."""

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

from tf_dcnv2.data.dataset_info import describe_shards
from tf_dcnv2.data.record_files import find_shards
from tf_dcnv2.training.backups import RunState
from tf_dcnv2.training.budget import Budget
from tf_dcnv2.training.options import BUDGETS, TrainOptions
from tf_dcnv2.training.run_folder import RunFolder

# What the weights, the state of the optimizer and the count of steps belong to. The other options may change.
_FIXED = ("preset", "overrides", "weights", "mimic", "batch_size", "optimizer", "ema", "short_side", "max_side")

# Where things are says nothing about the run; whether the data are the same is looked at in the data.
_NAMES = ("output", "resume", "train", "val")


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
            options = dataclasses.replace(options, **dict.fromkeys(replaced))
    return options


def changes(options: TrainOptions, config: Mapping[str, Any]) -> list[str]:
    """How `options` differ from those of the run, one line each.

    Args:
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
    """What has to stay the same of a data set while a run lasts, wherever its files are; None if nothing is known."""
    info = describe_shards(find_shards(pattern)) if pattern else None
    if info is None:
        return None
    ids = zlib.crc32(repr(sorted(info.image_ids)).encode())
    return {"images": info.num_images, "boxes": info.num_boxes, "image_ids_crc32": ids}


def require_same_data(config: Mapping[str, Any], new: Mapping[str, Mapping[str, int] | None]) -> None:
    """Checks that a run goes on with the data that it began with.

    Args:
        config: of the run.
        new: of "train" and "val", `describe_data`.

    Raises:
        ValueError: the images or boxes are others.
    """
    for name, saved in config.get("data", {}).items():
        if saved is None or saved == new[name]:
            continue
        if new[name] is None:
            raise ValueError(f"The run was evaluated on {saved['images']} images so far. Give `{name}` again.")
        counts = [f"{data['images']} images with {data['boxes']} boxes" for data in (saved, new[name])]
        other = "other images" if counts[0] == counts[1] else counts[1]
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
    if not any(_is_used_up(name, options, config, state) for name in BUDGETS):
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
