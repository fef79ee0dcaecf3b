#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under ten minutes: tools/gpu_check.sh
#
# Builds the CUDA operators for the GPU at hand, compares them with the CPU and the golden vectors,
# runs compute-sanitizer on a few tests, measures the operators, and trains small configs for a few
# iterations. A step that fails does not stop the others; the exit status is the number of steps
# that failed. Logs, figures and summary.json go to $OUT (default work_dirs/gpu_check).
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-work_dirs/gpu_check}
PYTHON=${PYTHON:-python}
TRAIN_ITERS=${TRAIN_ITERS:-20}
mkdir -p "$OUT"
# The toolbox is importable from a checkout that was not installed, too.
mkdir -p work_dirs/.import && ln -sfn "$PWD/ops" work_dirs/.import/mmcity_ops
export PYTHONPATH="$PWD:$PWD/work_dirs/.import${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 MAX_JOBS=${MAX_JOBS:-$(nproc)}

names=() states=() seconds=()
failed=0

# step NAME LIMIT_S COMMAND...: run with a time limit, log to $OUT/NAME.log
step() {
  local name=$1 limit=$2 start status
  shift 2
  start=$SECONDS
  echo "== $name"
  timeout --kill-after=10 "$limit" "$@" >"$OUT/$name.log" 2>&1
  status=$?
  names+=("$name") seconds+=($((SECONDS - start)))
  if [ $status -eq 0 ]; then
    states+=(passed)
  elif [ $status -eq 124 ] || [ $status -eq 137 ]; then
    states+=("timeout") failed=$((failed + 1))
  else
    states+=("failed ($status)") failed=$((failed + 1))
  fi
  echo "   ${states[-1]} after ${seconds[-1]} s; last lines of $OUT/$name.log:"
  tail -n 3 "$OUT/$name.log" | sed 's/^/   /'
}
skip() {
  echo "== $1: skipped, $2"
  names+=("$1") states+=("skipped: $2") seconds+=(0)
}

if ! $PYTHON -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "error: torch sees no CUDA device ($PYTHON)" >&2
  exit 1
fi
$PYTHON - >"$OUT/device.txt" <<'PY'
import torch
p = torch.cuda.get_device_properties(0)
print(f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB, {p.multi_processor_count} SMs,"
      f" torch {torch.__version__}, CUDA {torch.version.cuda}")
PY
cat "$OUT/device.txt"

step build 240 $PYTHON -m mmcity_ops.build --cuda
if [ "${states[-1]}" = passed ]; then
  step parity 150 $PYTHON -m pytest -q --maxfail=30 -m gpu tests/ops/test_cuda_parity.py
  step golden 90 env MMCITY_TEST_DEVICE=cuda $PYTHON -m pytest -q --maxfail=30 \
    tests/parity/test_ops.py tests/parity/test_ops_raster.py tests/parity/test_ops_volumes.py \
    -k native-float32
  if command -v compute-sanitizer >/dev/null; then
    step sanitizer 90 compute-sanitizer --error-exitcode 9 --launch-timeout 60 \
      $PYTHON -m pytest -q -m gpu tests/ops/test_cuda_parity.py \
      -k "tile_lists and 300 or compositing and (3-True or 3-False or 20-False) or ssim and shape0"
  else
    skip sanitizer "compute-sanitizer is not on PATH"
  fi
  against=none
  $PYTHON -c 'import gsplat' 2>/dev/null && against=gsplat
  step benchmark 120 $PYTHON tools/benchmark.py ops --device cuda --against $against --repeat 5 \
    --json "$OUT/benchmark.json" --markdown "$OUT/benchmark.md"
  # The toy configs of each system, a few iterations each.
  [ -d data/toytown ] || step toytown 90 $PYTHON tools/dataset_converters/create_toytown.py \
    --out data/toytown --size tiny
  for config in configs/*/*_toytown_cpu.py; do
    [ -e "$config" ] || continue
    name=train_$(basename "$config" _cpu.py)
    limit=$($PYTHON -c 'import sys; from mmengine import Config
print("max_iters" if "Iter" in Config.fromfile(sys.argv[1]).train_cfg.type else "max_epochs")' \
      "$config" 2>/dev/null || echo max_iters)
    count=1
    [ "$limit" = max_iters ] && count=$TRAIN_ITERS
    step "$name" 60 $PYTHON tools/train.py "$config" --work-dir "work_dirs/gpu_check_train/$name" \
      --cfg-options "train_cfg.$limit=$count" train_cfg.val_interval=1000000
  done
else
  skip parity "the build failed"
fi

{
  echo '{'
  echo "  \"device\": \"$(cat "$OUT/device.txt")\","
  echo "  \"date\": \"$(date -u +%FT%TZ)\","
  echo '  "steps": ['
  for i in "${!names[@]}"; do
    comma=,
    [ "$i" -eq $((${#names[@]} - 1)) ] && comma=
    echo "    {\"name\": \"${names[$i]}\", \"state\": \"${states[$i]}\", \"seconds\": ${seconds[$i]}}$comma"
  done
  echo '  ]'
  echo '}'
} >"$OUT/summary.json"
echo "== summary in $OUT/summary.json: $failed of ${#names[@]} steps failed"
exit "$failed"
