"""Libraries of the inner loops, each compiled for instructions of its own."""

load("@rules_cc//cc:defs.bzl", "cc_library")
load("//:cc/flags.bzl", "CXX_FLAGS", "INSTRUCTION_SET_FLAGS", "SIMD_FLAGS", "WARNING_FLAGS")

def simd_libraries(name):
    """For each source of INSTRUCTION_SET_FLAGS a library `name`_<source>, compiled for an x86-64 that has its instructions."""
    for source, flags in INSTRUCTION_SET_FLAGS.items():
        cc_library(
            name = "%s_%s" % (name, source),
            srcs = ["cc/lib/cpu/simd/%s.cc" % source],
            copts = CXX_FLAGS + WARNING_FLAGS + SIMD_FLAGS + select({
                "@platforms//cpu:x86_64": flags,
                "//conditions:default": [],
            }),
            deps = ["//:simd_headers"],
        )
