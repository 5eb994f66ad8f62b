#!/usr/bin/env bash
# The full study: every reference policy with the monitor, then the weak one with every control, then the weak one
# on every axis of generalisation. Hours on two cores; stop it at any moment, and run it again.
# Writes docs/tables/*.md and the records behind them, docs/tables/*.parquet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${FAILSAFE_VENV:-.venv}/bin"
out="${FAILSAFE_STUDY_OUT:-out/study}"
seeds="${FAILSAFE_STUDY_SEEDS:-5000:5100}"
mkdir -p docs/tables

study() { # NAME ARGUMENTS...
  local name=$1
  shift
  # Exit status 3 says that the monitor asked for help somewhere, which is a result like any other.
  "$bin/failsafe" evaluate "$@" --seeds "$seeds" --films 0 --out "$out/$name" || [ $? -eq 3 ]
  "$bin/failsafe" report "$out/$name" --films 3 --tables "docs/tables/$name.md" --ledger "docs/tables/$name.parquet"
}

for strength in weak medium strong; do
  study "$strength" --policy "reference:$strength"
done
study controls --policy reference:weak --controls
study axes --policy reference:weak \
  --scenarios farther,camera-5,camera-15,small-cube,large-cube,blue-cube,sphere,heavy,slippery,noise,delay-1,delay-3
