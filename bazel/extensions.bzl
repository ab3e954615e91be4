"""The repository rules as an extension for MODULE.bazel."""

load("//bazel:cuda.bzl", "cuda_repository")
load("//bazel:tensorflow.bzl", "tensorflow_repository")

def _local_impl(_module_ctx):
    tensorflow_repository(name = "local_tensorflow")
    cuda_repository(name = "local_cuda")

local = module_extension(implementation = _local_impl)
