"""Makes a wheel of the checkout, with the ops that Bazel built in it."""

_SCRIPT = """#!/usr/bin/env bash
# A pip that builds in a folder of its own would not find what a link points to.
set -euo pipefail
ops=$(mktemp -d)
trap 'rm -rf "$ops"' EXIT
cp -L {files} "$ops"
output=$(cd "$BUILD_WORKING_DIRECTORY" && realpath -m "${{1:-dist}}")
cd "$BUILD_WORKSPACE_DIRECTORY"
DCNV2_NATIVE=$ops {python} -m pip wheel --no-deps --wheel-dir "$output" .
"""

def _pip_package_impl(ctx):
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.write(script, _SCRIPT.format(
        files = " ".join(["'%s'" % file.short_path for file in ctx.files.ops]),
        python = "'%s'" % ctx.attr.python,
    ), is_executable = True)
    return [DefaultInfo(executable = script, runfiles = ctx.runfiles(files = ctx.files.ops))]

pip_package = rule(
    implementation = _pip_package_impl,
    doc = "`bazel run` puts a wheel with the files of `ops` into dist/, or into the folder that it is given.",
    attrs = {
        "ops": attr.label(mandatory = True),
        "python": attr.string(mandatory = True, doc = "The interpreter whose pip makes it."),
    },
    executable = True,
)
