"""Compiles the custom ops in cc/ against the installed TensorFlow. Everything else is in pyproject.toml."""

import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
EXTENSION = "tf_dcnv2.ops._dcnv2_ops"
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "cc").rglob("*.cc"))
BUILD_INFO = "_build_info.json"

COMMON_FLAGS = ["-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-Wall", "-Wextra", f"-I{ROOT}"]
# The inner loops exist once per instruction set and are chosen at run time, so that one build serves every machine. The
# first two flags let the compiler vectorise rounding and selections; neither changes a result.
SIMD_FLAGS = ["-fno-math-errno", "-fno-trapping-math"]
INSTRUCTION_SET_FLAGS = {
    "simd_kernels_baseline.cc": [],
    "simd_kernels_avx2.cc": ["-mavx2", "-mfma"],
    "simd_kernels_avx512.cc": [
        *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"),
        "-mprefer-vector-width=512",
    ],
}
TENSORFLOW_QUERY = """
import json, tensorflow as tf
print(json.dumps({"version": tf.__version__, "compile": tf.sysconfig.get_compile_flags(),
                  "link": tf.sysconfig.get_link_flags(), "cxx11_abi": tf.sysconfig.CXX11_ABI_FLAG}))
"""


class BuildError(SystemExit):
    """Ends the build with a message instead of a traceback."""

    def __init__(self, message):
        super().__init__(f"\ntf-dcnv2: {message}\n")


def find_compiler():
    """The command line of a C++ compiler: $CXX, or the first usual one on the path."""
    candidates = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    for candidate in candidates:
        command = shlex.split(candidate)
        if shutil.which(command[0]):
            return command
    raise BuildError(
        f"no C++ compiler found (looked for {', '.join(candidates)}). The custom ops need one that knows C++17, for "
        "example GCC 9 or newer. Install it with `apt-get install g++`, `dnf install gcc-c++` or `conda install gxx`, "
        "or set CXX to its path, and repeat the command."
    )


def query_tensorflow():
    """Version and flags of the TensorFlow that this Python imports, from another process, to free its memory."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run([sys.executable, "-c", TENSORFLOW_QUERY], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(
            f"TensorFlow cannot be imported by {sys.executable}, and the custom ops are compiled against it. Install "
            "it with `pip install 'tensorflow==2.20.*'` and repeat the command. It said:\n" + done.stderr[-2000:]
        )
    return json.loads(done.stdout.splitlines()[-1])


def installed_tensorflow_version():
    """The version without the cost of an import; empty when there is none or it goes by another name."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def run_tool(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        raise BuildError(f"the compiler failed: {shlex.join(command)}\n{done.stderr[-4000:]}")


class OpsBuilder:
    """Compiles and links the library in a build directory that outlives the command, redoing only what changed."""

    def __init__(self, directory):
        self.directory = directory
        self.compiler = find_compiler()

    def build(self):
        """Returns the paths of the library and of the description of what it was built with."""
        self.directory.mkdir(parents=True, exist_ok=True)
        tensorflow = self._tensorflow()
        # TensorFlow's own headers are not ours to clean of warnings.
        flags = [f"-isystem{flag[2:]}" if flag.startswith("-I") else flag for flag in tensorflow["compile"]]
        with ThreadPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
            objects = list(pool.map(lambda source: self._compile(source, flags), SOURCES))
        library = self.directory / "_dcnv2_ops.so"
        link = [*self.compiler, "-shared", *map(str, objects), "-o", str(library), *tensorflow["link"]]
        if self._is_stale(library, objects, link):
            run_tool(link)
            self._record(library, link)
        info = {
            "tensorflow": tensorflow["version"],
            "cxx11_abi": tensorflow["cxx11_abi"],
            "compiler": self._compiler_version(),
        }
        info_path = self.directory / BUILD_INFO
        info_path.write_text(json.dumps(info, indent=2) + "\n")
        return library, info_path

    def _tensorflow(self):
        """Asking TensorFlow takes seconds, so the answer is kept as long as the installation is the same."""
        cache = self.directory / "tensorflow.json"
        key = [sys.executable, installed_tensorflow_version()]
        if cache.exists():
            cached = json.loads(cache.read_text())
            if cached["key"] == key and key[1]:
                return cached["answer"]
        answer = query_tensorflow()
        cache.write_text(json.dumps({"key": key, "answer": answer}))
        return answer

    def _compile(self, source, tensorflow_flags):
        name = Path(source).name
        target = self.directory / (source.replace("/", "-") + ".o")
        flags = list(COMMON_FLAGS)
        if not source.startswith("cc/lib/"):
            flags += tensorflow_flags
        if name in INSTRUCTION_SET_FLAGS:
            flags += SIMD_FLAGS
            if platform.machine() in ("x86_64", "AMD64"):
                flags += INSTRUCTION_SET_FLAGS[name]
        command = [*self.compiler, *flags, "-MMD", "-c", source, "-o", str(target)]
        if self._is_stale(target, self._dependencies(target), command):
            sys.stdout.write(f"compiling {source}\n")
            run_tool(command)
            self._record(target, command)
        return target

    @staticmethod
    def _dependencies(target):
        """Project files that the last compilation read."""
        makefile = target.with_suffix(".d")
        if not makefile.exists():
            return []
        words = makefile.read_text().replace("\\\n", " ").split()[1:]
        return [ROOT / word for word in words if not word.startswith("/") or Path(word).is_relative_to(ROOT / "cc")]

    @staticmethod
    def _is_stale(target, inputs, command):
        record = target.with_suffix(target.suffix + ".command")
        if not target.exists() or not record.exists() or record.read_text() != shlex.join(command):
            return True
        built = target.stat().st_mtime
        return any(not path.exists() or path.stat().st_mtime > built for path in inputs)

    @staticmethod
    def _record(target, command):
        target.with_suffix(target.suffix + ".command").write_text(shlex.join(command))

    def _compiler_version(self):
        done = subprocess.run([*self.compiler, "--version"], capture_output=True, text=True)
        return done.stdout.splitlines()[0] if done.stdout else shlex.join(self.compiler)


class BuildOps(build_ext):
    """Builds the op library, which is loaded by TensorFlow and is not a Python extension module."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext):
        if sys.platform != "linux":
            raise BuildError(f"the custom ops build on Linux only, this is {sys.platform}.")
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


setup(ext_modules=[Extension(EXTENSION, SOURCES)], cmdclass={"build_ext": BuildOps})
