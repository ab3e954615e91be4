"""Finds the TensorFlow that a Python interpreter has installed."""

_QUERY = """
import json, tensorflow as tf
define = [flag for flag in tf.sysconfig.get_compile_flags() if flag.startswith("-D")]
print(json.dumps({"version": tf.__version__, "include": tf.sysconfig.get_include(), "lib": tf.sysconfig.get_lib(),
                  "defines": [flag[2:] for flag in define], "cxx11_abi": tf.sysconfig.CXX11_ABI_FLAG}))
"""

_LIBRARY = "libtensorflow_framework.so.2"

_BUILD = """
package(default_visibility = ["//visibility:public"])

load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")

cc_import(
    name = "framework",
    shared_library = "{library}",
)

cc_library(
    name = "tensorflow",
    hdrs = glob(["include/**"]),
    defines = {defines},
    # As system headers: their warnings are not ours to clean.
    includes = ["include"],
    deps = [":framework"],
)
"""

def _tensorflow_repository_impl(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON_BIN_PATH") or repository_ctx.which("python3")
    if not python:
        fail("No Python found. Set PYTHON_BIN_PATH to the interpreter that has TensorFlow installed.")
    result = repository_ctx.execute(
        [python, "-c", _QUERY],
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
        timeout = 120,
    )
    if result.return_code != 0:
        fail("{} cannot import TensorFlow. Set PYTHON_BIN_PATH to an interpreter that can: ".format(python) +
             "bazel build --repo_env=PYTHON_BIN_PATH=/path/to/python //:dcnv2_ops\n" + result.stderr)
    found = json.decode(result.stdout.strip().split("\n")[-1])
    repository_ctx.symlink(found["include"], "include")
    repository_ctx.symlink(found["lib"] + "/" + _LIBRARY, _LIBRARY)
    repository_ctx.file("BUILD", _BUILD.format(library = _LIBRARY, defines = repr(found["defines"])))
    repository_ctx.file("tensorflow.bzl", """
# What _build_info.json tells of TensorFlow, and the interpreter that imports it.
BUILD_INFO = {}
PYTHON = {}
""".format({"tensorflow": found["version"], "cxx11_abi": found["cxx11_abi"]}, repr(str(python))))

tensorflow_repository = repository_rule(
    implementation = _tensorflow_repository_impl,
    doc = "Headers and framework library of the TensorFlow that PYTHON_BIN_PATH (or python3) imports.",
    environ = ["PYTHON_BIN_PATH"],
    local = True,
)
