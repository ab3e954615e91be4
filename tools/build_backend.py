"""setuptools' build backend, with the TensorFlow to compile against among the requirements."""

from native_choice import has_native_ops, prebuilt_ops
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403, the hooks of PEP 517 and PEP 660
from tensorflow_release import build_requirement


def get_requires_for_build_wheel(config_settings=None):
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_tensorflow()]


def get_requires_for_build_editable(config_settings=None):
    return [*build_meta.get_requires_for_build_editable(config_settings), *_tensorflow()]


def _tensorflow():
    return [build_requirement()] if has_native_ops() and not prebuilt_ops() else []
