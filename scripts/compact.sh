#!/usr/bin/env bash
# A compact model from nothing: data, samples, object localizer, classifier, tables. About three hours on two cores;
# started again, every step resumes. The results: docs/compact.md, "Training from scratch".
#
#   FAILSAFE_COMPACT_OUT        output folder in place of out/compact
#   FAILSAFE_COMPACT_LOCALIZER  a checkpoint whose object localizer is kept ("compact" for the one that ships): no images
#   FAILSAFE_QUICK              set to 1: a few failures of toy tasks and ten steps, to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${FAILSAFE_VENV:-.venv}/bin
out=${FAILSAFE_COMPACT_OUT:-out/compact}
localizer=${FAILSAFE_COMPACT_LOCALIZER:-}
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK
three=$(pick "PickCube-v1 PushCube-v1 StackCube-v1" ToyPick-v0)
five=$(pick "$three PullCube-v1 LiftPegUpright-v1" ToyPick-v0)
export OMP_NUM_THREADS=1

# 1. Data: the seven labels of the published system on its three tasks, and other seeds of them for a test; all modes on
# five tasks, with more of them to tell kinds apart; a task that is left out.
four="--labels $(pick 4 1) --verify-rollouts 1"
two="--labels $(pick 2 1) --verify-rollouts 1"
labels="--modes-file configs/seven_labels.yaml"
generate() { # NAME FAILURES ARGUMENTS...
  "$bin/failsafe" generate "${@:3}" --failures "$(pick "$2" 36)" --out "$out/$1"
}
generate seven 2000 $three $four $labels --compound 0 --seeds 10000:100000
generate more 6000 $three $two $labels --compound 0.15 --seeds 500000:600000
generate seven_test 300 $three $four $labels --compound 0 --seeds 100000:200000
generate all 1800 $five $four
generate all_more 6000 $five $two --seeds 600000:700000
generate left_out 120 "$(pick PlaceSphere-v1 ToyPush-v0)" $four --seeds 200000:300000

# 2. Samples of one time step each. For the localizer: with images, every camera moved by up to 7 cm and 7 degrees, and
# random-exploration rollouts. For the classifier: many without images. For the test: with images, and cameras that are
# moved likewise and farther.
one="--frames 1 $(pick "" "--views front,side --size 32")"
sets="seven more all"
samples() { # FOLDER DATA ARGUMENTS...
  "$bin/failsafe" samples "$out/$2" $one "${@:3}" --out "$out/$1"
}
if [ -z "$localizer" ]; then
  for name in $sets; do
    samples "samples/$name" "$name" --splits train,validation
  done
  samples samples/exploration all --splits train --explore "$(pick 20 1)"
fi
for name in $sets all_more; do
  samples "image_free/$name" "$name" --splits train --no-images --every 6 --failing-share 0
done
for cameras in "" "--shift 0.05,5" "--shift 0.15,15"; do
  suffix=$(sed 's/--shift 0.\(..\),\(.*\)/_\1cm_\2deg/' <<<"$cameras")
  samples "test/seven$suffix" seven_test --only-split test $cameras
  samples "test/all$suffix" all --splits test $cameras
done
samples test/left_out left_out --only-split test

# 3. The model: the localizer, then the classifier; and a classifier of proprioception alone, as a control. The two
# classifiers have no validation samples, so they take all steps: 28 and 10 passes over 471,158 samples.
unset OMP_NUM_THREADS
if [ -z "$localizer" ]; then
  "$bin/failsafe" train "$out"/samples/* $(pick "" "--steps 10") --out "$out/localizer"
  localizer=$out/localizer
fi
"$bin/failsafe" train "$out"/image_free/* --localizer "$localizer" --steps "$(pick 12880 10)" --out "$out/run"
"$bin/failsafe" train "$out"/image_free/* --proprioception-only --steps "$(pick 4600 10)" --out "$out/proprioception"

# 4. The tables.
export OMP_NUM_THREADS=1
few=$(pick "" "--limit 8 --resamples 10")
for name in seven all; do
  "$bin/failsafe" score "$out/run" "$out/test/$name" "$out/test/${name}_05cm_5deg" "$out/test/${name}_15cm_15deg" \
    --also "$out/proprioception" --train "$out/image_free/seven" "$out/image_free/all" $few --out "$out/scores/$name"
done
"$bin/failsafe" score "$out/run" "$out/test/left_out" --any-instruction \
  --also "$out/proprioception" --train "$out/image_free/seven" "$out/image_free/all" $few --out "$out/scores/left_out"
