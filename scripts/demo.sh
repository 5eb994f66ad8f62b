#!/usr/bin/env bash
# Sixty verified failures on tasks of all suites that are installed, rendered if this machine can; then a good policy that is perturbed at run time,
# with and without the monitor from the same initial states; and the pages to open. Running it again resumes.
#
#   FAILSAFE_DEMO_OUT  output folder in place of out/demo
#   FAILSAFE_QUICK     set to 1: one failure of one task and one episode, to see that everything works
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bin=${FAILSAFE_VENV:-.venv}/bin
out=${FAILSAFE_DEMO_OUT:-out/demo}
guarded=$out-guarded
pick() { [ -n "${FAILSAFE_QUICK:-}" ] && echo "$2" || echo "$1"; } # FULL QUICK

installed() { "$bin/python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$1"; }
tasks="PickCube-v1 PushCube-v1 StackCube-v1"
! installed metaworld || tasks="$tasks metaworld/pick-place-v3 metaworld/drawer-open-v3"
! installed libero || tasks="$tasks libero_object/0"

"$bin/failsafe" generate $(pick "$tasks" PushCube-v1) --failures "$(pick 60 1)" \
  --labels 2 --out "$out"

if { "$bin/failsafe" doctor --json || true; } | "$bin/python" -c '
import json, sys
sys.exit(not all(check["ok"] for check in json.load(sys.stdin)["checks"] if check["needed_for"] == "rendering"))'
then
  renders=yes
  "$bin/failsafe" render "$out"
else
  renders=
  echo "No renderer here, so the gallery has no images, and no policy can be evaluated: see 'failsafe doctor'."
fi

"$bin/failsafe" gallery "$out"
"$bin/failsafe" coverage "$out"

if [ -n "$renders" ]; then
  # Exit status 3: the monitor asked for help in some episode.
  "$bin/failsafe" evaluate --policy reference:strong --monitor compact --seeds "$(pick 5000:5010 5000:5001)" \
    --tasks "$(pick PickCube-v1,StackCube-v1 PickCube-v1)" --perturb "$(pick object_dropped,object_pushed object_dropped)" \
    $(pick "" "--max-steps 30") --videos "$(pick 2 1)" --out "$guarded" || [ $? -eq 3 ]
fi

# The page nearest to the top of the dataset's folder whose path contains a word.
page() { (cd "$out" && find "$PWD" -name '*.html' -printf '%d %P\n' | grep "$1" | sort -n | sed -n "1s|^[0-9]* |$PWD/|p"); }
gallery=$(page gallery || true) coverage=$(page coverage || true)
[ -n "$gallery" ] && [ -n "$coverage" ] || { echo "demo: a page is missing under $out" >&2; exit 1; }
echo
echo "Open the gallery:  $gallery"
echo "Open the coverage: $coverage"
[ -z "$renders" ] || echo "Open the report:   $(cd "$guarded" && pwd)/report.html"
