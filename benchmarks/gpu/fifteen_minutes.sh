#!/usr/bin/env bash
# Fifteen minutes of a GPU: everything that only a GPU can show, in two commands that end in time and let nothing stop them.
#
#   bash benchmarks/gpu/fifteen_minutes.sh              builds, tests and measures; 590 seconds at most
#   bash benchmarks/gpu/fifteen_minutes.sh --examine    compute-sanitizer and Nsight Compute; 240 seconds at most
#
#   --emulated               a rehearsal without a GPU, under the same limits: no time means anything
#
#   OUT                      folder of logs and results, at most 8 files; runs/fifteen-minutes if it is not set
#   DCNV2_GPU_LIBRARY        libdcnv2_gpu.so built elsewhere, which is taken if the build fails
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
out=$(mkdir -p "${OUT:-$root/runs/fifteen-minutes}" && cd "${OUT:-$root/runs/fifteen-minutes}" && pwd) || exit 2
prebuilt=${DCNV2_GPU_LIBRARY:+$(realpath "$DCNV2_GPU_LIBRARY")}
python=${PYTHON:-python3}
cd "$root" || exit 2
source benchmarks/gpu/stages.sh
export PYTHONUNBUFFERED=1 PYTHONPATH=$root
ulimit -c 0

# Builds the library, and has all that follows take it, or the one that was built elsewhere.
build() {
  local built
  if stage build 90 env -u DCNV2_GPU_LIBRARY "$python" cc/tools/gpu_library.py "$kind"; then
    built=$(tail -n 1 "$out/build.log")
    export DCNV2_GPU_LIBRARY=$built
  elif [[ -n $prebuilt ]]; then
    echo "=== going on with $prebuilt"
    export DCNV2_GPU_LIBRARY=$prebuilt
  else
    return 1
  fi
}

run_tests() {
  local arguments=(-v --tb=short -p no:cacheprovider)
  if "$python" -c 'import xdist' 2>/dev/null; then arguments+=(-n "$(nproc)"); fi
  if [[ $kind == cuda ]]; then
    # The emulator's own tests, and those whose reference in float64 takes the processor minutes.
    arguments+=(tests/gpu --ignore=tests/gpu/test_emulator.py --ignore=tests/gpu/test_real_sizes.py)
  else
    arguments+=(tests/gpu/test_torchvision.py)
  fi
  stage tests 120 env DCNV2_TEST_DEVICES="$kind" "$python" -m pytest "${arguments[@]}"
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
  begin_stages "$out" 238
  # What cc/tools/tf_harness.py packed where TensorFlow is.
  harness=build/tf-harness${emulated:+-emulated}/run.sh
  if [[ -e $harness ]]; then stage harness 40 sh "$harness"; fi
  if build; then
    # Every tensor is an allocation of its own: in PyTorch's pool, what is past one tensor is in another.
    sanitizer=(env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 9)
    small=("$python" -m benchmarks.gpu.small_run --one-process)
    examine memcheck 50 "${sanitizer[@]}" --tool memcheck "${small[@]}"
    examine racecheck 60 "${sanitizer[@]}" --tool racecheck "${small[@]}"
    examine ncu 70 ncu --clock-control none --set full --kernel-name-base demangled --kernel-name regex:dcnv2 \
      --export "$out/kernels" --force-overwrite "$python" -m benchmarks.gpu.real_run
    [[ $kind == emulated ]] || stage counters 15 ncu --import "$out/kernels.ncu-rep" --page details
  else
    for name in memcheck racecheck ncu; do skip_stage "$name" "there is no library"; done
  fi
else
  begin_stages "$out" 588
  stage machine 20 "$python" -m benchmarks.gpu.machine "${emulated[@]}"
  if build; then
    stage small 60 "$python" -m benchmarks.gpu.small_run "${emulated[@]}"
    run_tests
    # It ends by itself, a little before it is ended.
    stage measure 290 "$python" -m benchmarks.gpu --seconds 280 --output "$out" "${emulated[@]}"
  else
    for name in small tests measure; do skip_stage "$name" "there is no library"; done
  fi
fi
end_stages
