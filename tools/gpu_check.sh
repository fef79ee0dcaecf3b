#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under ten minutes:
#   tools/gpu_check.sh             on a machine with a GPU
#   tools/gpu_check.sh --dry-run   anywhere: prints the steps and their time limits
#   tools/gpu_check.sh --cpu       anywhere: runs what needs no GPU, the data and the trainings
#   tools/gpu_check.sh --systems   in place of these, tests/rig/systems: each system trains, also in
#                                  mixed precision and on two GPUs, resumes and predicts
#   tools/gpu_check.sh --virtual   either of them on the virtual device of tests/rig, with more time
#
# Builds the CUDA operators for the GPU at hand, compares them with the CPU and the golden vectors,
# runs compute-sanitizer on a few tests, measures the operators, and trains the toy town config of
# each system for a few iterations on tiny data. A step that fails does not stop the others; the
# exit status is the number of steps that failed. Logs, figures and summary.json go to $OUT
# (default work_dirs/gpu_check).
#
# Environment: OUT, PYTHON, TRAIN_ITERS (20, or 8 on the virtual device), BUDGET (570: seconds for
# all steps together).
set -uo pipefail
cd "$(dirname "$0")/.."

dry=0 cpu=0 systems=0 virtual=0
for argument in "$@"; do
  case "$argument" in
  --dry-run) dry=1 ;;
  --cpu) cpu=1 ;;
  --systems) systems=1 ;;
  --virtual) virtual=1 ;;
  -h | --help)
    sed -n '2,18s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
  *)
    echo "error: unknown argument '$argument' (expected --dry-run, --cpu, --systems, --virtual," \
      "--help or nothing)" >&2
    exit 2
    ;;
  esac
done

REPO=$PWD
OUT=$(realpath -m "${OUT:-work_dirs/gpu_check}")
PYTHON=${PYTHON:-python}
TRAIN_ITERS=${TRAIN_ITERS:-$((virtual ? 8 : 20))}
BUDGET=${BUDGET:-570}
names=() states=() seconds=()
failed=0 capped=0 slower=1

# step NAME LIMIT_S COMMAND...: run with a time limit and what is left of the budget, log to
# $OUT/NAME.log
step() {
  local name=$1 limit=$2 start status left
  shift 2
  limit=$((limit * slower))
  capped=$((capped + limit))
  if [ $dry -eq 1 ]; then
    printf '%-28s %4d s  %s\n' "$name" "$limit" "$*"
    states+=(passed)
    return
  fi
  left=$((BUDGET - SECONDS))
  if [ $left -le 1 ]; then
    skip "$name" "the $BUDGET s are spent"
    failed=$((failed + 1))
    return
  fi
  start=$SECONDS
  echo "== $name"
  timeout --kill-after=5 $((limit < left ? limit : left)) "$@" >"$OUT/$name.log" 2>&1
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

# data NAME LIMIT_S OPTIONS...: a tiny toy town below $OUT/run/data
data() {
  local name=$1 limit=$2
  shift 2
  step "data_$name" "$limit" "$PYTHON" tools/dataset_converters/create_toytown.py --size tiny "$@"
}
# train CONFIG LIMIT_S OPTIONS...: a few iterations in $OUT/run, so that the relative data folders
# of the config are those of data()
train() {
  local config=$1 limit=$2 name
  shift 2
  name=train_$(basename "$config" _toytown_cpu.py)
  if [ ! -e "$config" ]; then
    skip "$name" "$config is absent"
    return
  fi
  step "$name" "$limit" env -C "$OUT/run" "$PYTHON" "$REPO/tools/train.py" "$REPO/$config" \
    --work-dir "$OUT/run/$name" --cfg-options train_cfg.val_interval=1000000 "$@"
}

# what only a GPU can show
gpu_steps() {
  local against=none repeat=(--repeat 5)
  step parity 70 "$PYTHON" -m pytest -q --maxfail=30 -m gpu tests/ops/test_cuda_parity.py
  step golden 40 env MMCITY_TEST_DEVICE=cuda "$PYTHON" -m pytest -q --maxfail=30 \
    tests/parity/test_ops.py tests/parity/test_ops_raster.py tests/parity/test_ops_volumes.py \
    -k native-float32
  if [ $virtual -eq 1 ]; then
    skip sanitizer "the virtual device has a checker of its own (make rig)"
    repeat=(--repeat 1 --only 256-small)  # its times say nothing
  elif [ $dry -eq 1 ] || command -v compute-sanitizer >/dev/null; then
    step sanitizer 60 compute-sanitizer --error-exitcode 9 --launch-timeout 60 \
      "$PYTHON" -m pytest -q -m gpu tests/ops/test_cuda_parity.py \
      -k "tile_lists and 300 or compositing and (3-True or 3-False or 20-False) or ssim and shape0"
  else
    skip sanitizer "compute-sanitizer is not on PATH"
  fi
  "$PYTHON" -c 'import gsplat' 2>/dev/null && against=gsplat
  step benchmark 60 "$PYTHON" tools/benchmark.py ops --device cuda --against $against "${repeat[@]}" \
    --json "$OUT/benchmark.json" --markdown "$OUT/benchmark.md"
}
# toy data and a few iterations of each system
trainings() {
  local town=$OUT/run/data/toytown number
  # splats, CityGS-X and the maps that RAP renders
  data scenes 20 --out "$town" --formats citygsx colmap_loc --image-size 128x96 \
    --num-images 16 --mapping-images 16 --queries 2
  train configs/gaussian_splatting/3dgs_toytown_cpu.py 15 "train_cfg.max_iters=$TRAIN_ITERS"
  train configs/citygsx/citygsx_toytown_cpu.py 15 "train_cfg.max_iters=$TRAIN_ITERS"
  train configs/rap/rap_map_toytown_cpu.py 15 "train_cfg.max_iters=$TRAIN_ITERS"
  # sequences of semantic grids
  data sequences 40 --out "$town" --formats carlasc --scenes 3 --frames 9
  train configs/dynamiccity/dynamiccity_vae_toytown_cpu.py 15 "train_cfg.max_iters=$TRAIN_ITERS"
  # six cameras with occupancy
  data cameras 20 --out "$town" --formats nuscenes --image-size 200x112
  step info_cameras 5 "$PYTHON" tools/dataset_converters/nuscenes_converter.py "$town/nuscenes" \
    --version v1.0-mini
  train configs/gausstr/gausstr_toytown_cpu.py 15 "train_cfg.max_iters=$TRAIN_ITERS"
  # videos; one town stands for all those of the config
  mkdir -p "$OUT/run/data/toytown_drives"
  data videos 10 --out "$OUT/run/data/toytown_drives/town1" --formats video \
    --seed 1 --image-size 112x84 --sequences 2 --frames 10 --paths surround --traffic 0.05
  for number in $(seq 2 20); do
    ln -sfn town1 "$OUT/run/data/toytown_drives/town$number"
  done
  # the teacher learns in the first half of the iterations, the student in the second
  local half=$((TRAIN_ITERS / 2)) scheduler=param_scheduler.1
  train configs/streamvggt/streamvggt_toytown_cpu.py 20 "train_cfg.max_iters=$TRAIN_ITERS" \
    "model.teacher_iters=$half" param_scheduler.0.end=1 "$scheduler.begin=1" \
    "$scheduler.periods=[$half,$TRAIN_ITERS]"
}

mkdir -p "$OUT/run/data"
# The toolbox is importable from a checkout that was not installed, too.
mkdir -p work_dirs/.import && ln -sfn "$REPO/ops" work_dirs/.import/mmcity_ops
export PYTHONPATH="$REPO:$REPO/work_dirs/.import${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1 MAX_JOBS=${MAX_JOBS:-$(nproc)}

if [ $cpu -eq 1 ]; then
  export CUDA_VISIBLE_DEVICES=
  BUDGET=$((4 * BUDGET)) slower=8  # times the limits
  echo "CPU" >"$OUT/device.txt"
elif [ $virtual -eq 1 ]; then
  export VIRTUAL_CUDA=1 VIRTUAL_CUDA_DEVICES=${VIRTUAL_CUDA_DEVICES:-1}
  export PYTHONPATH="$REPO/tests/rig:$PYTHONPATH"
  BUDGET=$((8 * BUDGET)) slower=16
  echo "virtual" >"$OUT/device.txt"
elif [ $dry -eq 0 ]; then
  if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "error: torch sees no CUDA device ($PYTHON); --dry-run shows the steps" >&2
    exit 1
  fi
  "$PYTHON" - >"$OUT/device.txt" <<'PY'
import torch
p = torch.cuda.get_device_properties(0)
print(f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GiB, {p.multi_processor_count} SMs,"
      f" torch {torch.__version__}, CUDA {torch.version.cuda}")
PY
  cat "$OUT/device.txt"
fi

if [ $cpu -eq 1 ]; then
  trainings
elif [ $systems -eq 1 ]; then
  step systems 560 "$PYTHON" -m pytest -q tests/rig/systems
elif [ $virtual -eq 1 ]; then
  skip build "the virtual device compiles kernels when they are first called"
  gpu_steps
  trainings
else
  step build 160 "$PYTHON" -m mmcity_ops.build --cuda
  if [ "${states[-1]}" = passed ]; then
    gpu_steps
    trainings
  else
    skip parity "the build failed"
  fi
fi

if [ $dry -eq 1 ]; then
  echo "limits add up to $capped s; all steps together end after $BUDGET s"
  exit $((capped > 600))
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
