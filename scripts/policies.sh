#!/usr/bin/env bash
# The reference policies from nothing: demonstrations of the experts, imitation of few, some and many, thresholds.
# About an hour on two cores. Nothing is done twice: stop it at any moment, and run it again.
#
#   bash scripts/policies.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${1:-out/policies}"

OMP_NUM_THREADS=1 "$bin/failsafe" demonstrate PickCube-v1 PushCube-v1 StackCube-v1 --episodes 300 \
  --out "$out/demonstrations"
imitate() { # NAME DEMONSTRATIONS STEPS
  [ -e "$out/$1.safetensors" ] ||
    "$bin/failsafe" imitate "$out/demonstrations" --demonstrations "$2" --steps "$3" --out "$out/$1.safetensors"
}
imitate weak 25 800
imitate medium 80 1500
imitate strong 300 3000

# Thresholds for the compact model behind each; the checkpoints that ship are those made above.
calibrate() { # NAME SEEDS
  [ -e "$out/$1.json" ] ||
    OMP_NUM_THREADS=1 "$bin/failsafe" calibrate compact --policy "reference:$1" --seeds "$2" --out "$out/$1.json"
}
calibrate weak 400000:400060
calibrate medium 400000:400200
calibrate strong 400000:400100
