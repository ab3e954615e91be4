# Stages of a command that has to end in time, whatever becomes of each; to be sourced.
#
#   begin_stages FOLDER SECONDS       logs go to FOLDER; everything ends within SECONDS
#   stage NAME LIMIT COMMAND...       runs COMMAND for at most LIMIT seconds; its output goes to FOLDER/NAME.log, too
#   skip_stage NAME WHY               notes that it could not run, which is a failure
#   leave_out_stage NAME WHY          notes that it need not run
#   end_stages                        prints a table and returns 1 if anything failed

# Of a log, in bytes: the beginning that is kept, and the end.
readonly KEPT_FIRST=$((1 << 20)) KEPT_LAST=$((7 << 20))
# For a command that was told to end to do so.
readonly GRACE=5

begin_stages() {
  STAGE_FOLDER=$1
  STAGES_END=$((SECONDS + $2 - GRACE))
  STAGES_BEGIN=$SECONDS
  STAGE_TABLE=()
  STAGES_FAILED=0
  mkdir -p "$STAGE_FOLDER"
}

stage() {
  local name=$1 limit=$2 start=$SECONDS log=$STAGE_FOLDER/$1.log status outcome
  shift 2
  if ((limit > STAGES_END - start)); then limit=$((STAGES_END - start)); fi
  if ((limit <= 0)); then
    skip_stage "$name" "no time left"
    return 1
  fi
  printf '\n=== %s: at most %d s\n' "$name" "$limit"
  # An interrupt lets pytest and the measurements say what they know. What outlives even the kill must not keep tee.
  timeout --signal=INT --kill-after="$GRACE" "$limit" "$@" </dev/null 2>&1 |
    timeout "$((limit + 2 * GRACE))" tee "$log"
  status=${PIPESTATUS[0]}
  case $status in
    0) outcome=passed ;;
    124 | 137) outcome="FAILED: ended after its limit of $limit s" ;;
    *) outcome="FAILED with status $status" ;;
  esac
  _note "$name" "$((SECONDS - start))" "$outcome"
  _shorten "$log"
  return "$status"
}

skip_stage() { _note "$1" 0 "FAILED: not run, $2"; }

leave_out_stage() { _note "$1" 0 "left out: $2"; }

end_stages() {
  {
    printf '\n%-12s %5s  %s\n' stage s outcome
    ((${#STAGE_TABLE[@]} == 0)) || printf '%s\n' "${STAGE_TABLE[@]}"
    printf '%-12s %5d\n' all "$((SECONDS - STAGES_BEGIN))"
  } | tee "$STAGE_FOLDER/summary.txt"
  return "$STAGES_FAILED"
}

_note() {
  STAGE_TABLE+=("$(printf '%-12s %5d  %s' "$@")")
  printf '=== %s after %d s: %s\n' "$@"
  [[ $3 != FAILED* ]] || STAGES_FAILED=1
}

_shorten() {
  local size
  size=$(stat -c %s "$1") || return 0
  ((size > KEPT_FIRST + KEPT_LAST)) || return 0
  {
    head -c "$KEPT_FIRST" "$1"
    printf '\n[%d bytes left out]\n' "$((size - KEPT_FIRST - KEPT_LAST))"
    tail -c "$KEPT_LAST" "$1"
  } >"$1.short"
  mv "$1.short" "$1"
}
