#!/usr/bin/env bash
# Train several scenes, as many at a time as there are places (GPUs):
#   tools/train_scenes.sh PRESET DATA_ROOT OUT [SCENE...]
# PRESET: mill19 (building rubble), urbanscene3d (residence sciart campus), matrixcity (aerial),
#   or the path of a config that is used for all SCENEs, folders below DATA_ROOT.
# Environment: DEVICES="0 1 2 3" (default: all GPUs, or one place on the CPU), GPUS_PER_SCENE=1,
#   THREADS=4 per process, EXTRA="options of mmcity train".
# Ends with the number of scenes that failed; the log of each lies in OUT/SCENE.log.
set -uo pipefail
if [ $# -lt 3 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
PRESET=$1
DATA=$2
OUT=$3
shift 3
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CONFIGS=$ROOT/configs/citygsx
THREADS=${THREADS:-4}
PER_SCENE=${GPUS_PER_SCENE:-1}
PYTHON=${PYTHON:-python}
export OMP_NUM_THREADS=$THREADS MKL_NUM_THREADS=$THREADS

case $PRESET in
    mill19) scenes=(building rubble) ;;
    urbanscene3d) scenes=(residence sciart campus) ;;
    matrixcity) scenes=(small_city/aerial) ;;
    *)
        if [ ! -f "$PRESET" ] || [ $# -eq 0 ]; then
            echo "$0: PRESET is mill19, urbanscene3d, matrixcity, or a config with SCENEs" >&2
            exit 2
        fi
        scenes=() ;;
esac
[ $# -gt 0 ] && scenes=("$@")

config_of() {
    case $PRESET in
        mill19 | urbanscene3d) echo "$CONFIGS/citygsx_$1.py" ;;
        matrixcity) echo "$CONFIGS/citygsx_matrixcity.py" ;;
        *) echo "$PRESET" ;;
    esac
}

if [ -z "${DEVICES:-}" ]; then
    DEVICES=$(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null | tr '\n' ' ')
fi
read -ra devices <<<"${DEVICES:-cpu}"
places=()
for ((i = 0; i + PER_SCENE <= ${#devices[@]}; i += PER_SCENE)); do
    places+=("$(IFS=,; echo "${devices[*]:i:PER_SCENE}")")
done
if [ ${#places[@]} -eq 0 ]; then
    echo "$0: GPUS_PER_SCENE=$PER_SCENE, but there are ${#devices[@]} devices: ${devices[*]}" >&2
    exit 2
fi

train() { # scene place
    local name=${1//\//_} port=$((29500 + RANDOM % 2000))
    local config
    config=$(config_of "$1")
    local options=(--work-dir "$OUT/$name" --resume auto --cfg-options "data_root=$DATA/$1")
    [ "$2" != cpu ] && export CUDA_VISIBLE_DEVICES=$2
    if [ "$PER_SCENE" -gt 1 ]; then
        # shellcheck disable=SC2086
        PORT=$port "$ROOT/tools/dist_train.sh" "$config" "$PER_SCENE" ${EXTRA:-} "${options[@]}"
    else
        # shellcheck disable=SC2086
        PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" \
            "$PYTHON" -m mmcity train "$config" ${EXTRA:-} "${options[@]}"
    fi
}

mkdir -p "$OUT"
declare -A running=() # process -> "scene place"
failed=0
reap() { # wait for one scene and free its place
    local done_pid status scene place
    wait -n -p done_pid
    status=$?
    read -r scene place <<<"${running[$done_pid]}"
    unset "running[$done_pid]"
    places+=("$place")
    if [ $status -eq 0 ]; then echo "done: $scene"; else
        echo "failed ($status): $scene, see $OUT/${scene//\//_}.log" >&2
        failed=$((failed + 1))
    fi
}
for scene in "${scenes[@]}"; do
    while [ ${#places[@]} -eq 0 ]; do reap; done
    place=${places[0]}
    places=("${places[@]:1}")
    echo "start: $scene on $place"
    (train "$scene" "$place") >"$OUT/${scene//\//_}.log" 2>&1 &
    running[$!]="$scene $place"
done
while [ ${#running[@]} -gt 0 ]; do reap; done
exit $failed
