#!/usr/bin/env bash
# Do mined failures of some policies help behind another one? Two compact models with equal data, measured behind a
# policy that neither has seen: one learns from generated failures alone; in the data of the other, some of them are
# failures mined from the other policies. Equal numbers of failures, equal steps of training, the shipped object
# localizer, the same initial states. An estimated six hours on two cores; started again, every step resumes.
#
#   FAILSAFE_LEFT_OUT      the policy behind which is measured, in place of strong: weak, medium or strong
#   FAILSAFE_LEFT_OUT_OUT  output folder in place of out/leave_one_out
#   FAILSAFE_QUICK         set to 1: one episode of each policy and two steps, to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
left_out="${FAILSAFE_LEFT_OUT:-strong}"
out="${FAILSAFE_LEFT_OUT_OUT:-out/leave_one_out}/$left_out"
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK
export OMP_NUM_THREADS=1
tasks="$(pick PickCube-v1,StackCube-v1 PickCube-v1)"
modes="object_dropped,object_pushed"
here=$(pick "" "--executor serial") # one process starts faster than several

# 1. Failures of the other policies, undisturbed and perturbed at run time, and as many generated ones.
mined=()
for policy in weak medium strong; do
  [ "$policy" != "$left_out" ] || continue
  for perturb in $(pick "none $modes" none); do
    "$bin/failsafe" mine --policy "reference:$policy" --tasks "$tasks" --episodes "$(pick 60 1)" --first-seed 700 \
      $([ "$perturb" = none ] || echo "--perturb $perturb") $(pick "" "--max-steps 40 --labels 1") $here \
      --out "$out/mined/$policy-$perturb"
    mined+=("$out/mined/$policy-$perturb")
  done
done
failures=$("$bin/python" -c '
import sys
from pathlib import Path
from failsafe.datasets.store import open_dataset
print(sum(case.verified for folder in sys.argv[1:] for case in open_dataset(Path(folder)).cases()))' "${mined[@]}")
[ "$failures" -gt 0 ] || failures=1
generate() { # NAME FAILURES SEEDS
  "$bin/failsafe" generate ${tasks//,/ } --failures "$2" --labels "$(pick 2 1)" --verify-rollouts 1 --seeds "$3" $here --out "$out/$1"
}
generate base "$(pick 400 2)" 20000:40000
generate instead "$failures" 40000:60000

# 2. Samples without images, and the two models: equal steps.
samples() { # NAME DATA...
  "$bin/failsafe" samples "${@:2}" --frames 1 --no-images --every 6 --failing-share 0 --only-split train $here --out "$out/samples/$1"
}
train() { # NAME SAMPLES...
  "$bin/failsafe" train "${@:2}" --localizer compact --steps "$(pick 2000 2)" $(pick "" "--batch 4") --out "$out/$1"
}
samples base "$out/base"
samples instead "$out/instead"
samples mined "${mined[@]}"
train without "$out/samples/base" "$out/samples/instead"
train with "$out/samples/base" "$out/samples/mined"

# 3. Both behind the policy that was left out: thresholds at the same alpha, and the same initial states.
for model in without with; do
  [ -e "$out/$model.json" ] ||
    "$bin/failsafe" calibrate "$out/$model" --policy "reference:$left_out" --tasks "$tasks" \
      --seeds "$(pick 800000:800060 800000:800001)" $(pick "" "--max-steps 20") $here --out "$out/$model.json"
  limits="--calibration $out/$model.json"
  [ -z "${FAILSAFE_QUICK:-}" ] || limits="--threshold 5 --max-steps 40" # one episode calibrates nothing
  # Exit status 3: the monitor asked for help in some episode.
  "$bin/failsafe" evaluate --policy "reference:$left_out" --monitor "$out/$model" --tasks "$tasks" \
    --seeds "$(pick 7000:7050 7000:7001)" --perturb "$modes" --videos 0 \
    $limits $here --out "$out/results_$model" || [ $? -eq 3 ]
done
"$bin/failsafe" report "$out/results_with" --against "$out/results_without" --videos 0 $here
