"""Compiles the custom ops in cc/ against the installed TensorFlow. Everything else is in pyproject.toml.

The environment variable DCNV2_NATIVE decides whether there are custom ops, and whether they are compiled here: see
tools/native_choice.py.
DCNV2_CUDA and DCNV2_CUDA_ARCHS decide about their CUDA kernels: see tools/cuda_toolkit.py.
"""

import json
import platform
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

import tensorflow_flags
from cuda_toolkit import CudaUnavailable, chosen_architectures, chosen_toolkit, describe, summary
from native_choice import BUILD_INFO, LIBRARY, has_native_ops, prebuilt_ops
from tensorflow_release import installed_version, runtime_requirement
from toolchain import ROOT, Builder, BuildError, cuda_sources, sources

EXTENSION = "tf_dcnv2.ops._dcnv2_ops"
FOLDERS = ("cc/kernels", "cc/lib", "cc/ops")


class OpsBuilder(Builder):
    """Builds the op library."""

    def __init__(self, directory):
        try:
            self.cuda = chosen_toolkit()
            self.architectures = chosen_architectures(self.cuda) if self.cuda else []
        except CudaUnavailable as error:
            raise BuildError(str(error)) from None
        super().__init__(directory, self.cuda.compiler(self.architectures) if self.cuda else ())

    def build(self):
        """Returns the paths of the library and of the description of what it was built with."""
        tensorflow = tensorflow_flags.installed(self.directory)
        flags = tensorflow["compile"]
        objects = self.compile(sources("cc/kernels", "cc/ops"), flags) + self.compile(sources("cc/lib"))
        link_flags = tensorflow["link"]
        if self.cuda:
            objects += self._compile_cuda(flags)
            link_flags = [*self.cuda.link_flags, *link_flags]
        library = self.link(LIBRARY, objects, link_flags)
        info = {
            "tensorflow": tensorflow["version"],
            "cxx11_abi": tensorflow["cxx11_abi"],
            "compiler": self.compiler_version(),
            "cuda": describe(self.cuda, self.architectures) if self.cuda else None,
        }
        info_path = self.directory / BUILD_INFO
        info_path.write_text(json.dumps(info, indent=2) + "\n")
        return library, info_path

    def _compile_cuda(self, flags):
        print(summary(self.cuda, self.architectures), flush=True)
        try:
            glue = self.compile(cuda_sources("cc/kernels"), [*flags, *self.cuda.include_flags])
            return glue + self.compile(cuda_sources("cc/lib"))
        except BuildError as error:
            raise BuildError(f"{error.message}\n\nDCNV2_CUDA=0 builds the ops without CUDA.") from None


class BuildOps(build_ext):
    """Builds the op library, which is loaded by TensorFlow and is not a Python extension module."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext):
        if PREBUILT:
            library, info = PREBUILT / LIBRARY, PREBUILT / BUILD_INFO
        else:
            library, info = OpsBuilder(ROOT / "build" / f"dcnv2_ops-{platform.machine()}").build()
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        self._replace(library, target)
        self._replace(info, target.with_name(BUILD_INFO))

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        for ext in self.extensions:
            built = Path(self.build_lib) / self.get_ext_filename(ext.name)
            source = ROOT / self.get_ext_filename(ext.name)
            self._replace(built.with_name(BUILD_INFO), source.with_name(BUILD_INFO))

    @staticmethod
    def _replace(source, target):
        """Copies beside the target and renames: a process that has the old library open keeps it."""
        temporary = target.with_name(target.name + ".new")
        shutil.copy2(source, temporary)
        temporary.replace(target)


class PlatformWheel(bdist_wheel):
    """Names what the library needs: a machine and a C library, but no version of Python, which it knows nothing of."""

    def get_tag(self):
        *_, machine = super().get_tag()
        return "py3", "none", machine


def tensorflow_of_ops():
    """The release of TensorFlow that the ops are compiled against."""
    return json.loads((PREBUILT / BUILD_INFO).read_text())["tensorflow"] if PREBUILT else installed_version()


NATIVE = has_native_ops()
PREBUILT = prebuilt_ops()

setup(
    ext_modules=[Extension(EXTENSION, sources(*FOLDERS) + cuda_sources(*FOLDERS))] if NATIVE else [],
    cmdclass={"build_ext": BuildOps, "bdist_wheel": PlatformWheel},
    # What an earlier build left in the source tree is not for a package without custom ops.
    exclude_package_data={} if NATIVE else {"tf_dcnv2": ["ops/*.so", f"ops/{BUILD_INFO}"]},
    install_requires=[runtime_requirement(tensorflow_of_ops() if NATIVE else ""), "keras>=3.10", "numpy"],
)
