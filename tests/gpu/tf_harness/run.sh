#!/bin/sh
# Runs the harness beside this file: `sh run.sh [PART]...`, all cases or those whose names contain one of the parts.
# Exit status: 0 where every case passed. See tests/gpu/tf_harness/README.md.
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
libraries=$here/lib
for packed in "$here"/lib/*.gz; do
  [ -e "$packed" ] || continue
  libraries=$scratch
  gzip -dc "$packed" >"$scratch/$(basename "$packed" .gz)" || exit 2
done

# run RUNTIME [PART]...: with the CUDA runtime in that folder for TensorFlow.
run() {
  runtime=$1
  shift
  LD_LIBRARY_PATH=$libraries:$here/emulated:$here/$runtime:$here/unused${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} \
    TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-1} "$here/harness" "$libraries/_dcnv2_ops.so" "$@" 2>"$scratch/messages"
  status=$?
  # But for the errors that cases ask for.
  [ $status -eq 0 ] || grep -v 'OP_REQUIRES failed' "$scratch/messages" | tail -n 40 >&2
  return $status
}

if [ ! -d "$here/cuda-12" ]; then
  run stand-in "$@" || exit 1
  exit 0
fi
echo "with TensorFlow's CUDA runtime, cuda-12/libcudart.so.12"
run cuda-12 "$@"
first=$?
[ $first -ne 0 ] || exit 0
# Without a device, or when the process ended early: is it for that runtime?
if [ $first -eq 3 ] || [ $first -ge 128 ]; then
  echo "exit status $first; again with a stand-in for TensorFlow's CUDA runtime"
  run stand-in "$@"
fi
exit 1
