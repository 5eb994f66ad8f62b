#!/usr/bin/env bash
# The reference policies from nothing: demonstrations of the experts, imitation of few, some and many, thresholds and
# hand-back models.
# About an hour and a half on two cores. Stop it at any time, and run it again to resume.
#
#   bash scripts/policies.sh [FOLDER]
#
#   FAILSAFE_QUICK  set to 1: two demonstrations of one task, two steps of training, one threshold: to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${1:-out/policies}"
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK

demonstrate() { # NAME VIEWS EPISODES
  OMP_NUM_THREADS=1 "$bin/failsafe" demonstrate $(pick "PickCube-v1 PushCube-v1 StackCube-v1" PushCube-v1) \
    --episodes "$(pick "$3" 2)" --views "$2" --out "$out/$1"
}
imitate() { # NAME DEMONSTRATIONS HOW-MANY STEPS [FLAGS]
  [ -e "$out/$1.safetensors" ] ||
    "$bin/failsafe" imitate "$out/$2" --demonstrations "$(pick "$3" 2)" --steps "$(pick "$4" 2)" "${@:5}" $(pick "" "--batch 8") \
      --out "$out/$1.safetensors"
}
demonstrate two_views front,hand 80
imitate weak two_views 25 800
[ -n "${FAILSAFE_QUICK:-}" ] || imitate medium two_views 80 1500
demonstrate three_views front,side,hand 1000
imitate strong three_views 1000 4000 --keyframes

# Thresholds for the compact model behind each policy, on calibration seeds.
calibrate() { # NAME SEEDS ARGUMENTS...
  OMP_NUM_THREADS=1 "$bin/failsafe" calibrate compact --policy "reference:$1" --seeds "$2" \
    $(pick "" "--tasks PushCube-v1 --max-steps 20") "${@:3}" --out "$out/$1.json"
}
calibrate weak "$(pick 800000:800100 800000:800001)"

# Where to hand back, from episodes of the policy with these thresholds. The strong policy fails only if perturbed.
hand_backs() { # NAME ARGUMENTS...
  calibrate "$1" 800000:800100
  # Exit status 3: the monitor asked for help in some episode.
  OMP_NUM_THREADS=1 "$bin/failsafe" evaluate --policy "reference:$1" --calibration "$out/$1.json" "${@:2}" \
    --conditions never,monitor,escalate,assist --videos 0 --out "$out/$1_hand_backs" || [ $? -eq 3 ]
  calibrate "$1" 800000:800100 --hand-backs "$out/$1_hand_backs"
}
if [ -z "${FAILSAFE_QUICK:-}" ]; then
  hand_backs medium --seeds 8000:8040
  hand_backs strong --seeds 8000:8006 \
    --perturb slip,object_pushed,object_knocked_over,object_dropped,no_op,gripper_stays_open,early_release,late_close,drift
fi
