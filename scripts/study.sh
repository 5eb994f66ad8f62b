#!/usr/bin/env bash
# Every table in docs/tables, and the figures of README and docs that come from them.
#
# A table whose records (docs/tables/NAME.parquet) are there is made from them, in minutes. Otherwise its episodes
# are run first: delete the Parquet file, or set FAILSAFE_STUDY_ANEW=1, to run a study again. All of them take a
# night or more on two cores; stop at any time, and run the same command to resume.
#
#   FAILSAFE_STUDY_ANEW    set to 1: run all episodes again
#   FAILSAFE_STUDY_OUT     folder of the results in place of out/study
#   FAILSAFE_STUDY_TABLES  folder of the tables in place of docs/tables
#   FAILSAFE_STUDY_SEEDS   first and last (exclusive) seed of all studies, in place of their own
#   FAILSAFE_QUICK         set to 1: one short episode of two of the studies, to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${FAILSAFE_STUDY_OUT:-out/study}"
tables="${FAILSAFE_STUDY_TABLES:-docs/tables}"
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK
mkdir -p "$tables"

has_record() { [ -f "$tables/$1.parquet" ] && [ -z "${FAILSAFE_STUDY_ANEW:-}" ]; } # NAME

study() { # NAME ARGUMENTS...
  local name=$1
  shift
  if has_record "$name"; then
    return
  fi
  # Exit status 3: the monitor asked for help in some episode, which is a result like any other.
  "$bin/failsafe" evaluate "$@" --videos 0 --out "$out/$name" || [ $? -eq 3 ]
  "$bin/failsafe" report "$out/$name" --videos "$(pick 3 0)" --tables "$tables/$name.md" \
    --episode-table "$tables/$name.parquet"
}

left_out=$out/leave_one_out # with the models and the policy that are trained there
learned() { # NAME: a table of scripts/leave_one_out.sh
  if has_record "$1"; then
    return
  fi
  # Its last step writes this page.
  [ -e "$left_out/strong/own_with/report.html" ] || FAILSAFE_LEFT_OUT_OUT="$left_out" bash scripts/leave_one_out.sh
  "$bin/failsafe" report "$left_out/strong/$1" --videos 0 --tables "$tables/$1.md" --episode-table "$tables/$1.parquet"
}

seeds() { echo "--seeds ${FAILSAFE_STUDY_SEEDS:-$(pick "$1" 5000:5001)} $(pick "" "--max-steps 20")"; } # SEEDS

push=$(pick "" "--tasks PushCube-v1")
for strength in $(pick "weak medium strong" medium); do
  study "$strength" --policy "reference:$strength" $push $(seeds 5000:5100) --conditions never,monitor,assist
done
if [ -z "${FAILSAFE_QUICK:-}" ]; then
  study controls --policy reference:weak $(seeds 5000:5100) --controls
  study axes --policy reference:weak $(seeds 5000:5100) --conditions never,monitor,assist \
    --scenarios farther,camera-5,camera-15,small-cube,large-cube,tall-cube,blue-cube,sphere,fetch,heavy,slippery,noise,delay-1,delay-2,delay-3
  study hand_back --policy reference:strong --tasks PickCube-v1,StackCube-v1 $(seeds 6000:6012) \
    --scenarios object_dropped,object_pushed --conditions never,minimal,monitor,assist,model-alone
  study medium_hand_back --policy reference:medium $(seeds 6100:6115) --conditions never,monitor,assist
  study medium_escalate --policy reference:medium --tasks PickCube-v1,StackCube-v1 $(seeds 6200:6220) \
    --conditions never,monitor,escalate
  # The same on a processor without AVX-512; on one that has it, the networks do without.
  ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 study processors_avx2 --policy reference:medium \
    --tasks PickCube-v1,StackCube-v1 $(seeds 6200:6220) --conditions never,monitor,escalate
  for name in left_out_without left_out_with own_without own_with; do
    learned "$name"
  done
  # The proof: the protocols hold policy, seeds, conditions, thresholds and the end point, and run only with the code
  # and the weights that they were frozen with: from the commit that added the protocol.
  study proof --protocol docs/protocols/perturbed-strong.json
  study proof_oracle --protocol docs/protocols/oracle-minimal.json
  study medium_proof --protocol docs/protocols/medium-undisturbed.json
  study weak_medium --protocol docs/protocols/weak-medium.json
  study axes_strong --protocol docs/protocols/axes-strong.json
  study metaworld_proof --protocol docs/protocols/metaworld.json
  study metaworld_second --protocol docs/protocols/metaworld-second.json
  study metaworld_replication --protocol docs/protocols/metaworld-replication.json
  study undisturbed_strong --protocol docs/protocols/undisturbed-strong.json
  study undisturbed_weak --protocol docs/protocols/undisturbed-weak.json
  study proof_oracle_second --protocol docs/protocols/oracle-minimal-second.json
  study controls_strong --protocol docs/protocols/controls-strong.json
  study hand_back_medium --protocol docs/protocols/hand-back-medium.json
  study hand_back_strong --protocol docs/protocols/hand-back-strong.json
  study fixed_retry --protocol docs/protocols/fixed-retry.json
  study retry --protocol docs/protocols/retry.json
  study retry_oracle --protocol docs/protocols/retry-oracle.json
fi
study perturbed --policy reference:strong --tasks "$(pick PickCube-v1,StackCube-v1 PickCube-v1)" $(seeds 5000:5100) \
  --scenarios "$(pick nominal,pushed,dropped nominal,pushed)" \
  --conditions never,minimal,monitor,assist,model-alone,oracle-minimal

"$bin/python" -m scripts.tables "$tables"
[ "$tables" != docs/tables ] || "$bin/python" -m scripts.figures
