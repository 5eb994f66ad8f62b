#!/usr/bin/env bash
# Sixty verified failures on three tasks, rendered where this machine can; then the main job, a policy with and
# without the monitor from the same initial states; and the pages to open.
# Running it again goes on where it was, and makes nothing twice.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${FAILSAFE_VENV:-.venv}/bin
out=${FAILSAFE_DEMO_OUT:-out/demo}
guarded=$out-guarded

"$bin/failsafe" generate PickCube-v1 PushCube-v1 StackCube-v1 --failures 60 --labels 2 --out "$out"

if { "$bin/failsafe" doctor --json || true; } | "$bin/python" -c '
import json, sys
sys.exit(not all(check["ok"] for check in json.load(sys.stdin)["checks"] if check["needed_for"] == "rendering"))'
then
  renders=yes
  "$bin/failsafe" render "$out"
else
  renders=
  echo "No renderer here, so the gallery shows no pictures, and no policy can see: 'failsafe doctor' says how to get one."
fi

"$bin/failsafe" gallery "$out"
"$bin/failsafe" coverage "$out"

if [ -n "$renders" ]; then
  # Exit status 3 says that the monitor asked for help in some episode.
  "$bin/failsafe" evaluate --policy reference:weak --monitor compact --seeds 5000:5020 --films 2 --out "$guarded" ||
    [ $? -eq 3 ]
fi

# The page nearest to the top of the dataset's folder whose path has this word in it.
page() { (cd "$out" && find "$PWD" -name '*.html' -printf '%d %P\n' | grep "$1" | sort -n | sed -n "1s|^[0-9]* |$PWD/|p"); }
gallery=$(page gallery || true) coverage=$(page coverage || true)
[ -n "$gallery" ] && [ -n "$coverage" ] || { echo "demo: a page is missing under $out" >&2; exit 1; }
echo
echo "Open the gallery:  $gallery"
echo "Open the coverage: $coverage"
[ -z "$renders" ] || echo "Open the report:   $(cd "$guarded" && pwd)/report.html"
