"""One library per instruction set, from the same source."""

load("@rules_cc//cc:defs.bzl", "cc_library")

# The last two let the compiler vectorise rounding and selections; neither changes a result. tools/toolchain.py has the
# same.
_COMMON = ["-O3", "-fno-math-errno", "-fno-trapping-math"]

def simd_library(name, instruction_set, copts):
    """Compiles cc/lib/cpu/simd_kernels_<instruction_set>.cc with `copts` where the processor is an x86-64."""
    cc_library(
        name = name,
        srcs = ["cc/lib/cpu/simd_kernels_%s.cc" % instruction_set],
        copts = _COMMON + select({
            "@platforms//cpu:x86_64": copts,
            "//conditions:default": [],
        }),
        deps = ["//:simd_headers"],
    )
