"""Reads the configuration files of other projects as data; nothing in them is executed."""

import ast
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read_project_config(path: str | os.PathLike) -> dict[str, Any]:
    """A detectron2 `.yaml`, a `.json`, or an mmdetection `.py` file, with the files that it builds on.

    A Python file is read, not run: it may assign literals, `dict(...)`, and names that were assigned before.

    Args:
        path: of the file. `_BASE_` of a YAML file and `_base_` of a Python file name others, relative to it.

    Raises:
        ValueError: the file is of another kind, does not parse, or a Python file computes something; the message says
            where.
        FileNotFoundError: it, or a file that it builds on, does not exist.
    """
    path = Path(path)
    readers = {".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_json, ".py": _read_python}
    if path.suffix.lower() not in readers:
        raise ValueError(f"config must be a .yaml, .json or .py file. Received: {path}")
    try:
        content = readers[path.suffix.lower()](path)
    except (yaml.YAMLError, json.JSONDecodeError, SyntaxError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} does not parse: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not settings by name.")
    return content


def parse_python_config(text: str, name: str) -> dict[str, Any]:
    """The settings that the text of an mmdetection configuration assigns; see `read_project_config`.

    Args:
        text: the file's content, also as checkpoints hold it.
        name: of the file, for messages.

    Raises:
        ValueError: it does anything but assign data.
        SyntaxError: it is no Python.
    """
    settings: dict[str, Any] = {}
    for statement in ast.parse(text, name).body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
            raise _not_data(statement, name)
        (target,) = statement.targets
        if not isinstance(target, ast.Name):
            raise _not_data(statement, name)
        settings[target.id] = _value(statement.value, settings, name)
    return settings


def _value(node: ast.expr, known: Mapping[str, Any], name: str) -> Any:
    """The data that an expression stands for."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(element, known, name) for element in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
        return dict(zip(keys, (_value(value, known, name) for value in node.values), strict=True))
    if isinstance(node, ast.Call) and _is_dict(node):
        return {str(keyword.arg): _value(keyword.value, known, name) for keyword in node.keywords}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, known, name)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.Name) and node.id in known:
        return known[node.id]
    raise _not_data(node, name)


def _is_dict(call: ast.Call) -> bool:
    """Whether this is `dict(name=value, ...)`."""
    is_named = isinstance(call.func, ast.Name) and call.func.id == "dict"
    return is_named and not call.args and all(keyword.arg for keyword in call.keywords)


def _not_data(node: ast.stmt | ast.expr, name: str) -> ValueError:
    return ValueError(
        f"{name}, line {node.lineno}: a configuration is read as data, which `{ast.unparse(node)[:60]}` is not. "
        "Give the resolved configuration, which mmdetection prints with tools/misc/print_config.py."
    )


def _read_python(path: Path) -> dict[str, Any]:
    settings = parse_python_config(path.read_text(encoding="utf-8"), str(path))
    bases = settings.pop("_base_", [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        merged = _merged(merged, _read_python(path.parent / base))
    return _merged(merged, settings)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


class _Loader(yaml.SafeLoader):
    """Data only; detectron2 writes tuples with a tag of Python's."""


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", lambda loader, node: loader.construct_sequence(node))


def _read_yaml(path: Path) -> Any:
    content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    if isinstance(content, dict) and "_BASE_" in content:
        base = content.pop("_BASE_")
        return _merged(_read_yaml(path.parent / base), content)
    return content


def _merged(base: Any, change: Any) -> Any:
    """`change` on top of `base`: dictionaries by key, unless `_delete_=True` asks to start anew."""
    if not isinstance(base, dict) or not isinstance(change, dict) or change.get("_delete_"):
        if isinstance(change, dict):
            return {key: value for key, value in change.items() if key != "_delete_"}
        return change
    return {**base, **{key: _merged(base.get(key), value) for key, value in change.items()}}
