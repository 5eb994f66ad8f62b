#!/usr/bin/env bash
# Sixty verified failures on three tasks, rendered where this machine can, and the two pages to open.
# Running it again goes on where it was, and makes nothing twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${FAILSAFE_VENV:-.venv}/bin
out=${FAILSAFE_DEMO_OUT:-out/demo}

"$bin/failsafe" generate PickCube-v1 PushCube-v1 StackCube-v1 --failures 60 --out "$out"

if "$bin/failsafe" doctor --json | "$bin/python" -c '
import json, sys
sys.exit(not all(check["ok"] for check in json.load(sys.stdin)["checks"] if check["needed_for"] == "rendering"))'
then
  "$bin/failsafe" render "$out"
else
  echo "No renderer here, so the gallery shows no pictures: 'failsafe doctor' says how to get one."
fi

"$bin/failsafe" gallery "$out"
"$bin/failsafe" coverage "$out"

page() { find "$(cd "$out" && pwd)" -name '*.html' -path "*$1*" | sort | head -n 1; }
gallery=$(page gallery) coverage=$(page coverage)
[ -n "$gallery" ] && [ -n "$coverage" ] || { echo "demo: a page is missing under $out" >&2; exit 1; }
echo
echo "Open the gallery:  $gallery"
echo "Open the coverage: $coverage"
