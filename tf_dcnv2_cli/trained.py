"""Finds and loads what `tf-dcnv2 train` left behind, for the commands that use it."""

import os
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

from tf_dcnv2.models import FasterRCNN
from tf_dcnv2.models.weights import require_finite_weights


class Trained(NamedTuple):
    """A trained detector.

    Attributes:
        detector: as it was saved.
        names: category id -> name; the id itself where no name is known.
        path: the `.keras` file it came from.
        orientation: "stored" if it was trained on EXIF-rotated images as they are stored, "upright" otherwise.
    """

    detector: FasterRCNN
    names: dict[int, str]
    path: Path
    orientation: str = "upright"

    def __str__(self) -> str:
        parameters = self.detector.count_params() / 1e6
        return f"{self.detector.name}: {parameters:.1f} M parameters, {len(self.names)} classes, from {self.path}"


def load_trained(run_path: str | os.PathLike, *, allow_non_finite: bool = False) -> Trained:
    """Loads the best detector of a run.

    Args:
        run_path: the run's folder, or a `.keras` file in it or anywhere else.
        allow_non_finite: accept weights that are NaN or infinite, which detect nothing, or nonsense.

    Raises:
        FileNotFoundError: there is no such file, or no detector in the folder.
        ValueError: the file holds something else than a detector, or weights that are not finite.
    """
    import keras

    path = _find_detector(Path(run_path))
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is truncated, damaged, or no .keras file: it is no complete zip archive.")
    with warnings.catch_warnings():
        # Keras warns of an optimizer's state that it leaves out: nobody asked for it.
        warnings.simplefilter("ignore")
        detector = keras.saving.load_model(path, compile=False)
    if not isinstance(detector, FasterRCNN):
        raise ValueError(f"{path} holds a {type(detector).__name__}, not a detector.")
    if not allow_non_finite:
        try:
            require_finite_weights(detector, str(path))
        except ValueError as error:
            raise ValueError(f"{error} --allow-non-finite uses them all the same.") from None
    known, orientation = _read_config(path.with_name("config.yaml"))
    names = {category_id: known.get(category_id, str(category_id)) for category_id in detector.category_ids}
    return Trained(detector, names, path, orientation)


def _find_detector(path: Path) -> Path:
    candidates = [path / "best.keras", path / "last.keras"] if path.is_dir() else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if path.is_dir():
        raise FileNotFoundError(f"{path} holds no trained detector: neither best.keras nor last.keras is there.")
    raise FileNotFoundError(f"{path} does not exist. Expected the folder of a training run or a .keras file.")


def _read_config(path: Path) -> tuple[dict[int, str], str]:
    """Names of the categories and orientation of the images in a run's configuration.

    A config.yaml beside a detector that was not trained there may be that of another program, which says neither.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in config["categories"]}
        return names, config.get("orientation", "upright")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}, "upright"
