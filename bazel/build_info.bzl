"""Writes what the op library is built with, as setup.py does."""

def _build_info_impl(ctx):
    ctx.actions.write(ctx.outputs.out, ctx.attr.text)

_build_info = rule(
    implementation = _build_info_impl,
    attrs = {"out": attr.output(mandatory = True), "text": attr.string(mandatory = True)},
)

def build_info(name, out, tensorflow, cuda):
    """`out` with the fields of `tensorflow`, a dictionary, and `cuda`, another or None."""
    fields = dict(tensorflow, compiler = "Bazel's C++ toolchain", cuda = cuda)
    _build_info(name = name, out = out, text = json.encode_indent(fields, indent = "  ") + "\n")
