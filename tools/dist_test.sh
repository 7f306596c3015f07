#!/usr/bin/env bash
# Test on the GPUs of this machine, or of several (NNODES, NODE_RANK, MASTER_ADDR, PORT).
# Usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [options of test.py]
set -euo pipefail
[ $# -ge 3 ] || { sed -n 2,3p "$0" >&2; exit 2; }
config=$1 checkpoint=$2 processes=$3
shift 3
exec torchrun --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
  --nproc_per_node="$processes" "$(dirname "$0")/test.py" "$config" "$checkpoint" \
  --launcher pytorch "$@"
