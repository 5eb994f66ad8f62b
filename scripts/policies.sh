#!/usr/bin/env bash
# The reference policies from nothing: demonstrations of the experts, imitation of few, some and many, thresholds.
# About an hour and a half on two cores. Nothing is done twice: stop it at any moment, and run it again.
#
#   bash scripts/policies.sh [FOLDER]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${1:-out/policies}"

demonstrate() { # NAME VIEWS EPISODES
  OMP_NUM_THREADS=1 "$bin/failsafe" demonstrate PickCube-v1 PushCube-v1 StackCube-v1 --episodes "$3" \
    --views "$2" --out "$out/$1"
}
imitate() { # NAME DEMONSTRATIONS HOW-MANY STEPS [FLAGS]
  [ -e "$out/$1.safetensors" ] ||
    "$bin/failsafe" imitate "$out/$2" --demonstrations "$3" --steps "$4" "${@:5}" --out "$out/$1.safetensors"
}
demonstrate two_views front,hand 80
imitate weak two_views 25 800
imitate medium two_views 80 1500
demonstrate three_views front,side,hand 1000
imitate strong three_views 1000 4000 --keyframes

# Thresholds for the compact model behind each; the checkpoints that ship are those made above.
calibrate() { # NAME SEEDS
  [ -e "$out/$1.json" ] ||
    OMP_NUM_THREADS=1 "$bin/failsafe" calibrate compact --policy "reference:$1" --seeds "$2" --out "$out/$1.json"
}
calibrate weak 400000:400060
calibrate medium 400000:400200
calibrate strong 420000:420100
