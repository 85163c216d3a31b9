#!/usr/bin/env bash
# Trains with several processes by Open MPI's mpirun, on this machine or on those named in HOSTS; all of them need the
# program and the images under the same paths. What follows the number is the program's command line.
#
#     configs/cluster/mpirun.sh 4 --config configs/ttame_resnet50.yaml --device cuda --resume auto
#     HOSTS=one:8,two:8 configs/cluster/mpirun.sh 16 --config configs/ttame_resnet50.yaml --device cuda --resume auto
#
# The program is $EXPLAINER_TRAIN, or explainer-train. `kill -TERM` of any one of its processes stops all after the step,
# with a checkpoint; Ctrl-C of mpirun leaves the last checkpoint only.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: [HOSTS=one:8,two:8] $0 PROCESSES --config FILE ..." >&2
    exit 2
fi
count=$1
shift
options=(-n "$count" --bind-to none) # each process takes its share of the machine's cores
if [ -n "${HOSTS:-}" ]; then
    options+=(--host "$HOSTS" -x PATH -x LD_LIBRARY_PATH)
else
    options+=(--oversubscribe)
fi
exec mpirun "${options[@]}" "${EXPLAINER_TRAIN:-explainer-train}" "$@"
