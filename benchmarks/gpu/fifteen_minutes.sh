#!/usr/bin/env bash
# Fifteen minutes of a GPU: everything that only a GPU can show, in two commands that end in time and let nothing stop them.
#
#   bash benchmarks/gpu/fifteen_minutes.sh              builds, tests and measures; 540 seconds at most
#   bash benchmarks/gpu/fifteen_minutes.sh --examine    compute-sanitizer and Nsight Compute; 200 seconds at most
#
#   --emulated               a rehearsal without a GPU, under the same limits: no time means anything
#
#   OUT                      folder of logs and results, at most 8 files; if it is not set, runs/fifteen-minutes or
#                            runs/fifteen-minutes-examine
#   DCNV2_GPU_LIBRARY        libdcnv2_gpu.so built elsewhere, which is taken if the build fails, and by --examine instead
#                            of building
#   PYTHON                   with PyTorch, NumPy and pytest; python3 if it is not set
#
# The exit status is 1 if anything failed. What it prints last is what happened.
set -uo pipefail

examining=0 emulated=() kind=cuda
for argument; do
  case $argument in
    --examine) examining=1 ;;
    --emulated) emulated=(--emulated) kind=emulated ;;
    *)
      echo "fifteen_minutes.sh takes --examine and --emulated. Received: $argument" >&2
      exit 2
      ;;
  esac
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/runs/fifteen-minutes
if ((examining)); then out+=-examine; fi
out=$(mkdir -p "${OUT:-$out}" && cd "${OUT:-$out}" && pwd) || exit 2
prebuilt=${DCNV2_GPU_LIBRARY:+$(realpath "$DCNV2_GPU_LIBRARY")}
python=${PYTHON:-python3}
cd "$root" || exit 2
source benchmarks/gpu/stages.sh
export PYTHONUNBUFFERED=1 PYTHONPATH=$root
ulimit -c 0

# The first import of PyTorch reads gigabytes from disk. It goes on beside the build, so that no stage's limit pays for it.
begin() {
  begin_stages "$out" "$1"
  timeout 60 "$python" -c 'import torch' </dev/null &>/dev/null &
}

# Builds the library, and has all that follows take it.
build() {
  local built
  stage build "$1" env -u DCNV2_GPU_LIBRARY "$python" tools/gpu_library.py "$kind" || return
  built=$(tail -n 1 "$out/build.log")
  export DCNV2_GPU_LIBRARY=$built
}

# Has all that follows take the library that was built elsewhere, if there is one.
take_prebuilt() {
  [[ -f $prebuilt ]] || return
  echo "=== going on with $prebuilt"
  export DCNV2_GPU_LIBRARY=$prebuilt
}

run_tests() {
  local arguments=(-v --tb=short -p no:cacheprovider)
  if "$python" -c 'import xdist' 2>/dev/null; then arguments+=(-n "$(nproc)"); fi
  if [[ $kind == cuda ]]; then
    # The emulator's own tests, those that compile for it against TensorFlow, and those whose reference in float64 takes
    # the processor minutes.
    arguments+=(tests/gpu --ignore=tests/gpu/test_{emulator,tf_harness,real_sizes}.py)
  else
    arguments+=(tests/gpu/test_torchvision.py)
  fi
  stage tests 110 env DCNV2_TEST_DEVICES="$kind" "$python" -m pytest "${arguments[@]}"
}

# Runs a program under a tool of NVIDIA's, or without where there is no GPU for it.
examine() {
  local name=$1 limit=$2
  shift 2
  if [[ $kind == emulated ]]; then
    while [[ $1 != "$python" ]]; do shift; done
  fi
  stage "$name" "$limit" "$@" "${emulated[@]}"
}

if ((examining)); then
  begin 198
  # What tools/tf_harness.py packed where TensorFlow is.
  harness=build/tf-harness${emulated:+-emulated}/run.sh
  if [[ -e $harness ]]; then stage harness 30 sh "$harness"; fi
  if take_prebuilt || build 30; then
    # Every tensor is an allocation of its own: in PyTorch's pool, what is past one tensor is in another.
    sanitizer=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 9)
    small=("$python" -m benchmarks.gpu.small_run --one-process)
    examine memcheck 60 "${sanitizer[@]}" --tool memcheck "${small[@]}"
    examine ncu 60 ncu --clock-control none --set full --kernel-name-base demangled --kernel-name regex:dcnv2 \
      --export "$out/kernels" --force-overwrite "$python" -m benchmarks.gpu.real_run
    [[ $kind == emulated ]] || stage counters 15 ncu --import "$out/kernels.ncu-rep" --page details
    # The slowest comes last: time runs out for it first.
    examine racecheck 60 "${sanitizer[@]}" --tool racecheck "${small[@]}"
  else
    for name in memcheck ncu racecheck; do skip_stage "$name" "there is no library"; done
  fi
else
  begin 538
  has_library=1
  build 70 || take_prebuilt || has_library=0
  stage machine 40 "$python" -m benchmarks.gpu.machine "${emulated[@]}"
  if ((has_library)); then
    stage small 60 "$python" -m benchmarks.gpu.small_run "${emulated[@]}"
    run_tests
    # It ends by itself, a little before it is ended.
    stage measure 250 "$python" -m benchmarks.gpu --seconds 240 --output "$out" "${emulated[@]}"
  else
    for name in small tests measure; do skip_stage "$name" "there is no library"; done
  fi
fi
end_stages
