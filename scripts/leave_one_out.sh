#!/usr/bin/env bash
# What failures of policies are worth as training data, in three comparisons with equal data:
#
#   1. Leave one policy out: two compact models, of equal numbers of failures; in the data of the model `with`, some of
#      them are failures mined from two policies. Both are measured behind the third policy, which is in neither.
#   2. The same two models behind one of the mined policies: its corrections are proven with that policy going on.
#   3. The third policy trained further on the dataset of the model `without`, alone and with that model.
#
# All measurements are on the same initial states, development seeds. About three hours on one core, two on two;
# started again, every step resumes. The shipped object localizer serves all models.
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
short="--max-steps $(pick 200 20)"

# 1. Failures of the other policies, undisturbed and perturbed at run time, and generated ones.
mined=()
for policy in weak medium strong; do
  [ "$policy" != "$left_out" ] || continue
  own=$policy # the last of them is measured in step 4
  for perturb in $(pick "none $modes" none); do
    [ "$perturb" = none ] && kind="--episodes $(pick 20 1)" || kind="--episodes 10 --perturb $perturb"
    "$bin/failsafe" mine --policy "reference:$policy" --tasks "$tasks" $kind --first-seed 700 \
      $(pick "" "--max-steps 40 --labels 1") $here \
      --out "$out/mined/$policy-$perturb"
    mined+=("$out/mined/$policy-$perturb")
  done
done
failures=$("$bin/python" -c '
import sys
from pathlib import Path
from failsafe.datasets.store import open_dataset
print(sum(case.verified for folder in sys.argv[1:] for case in open_dataset(Path(folder)).cases()))' "${mined[@]}")
generated=$(pick 200 2)
generate() { # NAME FAILURES
  "$bin/failsafe" generate ${tasks//,/ } --failures "$2" --labels "$(pick 2 1)" --verify-rollouts 1 --seeds 20000:40000 $here \
    --out "$out/$1"
}
generate fewer "$generated"
generate all "$((generated + failures))"

# 2. Samples without images, and the two models: equal numbers of failures, equal steps.
samples() { # NAME DATA...
  "$bin/failsafe" samples "${@:2}" --frames 1 --no-images --every 6 --failing-share 0 --only-split train $here --out "$out/samples/$1"
}
train() { # NAME SAMPLES...
  "$bin/failsafe" train "${@:2}" --localizer compact --steps "$(pick 1500 2)" $(pick "" "--batch 4") --out "$out/$1"
}
samples fewer "$out/fewer"
samples mined "${mined[@]}"
samples all "$out/all"
train with "$out/samples/fewer" "$out/samples/mined"
train without "$out/samples/all"

# 3. The policy that was left out, trained further on the recoveries of the dataset from which `without` learned.
"$bin/failsafe" demonstrate --dataset "$out/all" --views front,side,hand $here --out "$out/recoveries"
further="$out/further.safetensors"
[ -e "$further" ] ||
  "$bin/failsafe" imitate "$out/recoveries" --base "reference:$left_out" --steps "$(pick 400 2)" $(pick "" "--batch 4") --out "$further"

# 4. Thresholds at the same alpha, and the same initial states. One episode of a quick run calibrates nothing.
measure() { # NAME MODEL SEEDS PERTURBATIONS POLICIES...
  local limits=()
  for policy in "${@:5}"; do
    local file="$out/$2-$(basename "${policy#*:}" .safetensors).json"
    [ -e "$file" ] ||
      "$bin/failsafe" calibrate "$out/$2" --policy "$policy" --tasks "$tasks" $short \
        --seeds "$(pick 800000:800040 800000:800001)" $here --out "$file"
    limits+=("$file")
  done
  [ -z "${FAILSAFE_QUICK:-}" ] && limits=(--calibration "${limits[@]}") || limits=(--threshold 5)
  # Exit status 3: the monitor asked for help in some episode.
  "$bin/failsafe" evaluate --policy "${@:5}" --monitor "$out/$2" --tasks "$tasks" $short --seeds "$(pick "$3" 7000:7001)" \
    ${4:+--perturb $4} "${limits[@]}" --videos 0 $here --out "$out/$1" || [ $? -eq 3 ]
}
measure left_out_without without 7000:7025 "$modes" "reference:$left_out" "reference:$further"
measure left_out_with with 7000:7025 "$modes" "reference:$left_out"
measure own_without without 7100:7120 "" "reference:$own"
measure own_with with 7100:7120 "" "reference:$own"
"$bin/failsafe" report "$out/left_out_with" --against "$out/left_out_without" --videos 0 $here
"$bin/failsafe" report "$out/own_with" --against "$out/own_without" --videos 0 $here
