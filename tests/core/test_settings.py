"""Feeds every field of all settings, and every checked argument, values derived from its annotation."""

import dataclasses
import importlib
import inspect
import math
import pkgutil
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import pytest

import tf_dcnv2.data
import tf_dcnv2.models
import tf_dcnv2.training
from tests.core.annotated_values import valid, wrong
from tf_dcnv2._core.checked_types import PositiveFloat, PositiveInt, UnsupportedType, check_for
from tf_dcnv2._core.settings import Settings

PACKAGES = (tf_dcnv2.data, tf_dcnv2.models, tf_dcnv2.training)
FUNCTIONS = (
    tf_dcnv2.data.convert_coco,
    tf_dcnv2.data.load_records,
    tf_dcnv2.data.make_synthetic_coco,
    tf_dcnv2.data.prepare_image,
    tf_dcnv2.training.MaxMinutes,
    tf_dcnv2.training.NaNGuard,
)


def settings_classes() -> list[type[Settings]]:
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return sorted((kind for kind in subclasses(Settings) if kind.__module__.startswith("tf_dcnv2.")), key=str)


def subclasses(kind: type) -> Iterator[type]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def annotations(function: Any) -> dict[str, Any]:
    """The types of the fields of a settings class, or of the arguments of a function that are checked."""
    if inspect.isclass(function) and issubclass(function, Settings):
        return typing.get_type_hints(function, include_extras=True)
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    return {name: kind for name, kind in hints.items() if name != "return" and is_checked(kind)}


def is_checked(annotation: Any) -> bool:
    try:
        return bool(check_for(annotation))
    except UnsupportedType:
        return False


def of_each(functions: Any) -> Any:
    """Parametrises a test with each field or argument of each of `functions`."""
    cases = [
        pytest.param(function, name, annotation, id=f"{function.__name__}.{name}")
        for function in functions
        for name, annotation in annotations(function).items()
    ]
    return pytest.mark.parametrize(("function", "name", "annotation"), cases)


def has_bare_number(annotation: Any) -> bool:
    """Whether there is a number without bounds in an annotation."""
    if typing.get_origin(annotation) is Annotated and annotation.__origin__ in (int, float):
        return False
    return annotation in (int, float) or any(map(has_bare_number, typing.get_args(annotation)))


def required(kind: type[Settings]) -> dict[str, Any]:
    """A valid value for each field that has no default."""
    missing = dataclasses.MISSING
    names = [field.name for field in dataclasses.fields(kind) if field.default is field.default_factory is missing]
    return {name: valid(annotations(kind)[name]) for name in names}


@dataclasses.dataclass(frozen=True)
class Blur(Settings):
    """Part of a `Drawing`."""

    sigma: PositiveFloat = 1.0
    sizes: tuple[PositiveInt, ...] = (3, 5)


@dataclasses.dataclass(frozen=True)
class Drawing(Settings):
    """Settings with a required field, sections and a mapping."""

    title: str
    mode: Literal["line", "fill"] = "line"
    blur: Blur = Blur()
    shadow: Blur | None = None
    colors: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def test_the_settings_of_models_training_and_data_are_found():
    names = {kind.__name__ for kind in settings_classes()}
    assert {"BackboneConfig", "DetectorConfig", "MimicConfig", "TrainOptions", "Augmentation"} <= names
    assert len(annotations(tf_dcnv2.data.load_records)) >= 18


@of_each(settings_classes())
def test_a_field_refuses_every_wrong_value_and_names_itself(function, name, annotation):
    for value in wrong(annotation):
        with pytest.raises(ValueError, match=rf"^(A key of )?{function.__name__}\.{name}.* must be .* Received: "):
            function(**{**required(function), name: value})


@of_each(settings_classes())
def test_a_number_has_a_range(function, name, annotation):
    assert not has_bare_number(annotation), f"{name}: give it a Range, even if only `Range(0)`."


@of_each(FUNCTIONS)
def test_an_argument_refuses_every_wrong_value_and_names_itself(function, name, annotation):
    parameters = inspect.signature(function).parameters.values()
    others = {item.name: None for item in parameters if item.default is item.empty and not is_checked(item.annotation)}
    numbers = {item.name: 1 for item in parameters if item.default is item.empty and is_checked(item.annotation)}
    for value in wrong(annotation):
        with pytest.raises(ValueError, match=rf"^(A key of )?{name}.* must be .* Received: "):
            function(**{**others, **numbers, name: value})


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_the_defaults_of_arguments_are_allowed(function):
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty and parameter.name in annotations(function):
            check_for(annotations(function)[parameter.name])(parameter.default, parameter.name)


@pytest.mark.parametrize("kind", settings_classes(), ids=lambda kind: kind.__name__)
def test_settings_survive_the_way_through_plain_types(kind):
    settings = kind(**required(kind))
    assert kind.from_dict(settings.to_dict()) == settings


def test_a_section_is_built_from_a_mapping_and_checked():
    drawing = Drawing.from_dict({"title": "x", "blur": {"sizes": [7]}, "shadow": {}})
    assert drawing == Drawing("x", blur=Blur(sizes=(7,)), shadow=Blur())
    assert Drawing.from_dict({"title": "x", "blur": Blur(2.0), "shadow": None}) == Drawing("x", blur=Blur(2.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"title": "x", "blur": {"sigam": 1}},
            "Unknown setting 'blur.sigam'. Did you mean 'blur.sigma'? Known: blur.sigma, ",
        ),
        ({"title": "x", 3: 1}, "Unknown setting '3'. Known: title, mode, blur, shadow, colors"),
        ({"mode": "fill"}, "Drawing needs title."),
        ({"title": "x", "blur": 3}, "blur must be a mapping of settings. Received: 3"),
        ({"title": "x", "blur": None}, "Drawing.blur must be a Blur. Received: None"),
        ({"title": "x", "shadow": {"sigma": 0}}, "Blur.sigma must be positive. Received: 0"),
        ([1], "Drawing must be a mapping of settings. Received: [1]"),
    ],
)
def test_a_dictionary_with_a_mistake_is_refused(values, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Drawing.from_dict(values)


def test_replace_changes_fields_sections_and_fields_of_sections():
    drawing = Drawing("x", blur=Blur(2.0), colors={"line": "red"})
    assert drawing.replace(title="y", **{"blur.sizes": [9]}) == Drawing(
        "y", "line", Blur(2.0, (9,)), None, drawing.colors
    )
    assert drawing.replace(blur={"sizes": [9]}).blur == Blur(2.0, (9,))
    assert drawing.replace(blur=Blur(sizes=(9,))).blur == Blur(1.0, (9,))
    assert drawing.replace(shadow={}, **{"shadow.sigma": 4}).shadow == Blur(4.0)
    assert drawing.replace(shadow=Blur(5.0)).replace(shadow=None) == drawing
    assert drawing.blur == Blur(2.0)


def test_replace_replaces_a_mapping_that_is_no_section():
    assert Drawing("x", colors={"line": "red"}).replace(colors={"fill": "blue"}).colors == {"fill": "blue"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"blurr.sigma": 1}, "No configuration section named 'blurr' (in 'blurr.sigma'). Did you mean 'blur'?"),
        ({"shadow.sigma": 1}, "No configuration section named 'shadow' (in 'shadow.sigma')."),
        ({"blur.sigma.x": 1}, "No configuration section named 'blur.sigma' (in 'blur.sigma.x')."),
        ({"colors.line": 1}, "No configuration section named 'colors' (in 'colors.line')."),
        ({"blur.sigam": 1}, "Unknown setting 'blur.sigam'. Did you mean 'blur.sigma'?"),
        ({"blur": 3}, "blur must be a mapping of settings. Received: 3"),
        ({"blur.sigma": math.nan}, "Blur.sigma must be a finite number. Received: nan"),
    ],
)
def test_an_override_with_a_mistake_is_refused(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Drawing("x").replace(**overrides)
