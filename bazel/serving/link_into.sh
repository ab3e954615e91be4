#!/usr/bin/env bash
# Links the custom ops into a TensorFlow Serving, for which it edits two files of the server's sources:
#
#   bazel/serving/link_into.sh SOURCES_OF_TENSORFLOW_SERVING
#   cd SOURCES_OF_TENSORFLOW_SERVING && bazel build //tensorflow_serving/model_servers:tensorflow_model_server
#
# The ops are built from this checkout against the TensorFlow that the server itself is built from.
set -euo pipefail

sources=${1:?usage: link_into.sh SOURCES_OF_TENSORFLOW_SERVING}
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
workspace=$sources/WORKSPACE
server=$sources/tensorflow_serving/model_servers/BUILD

for file in "$workspace" "$server"; do
  [ -f "$file" ] || { echo "link_into.sh: $file does not exist: is $sources the source of TensorFlow Serving?" >&2; exit 1; }
done
if grep -q '@tf_dcnv2' "$server"; then
  echo "link_into.sh: $server links the ops already" >&2
  exit 0
fi
grep -q '^SUPPORTED_TENSORFLOW_OPS = ' "$server" ||
  { echo "link_into.sh: $server has no SUPPORTED_TENSORFLOW_OPS to add the ops to" >&2; exit 1; }

sed -i 's|^SUPPORTED_TENSORFLOW_OPS = |SUPPORTED_TENSORFLOW_OPS = ["@tf_dcnv2//:kernels", "@tf_dcnv2//:ops"] + |' "$server"
cat >> "$workspace" <<END

# Custom ops of tf-dcnv2, against the TensorFlow of this server and for its CPUs.
local_repository(
    name = "tf_dcnv2",
    path = "$checkout",
)

local_repository(
    name = "local_tensorflow",
    path = "$checkout/bazel/serving/local_tensorflow",
)

local_repository(
    name = "local_cuda",
    path = "$checkout/bazel/serving/local_cuda",
)
END
