"""The repository rules as an extension for MODULE.bazel."""

load("//bazel:tensorflow.bzl", "tensorflow_repository")

def _tensorflow_impl(_module_ctx):
    tensorflow_repository(name = "local_tensorflow")

tensorflow = module_extension(implementation = _tensorflow_impl)
