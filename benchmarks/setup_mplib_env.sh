#!/usr/bin/env bash
# Make the environment of maniskill_planner.py: mplib 0.1.1 crashes under numpy 2, so it gets one of its own.
# Usage: benchmarks/setup_mplib_env.sh [DIRECTORY]   (default: .venv-mplib in the repository root)
# PYTHON names the interpreter (default python3.11). Running it again is harmless.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="${1:-$root/.venv-mplib}"

[ -x "$venv/bin/python" ] || "${PYTHON:-python3.11}" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    "numpy<2" mplib==0.1.1 mani_skill==3.0.1 sapien==3.0.3 torch==2.13.0 svgpathtools==1.8.0
"$venv/bin/python" -c "import mplib, numpy, mani_skill; print('ready:', '$venv', 'numpy', numpy.__version__)"
