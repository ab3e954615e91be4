"""One library per instruction set, from the same source."""

load("@rules_cc//cc:defs.bzl", "cc_library")
load("//:cc/flags.bzl", "CXX_FLAGS", "INSTRUCTION_SET_FLAGS", "SIMD_FLAGS", "WARNING_FLAGS")

def simd_libraries(name):
    """For each instruction set a library `name`_<set> of cc/lib/cpu/simd/kernels_<set>.cc, compiled for an x86-64 that has it."""
    for instruction_set, flags in INSTRUCTION_SET_FLAGS.items():
        cc_library(
            name = "%s_%s" % (name, instruction_set),
            srcs = ["cc/lib/cpu/simd/kernels_%s.cc" % instruction_set],
            copts = CXX_FLAGS + WARNING_FLAGS + SIMD_FLAGS + select({
                "@platforms//cpu:x86_64": flags,
                "//conditions:default": [],
            }),
            deps = ["//:simd_headers"],
        )
