"""Finds and loads what `tf-dcnv2 train` left behind, for the commands that use it."""

import os
from pathlib import Path
from typing import NamedTuple

from tf_dcnv2.models import FasterRCNN


class Trained(NamedTuple):
    """A trained detector.

    Attributes:
        detector: as it was saved.
        names: category id -> name; the id itself where no name is known.
        path: the `.keras` file it came from.
    """

    detector: FasterRCNN
    names: dict[int, str]
    path: Path

    def __str__(self) -> str:
        parameters = self.detector.count_params() / 1e6
        return f"{self.detector.name}: {parameters:.1f} M parameters, {len(self.names)} classes, from {self.path}"


def load_trained(run_path: str | os.PathLike) -> Trained:
    """Loads the best detector of a run.

    Args:
        run_path: the run's folder, or a `.keras` file in it or anywhere else.

    Raises:
        FileNotFoundError: there is no such file, or no detector in the folder.
        ValueError: the file holds something else than a detector.
    """
    import keras

    path = _find_detector(Path(run_path))
    detector = keras.saving.load_model(path, compile=False)
    if not isinstance(detector, FasterRCNN):
        raise ValueError(f"{path} holds a {type(detector).__name__}, not a detector.")
    names = {category_id: str(category_id) for category_id in detector.category_ids}
    return Trained(detector, names | _read_names(path.with_name("config.yaml")), path)


def _find_detector(path: Path) -> Path:
    candidates = [path / "best.keras", path / "last.keras"] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise FileNotFoundError(f"{path} holds no trained detector: neither best.keras nor last.keras is there.")
    raise FileNotFoundError(f"{path} does not exist. Expected the folder of a training run or a .keras file.")


def _read_names(config_path: Path) -> dict[int, str]:
    import yaml

    if not config_path.is_file():
        return {}
    config = yaml.safe_load(config_path.read_text(encoding="utf-8"))
    return {category["id"]: category["name"] for category in config["categories"]}
