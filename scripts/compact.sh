#!/usr/bin/env bash
# Makes a compact model from nothing: data, samples, eyes, judging network, tables. About three hours on two cores;
# every step goes on where it was when the script is started again. What came of it: docs/compact.md, "Made anew".
#
#   FAILSAFE_COMPACT_OUT   where everything goes instead of out/compact
#   FAILSAFE_COMPACT_EYES  a checkpoint whose eyes are kept, "compact" for the one that ships: no pictures to learn by
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${FAILSAFE_VENV:-.venv}/bin
out=${FAILSAFE_COMPACT_OUT:-out/compact}
eyes=${FAILSAFE_COMPACT_EYES:-}
three="PickCube-v1 PushCube-v1 StackCube-v1"
five="$three PullCube-v1 LiftPegUpright-v1"
export OMP_NUM_THREADS=1

# 1. Data: the seven labels of the published system on its three tasks, and other seeds of them for a test; all
# modes on five tasks, many of them to tell kinds apart; a task left out.
four="--labels 4 --verify-rollouts 1"
two="--labels 2 --verify-rollouts 1"
labels="--modes-file configs/seven_labels.yaml"
"$bin/failsafe" generate $three --failures 2000 $four $labels --compound 0 --seeds 10000:100000 --out "$out/seven"
"$bin/failsafe" generate $three --failures 6000 $two $labels --compound 0.15 --seeds 500000:600000 --out "$out/more"
"$bin/failsafe" generate $three --failures 300 $four $labels --compound 0 --seeds 100000:200000 --out "$out/seven_test"
"$bin/failsafe" generate $five --failures 1800 $four --out "$out/all"
"$bin/failsafe" generate $five --failures 6000 $two --seeds 600000:700000 --out "$out/all_more"
"$bin/failsafe" generate PlaceSphere-v1 --failures 120 $four --seeds 200000:300000 --out "$out/left_out"

# 2. Samples of one moment each: to learn to see by, with pictures, every camera moved by up to 7 cm and 7 degrees,
# some of a tool that wanders about; to learn to judge by, many without; to test, with pictures, cameras moved
# likewise and farther.
one="--frames 1"
sets="seven more all"
if [ -z "$eyes" ]; then
  for name in $sets; do
    "$bin/failsafe" samples "$out/$name" $one --splits train,validation --out "$out/samples/$name"
  done
  "$bin/failsafe" samples "$out/all" $one --splits train --explore 20 --out "$out/samples/wandering"
fi
for name in $sets all_more; do
  "$bin/failsafe" samples "$out/$name" $one --splits train --no-images --every 6 --failing-share 0 \
    --out "$out/unseen/$name"
done
for cameras in "" "--shift 0.05,5" "--shift 0.15,15"; do
  suffix=$(sed 's/--shift 0.\(..\),\(.*\)/_\1cm_\2deg/' <<<"$cameras")
  "$bin/failsafe" samples "$out/seven_test" $one --only-split test $cameras --out "$out/test/seven$suffix"
  "$bin/failsafe" samples "$out/all" $one --splits test $cameras --out "$out/test/all$suffix"
done
"$bin/failsafe" samples "$out/left_out" $one --only-split test --out "$out/test/left_out"

# 3. The model: eyes, then what judges; and one that sees no pictures: what proprioception alone gives away.
unset OMP_NUM_THREADS
if [ -z "$eyes" ]; then
  "$bin/failsafe" train "$out"/samples/* --out "$out/eyes"
  eyes=$out/eyes
fi
"$bin/failsafe" train "$out"/unseen/* --localizer "$eyes" --epochs 28 --out "$out/run"
"$bin/failsafe" train "$out"/unseen/* --proprioception-only --epochs 10 --out "$out/blind"

# 4. The tables.
export OMP_NUM_THREADS=1
for name in seven all; do
  "$bin/failsafe" score "$out/run" "$out/test/$name" "$out/test/${name}_05cm_5deg" "$out/test/${name}_15cm_15deg" \
    --also "$out/blind" --train "$out/unseen/seven" "$out/unseen/all" --out "$out/scores/$name"
done
"$bin/failsafe" score "$out/run" "$out/test/left_out" --any-instruction \
  --also "$out/blind" --train "$out/unseen/seven" "$out/unseen/all" --out "$out/scores/left_out"
