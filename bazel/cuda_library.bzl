"""Compiles .cu files with nvcc."""

load("@rules_cc//cc:defs.bzl", "cc_library")
load("//:cc/flags.bzl", "CXX_FLAGS", "WARNING_FLAGS")

_FLAGS = CXX_FLAGS + ["-Xcompiler=" + ",".join(["-fPIC"] + WARNING_FLAGS)]

def cuda_library(name, compiler, srcs, hdrs, deps):
    """A library of .cu files. `compiler` is the command of nvcc, `hdrs` all they may include from this package, and what
    users of the library may."""
    objects = []
    for source in srcs:
        # Bazel takes files of this name for objects that may go into shared libraries.
        target = source.replace(".cu", ".pic.o")
        native.genrule(
            name = target.replace("/", "_").replace(".", "_"),
            srcs = [source] + hdrs,
            outs = [target],
            cmd = " ".join(["'%s'" % word for word in compiler + _FLAGS] + ["-I. -c $(execpath %s) -o $@" % source]),
            message = "Compiling with nvcc",
        )
        objects.append(target)
    cc_library(
        name = name,
        srcs = objects,
        textual_hdrs = hdrs,
        deps = deps,
    )
