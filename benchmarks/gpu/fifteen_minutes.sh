#!/usr/bin/env bash
# Fifteen minutes of a GPU: everything that only a GPU can show, in two commands that end in time and let nothing stop them.
#
#   bash benchmarks/gpu/fifteen_minutes.sh              builds, tests and measures; 540 seconds at most
#   bash benchmarks/gpu/fifteen_minutes.sh --examine    TensorFlow's own interface, compute-sanitizer and Nsight Compute;
#                                                       200 seconds at most
#   bash benchmarks/gpu/fifteen_minutes.sh small tests  these stages alone, in this order
#
#   --emulated               a rehearsal without a GPU, under the same limits: no time means anything
#
#   OUT                      folder of logs and results, at most 8 files; if it is not set, runs/fifteen-minutes or
#                            runs/fifteen-minutes-examine
#   DCNV2_GPU_LIBRARY        libdcnv2_gpu.so built elsewhere, which is taken instead of building
#   MEASURE_SECONDS          of the stage measure; 240 if it is not set
#   PYTHON                   with PyTorch, NumPy and pytest; python3 if it is not set
#
# The exit status is 1 if anything failed. What it prints last is what happened.
set -uo pipefail

readonly EVERYTHING=(build machine small tests measure)
# The slowest comes last: time runs out for it first.
readonly EXAMINATION=(harness build memcheck ncu counters synccheck racecheck)

chosen=() examining=0 emulated=() kind=cuda folder=fifteen-minutes limit=538
for argument; do
  case $argument in
    --examine) chosen+=("${EXAMINATION[@]}") examining=1 folder=fifteen-minutes-examine limit=198 ;;
    --emulated) emulated=(--emulated) kind=emulated ;;
    *)
      if [[ " ${EVERYTHING[*]} ${EXAMINATION[*]} " == *" $argument "* ]]; then
        chosen+=("$argument")
        continue
      fi
      echo "fifteen_minutes.sh takes --examine, --emulated, and stages: ${EVERYTHING[*]} ${EXAMINATION[*]}." \
        "Received: $argument" >&2
      exit 2
      ;;
  esac
done
((${#chosen[@]})) || chosen=("${EVERYTHING[@]}")

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=${OUT:-$root/runs/$folder}
out=$(mkdir -p "$out" && cd "$out" && pwd) || exit 2
python=${PYTHON:-python3}
if [[ -n ${DCNV2_GPU_LIBRARY:-} ]]; then
  DCNV2_GPU_LIBRARY=$(realpath -e "$DCNV2_GPU_LIBRARY") || exit 2
  export DCNV2_GPU_LIBRARY
fi
cd "$root" || exit 2
source benchmarks/gpu/stages.sh
export PYTHONUNBUFFERED=1 PYTHONPATH=$root
ulimit -c 0

# Has all that follows take one library, which was built elsewhere or is built here.
run_build() {
  [[ -z ${DCNV2_GPU_LIBRARY:-} ]] || return 0
  stage build 70 "$python" tools/gpu_library.py "$kind" || return
  DCNV2_GPU_LIBRARY=$(tail -n 1 "$out/build.log") && rm "$out/build.log"
  export DCNV2_GPU_LIBRARY
}

run_machine() { stage machine 40 "$python" -m benchmarks.gpu.machine "${emulated[@]}"; }

run_small() { stage small 60 "$python" -m benchmarks.gpu.small_run "${emulated[@]}"; }

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

# It ends by itself, a little before it is ended.
run_measure() {
  local seconds=${MEASURE_SECONDS:-240}
  stage measure $((seconds + 10)) "$python" -m benchmarks.gpu --seconds "$seconds" --output "$out" "${emulated[@]}"
}

# What tools/tf_harness.py packed where TensorFlow is. Without it an examination goes on, which the last lines tell.
run_harness() {
  local harness=build/tf-harness${emulated:+-emulated}/run.sh
  if [[ -e $harness ]]; then
    stage harness 30 sh "$harness"
  elif ((examining)); then
    leave_out_stage harness "there is no $harness"
  else
    skip_stage harness "there is no $harness"
  fi
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

# Every tensor is an allocation of its own: in PyTorch's pool, what is past one tensor is in another.
sanitize() {
  examine "$1" "$2" env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 9 --tool "$1" \
    "$python" -m benchmarks.gpu.small_run --one-process
}

run_memcheck() { sanitize memcheck 60; }

run_synccheck() { sanitize synccheck 60; }

run_racecheck() { sanitize racecheck 90; }

run_ncu() {
  examine ncu 60 ncu --clock-control none --set full --kernel-name-base demangled --kernel-name regex:dcnv2 \
    --export "$out/kernels" --force-overwrite "$python" -m benchmarks.gpu.real_run
}

run_counters() { [[ $kind == emulated ]] || stage counters 15 ncu --import "$out/kernels.ncu-rep" --page details; }

begin_stages "$out" "$limit"
# The first import of PyTorch reads gigabytes from disk. It goes on beside the build, so that no stage's limit pays for it.
timeout 60 "$python" -c 'import torch' </dev/null &>/dev/null &
without_library=
for name in "${chosen[@]}"; do
  if [[ -n $without_library && $name != machine && $name != harness ]]; then
    skip_stage "$name" "there is no library"
  elif ! "run_$name" && [[ $name == build ]]; then
    without_library=1
  fi
done
end_stages
