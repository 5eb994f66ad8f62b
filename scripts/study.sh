#!/usr/bin/env bash
# The full study: every reference policy with the monitor and with assist; the weak one with every control, and on
# every axis of generalisation; the strong one, which has successes to lose, with run-time perturbations. Takes
# a night or more on two cores; stop it at any time, and run it again to resume.
# Writes docs/tables/*.md and the records behind them, docs/tables/*.parquet.
#
#   FAILSAFE_STUDY_OUT     folder of the results in place of out/study
#   FAILSAFE_STUDY_TABLES  folder of the tables in place of docs/tables
#   FAILSAFE_STUDY_SEEDS   first and last (exclusive) seed in place of 5000:5100
#   FAILSAFE_QUICK         set to 1: one short episode of two of the studies, to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${FAILSAFE_STUDY_OUT:-out/study}"
tables="${FAILSAFE_STUDY_TABLES:-docs/tables}"
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK
seeds="${FAILSAFE_STUDY_SEEDS:-$(pick 5000:5100 5000:5001)}"
mkdir -p "$tables"

study() { # NAME ARGUMENTS...
  local name=$1
  shift
  # Exit status 3: the monitor asked for help in some episode, which is a result like any other.
  "$bin/failsafe" evaluate "$@" $(pick "" "--max-steps 20") --seeds "$seeds" --videos 0 --out "$out/$name" ||
    [ $? -eq 3 ]
  "$bin/failsafe" report "$out/$name" --videos "$(pick 3 0)" --tables "$tables/$name.md" \
    --episode-table "$tables/$name.parquet"
}

push=$(pick "" "--tasks PushCube-v1")
for strength in $(pick "weak medium strong" medium); do
  study "$strength" --policy "reference:$strength" $push --conditions never,monitor,assist
done
if [ -z "${FAILSAFE_QUICK:-}" ]; then
  study controls --policy reference:weak --controls
  study axes --policy reference:weak --conditions never,monitor,assist \
    --scenarios farther,camera-5,camera-15,small-cube,large-cube,tall-cube,blue-cube,sphere,fetch,heavy,slippery,noise,delay-1,delay-2,delay-3
fi
study perturbed --policy reference:strong --tasks "$(pick PickCube-v1,StackCube-v1 PickCube-v1)" \
  --scenarios "$(pick nominal,pushed,dropped nominal,pushed)" \
  --conditions never,minimal,monitor,assist,model-alone,oracle-minimal
