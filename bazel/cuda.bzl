"""Finds the CUDA toolkit as the pip build does."""

_VARIABLES = ["DCNV2_CUDA", "DCNV2_CUDA_ARCHS", "CUDA_HOME", "CUDA_PATH", "CXX", "PATH"]

_BUILD = """
package(default_visibility = ["//visibility:public"])

load("@rules_cc//cc:defs.bzl", "cc_import", "cc_library")

# The CUDA runtime becomes a part of the library. All of it: TensorFlow has symbols of the same names, and where only
# what is missing gets linked, the order of the libraries would decide whose are taken.
cc_import(
    name = "static_runtime",
    static_library = "libcudart_static.a",
    alwayslink = True,
)

cc_library(
    name = "runtime",
    hdrs = glob(["include/**"]),
    includes = ["include"],
    linkopts = ["-ldl", "-lrt", "-lpthread"],
    deps = [":static_runtime"],
)
"""

def _cuda_repository_impl(repository_ctx):
    python = repository_ctx.os.environ.get("PYTHON_BIN_PATH") or repository_ctx.which("python3")
    if not python:
        fail("No Python found. Set PYTHON_BIN_PATH to the interpreter that has TensorFlow installed.")
    environment = repository_ctx.os.environ
    result = repository_ctx.execute(
        [python, repository_ctx.path(Label("//:tools/cuda_toolkit.py"))],
        environment = {name: environment[name] for name in _VARIABLES if name in environment},
    )
    if result.return_code != 0:
        fail(result.stderr)
    chosen = json.decode(result.stdout)
    if chosen:
        if chosen["include"]:
            repository_ctx.symlink(chosen["include"], "include")
        repository_ctx.symlink(chosen["static_runtime"], "libcudart_static.a")
    repository_ctx.file("BUILD", _BUILD if chosen else "")
    repository_ctx.file("cuda.bzl", """
# The command of nvcc, empty for a build without CUDA, and what _build_info.json tells of it.
COMPILER = {}
BUILD_INFO = {}
""".format(chosen["compiler"] if chosen else [], chosen["build_info"] if chosen else None))

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    doc = "The toolkit that DCNV2_CUDA and DCNV2_CUDA_ARCHS ask for, or nothing.",
    environ = _VARIABLES + ["PYTHON_BIN_PATH"],
    local = True,
)
