"""The built-in protocol buffer rules under the names of the rules_proto repository: Bazel's own tools load them."""

proto_lang_toolchain = native.proto_lang_toolchain
proto_library = native.proto_library
