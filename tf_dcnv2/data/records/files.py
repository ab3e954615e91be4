"""Names and completeness of a set of TFRecord shards.

A data set converted with prefix `records/train` consists of `records/train-00000-of-00002.tfrecord`, … and the sidecar
`records/train.json`. The sidecar exists in an unfinished form while shards are being put in place and is completed
last, so a data set is either whole or refused.
"""

import collections
import fnmatch
import json
import os
import re
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tf_dcnv2._core.atomic_files import write_atomically

_SHARD_NAME = re.compile(r"^(?P<prefix>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(\.tfrecord)?$")
_FORMAT = "tf_dcnv2.records/2"
_PATTERN = re.compile(r"[*?[]")


def shard_paths(prefix: str, num_shards: int) -> list[str]:
    """File names of all shards of a data set."""
    return [f"{prefix}-{index:05d}-of-{num_shards:05d}.tfrecord" for index in range(num_shards)]


def existing_shards(prefix: str) -> list[str]:
    """Paths of all files named like shards of this prefix, whatever their number."""
    return sorted(path for path in _files_beside(prefix) if prefix_of(path) == prefix)


def _files_beside(path: str) -> list[str]:
    """Paths of all files in the folder of `path`, spelled as `path` is."""
    folder = os.path.dirname(path)
    try:
        names = tf.io.gfile.listdir(folder or os.curdir)
    except tf.errors.OpError:
        return []
    return [os.path.join(folder, name.rstrip("/")) for name in names]


def sidecar_path(prefix: str) -> str:
    """File name of a data set's description."""
    return f"{prefix}.json"


def report_path(prefix: str) -> str:
    """File name of the list of what was left out of a data set or repaired."""
    return f"{prefix}.skipped.json"


def is_sidecar(path: str) -> bool:
    """Whether a file is the description of a data set, whole or damaged."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return b"tf_dcnv2.records/" in file.read(64)
    except tf.errors.OpError:
        return False


def write_sidecar(prefix: str, content: dict[str, Any] | None) -> None:
    """Writes the description of a finished data set, or with None marks it as unfinished. Atomic."""
    content = {"format": _FORMAT, "complete": content is not None, **(content or {})}
    write_atomically(sidecar_path(prefix), json.dumps(content))


def find_shards(pattern: str | os.PathLike | Sequence[str | os.PathLike]) -> list[str]:
    """Resolves a prefix, a file, a glob pattern or a list of these to complete sets of record files.

    Records written by other tools (for example Model Garden's converter) have no sidecar and are accepted; shards named
    `…-00001-of-00004` must then be all there.

    Raises:
        FileNotFoundError: nothing matches, or shards are missing; the message names pattern and files.
        ValueError: the data set is an interrupted conversion, or a shard does not have its recorded size.
    """
    patterns = [pattern] if isinstance(pattern, (str, os.PathLike)) else list(pattern)
    paths: list[str] = []
    for entry in [os.fspath(entry) for entry in patterns]:
        matches = _match(entry)
        if not matches:
            if tf.io.gfile.exists(sidecar_path(entry)):
                read_sidecar(entry)
            raise FileNotFoundError(_no_match(entry))
        paths.extend(matches)
    paths = list(dict.fromkeys(paths))
    for prefix in group_by_prefix(paths):
        _check_complete(prefix, paths)
    return paths


def _match(entry: str) -> list[str]:
    if tf.io.gfile.exists(entry) and _is_record(entry):
        return [entry]
    return existing_shards(entry) or sorted(filter(_is_record, _glob(entry)))


def _glob(pattern: str) -> list[str]:
    """Paths that match a pattern.

    Where its folder exists as written, that is no pattern, nor are brackets one that exist as written, as in
    `data[1]/train-*`.
    """
    folder, name = os.path.split(pattern)
    if not tf.io.gfile.isdir(folder or os.curdir):
        return tf.io.gfile.glob(pattern) if _PATTERN.search(folder) else []
    paths = _files_beside(pattern)
    literal = [path for path in paths if fnmatch.fnmatchcase(os.path.basename(path), name.replace("[", "[[]"))]
    return literal or [path for path in paths if fnmatch.fnmatchcase(os.path.basename(path), name)]


def _no_match(entry: str) -> str:
    message = f"No TFRecord files match {entry!r} (a prefix, a file or a glob pattern)."
    beside = os.path.join(entry, "") if tf.io.gfile.isdir(entry) else entry
    prefixes = sorted({prefix for prefix in map(prefix_of, _files_beside(beside)) if prefix})
    return message + (f" There are {', '.join(prefixes[:5])}." if prefixes else "")


def _is_record(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and not name.endswith(".json") and not tf.io.gfile.isdir(path)


def prefix_of(path: str) -> str | None:
    """The prefix of a file named like a shard, or None."""
    match = _SHARD_NAME.match(path)
    return match["prefix"] if match else None


def group_by_prefix(paths: Sequence[str]) -> dict[str, list[str]]:
    """Shards by the data set they belong to; files not named like shards are left out."""
    groups = collections.defaultdict(list)
    for path in paths:
        if prefix := prefix_of(path):
            groups[prefix].append(path)
    return groups


def _check_complete(prefix: str, paths: Sequence[str]) -> None:
    """Every shard of `prefix` exists; those the caller selected with a narrower pattern may be fewer."""
    sidecar = read_sidecar(prefix)
    if sidecar is not None:
        directory = os.path.dirname(prefix)
        expected = {os.path.join(directory, shard["file"]): shard["bytes"] for shard in sidecar["shards"]}
    else:
        matches = [match for path in paths if (match := _SHARD_NAME.match(path)) and match["prefix"] == prefix]
        counts = {int(match["count"]) for match in matches}
        suffix = ".tfrecord" if paths[0].endswith(".tfrecord") else ""
        expected = {
            f"{prefix}-{index:05d}-of-{count:05d}{suffix}": None for count in sorted(counts) for index in range(count)
        }
    missing = [path for path in expected if not tf.io.gfile.exists(path)]
    if missing:
        raise FileNotFoundError(f"The records {prefix!r} are incomplete: missing {', '.join(missing)}.")
    if stale := [path for path in paths if prefix_of(path) == prefix and path not in expected]:
        raise ValueError(f"{', '.join(stale)} do not belong to the data set described by {sidecar_path(prefix)}.")
    for path, size in expected.items():
        actual = tf.io.gfile.stat(path).length
        if size is not None and actual != size:
            raise ValueError(f"{path} is truncated or was changed: it has {actual} bytes instead of {size}.")


def read_sidecar(prefix: str) -> dict[str, Any] | None:
    """The description of a finished data set, or None if there is none.

    Raises:
        ValueError: it is damaged, or of a conversion that did not finish.
    """
    path = sidecar_path(prefix)
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            content = json.load(file)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: {error}. Convert the data set again.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        # Some other tool's file that happens to have the name.
        return None
    if not content["complete"]:
        raise ValueError(f"The conversion of {prefix!r} did not finish (see {path}). Convert the data set again.")
    return content
