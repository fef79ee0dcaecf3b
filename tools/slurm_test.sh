#!/usr/bin/env bash
# Test under Slurm, one task per GPU (or per CPU process with GPUS_PER_NODE=0):
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK and SRUN_ARGS in the environment change the shape of the job.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
CPUS_PER_TASK=${CPUS_PER_TASK:-5}
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

RESOURCES=(--ntasks="$GPUS" --cpus-per-task="$CPUS_PER_TASK" --kill-on-bad-exit=1)
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    RESOURCES+=(--gres="gpu:$GPUS_PER_NODE" --ntasks-per-node="$GPUS_PER_NODE")
fi

# shellcheck disable=SC2086  # SRUN_ARGS holds several words
PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}" exec srun -p "$PARTITION" --job-name="$JOB_NAME" \
    "${RESOURCES[@]}" ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$ROOT/tools/test.py" "${@:3}" --launcher slurm
