#!/usr/bin/env bash
# Makes .venv with all that the demo and the tests need, and installs the Debian packages for rendering.
# Safe to run again at any time; it takes no time where nothing is to be done.
#
#   FAILSAFE_VENV    where the environment goes instead of .venv
#   FAILSAFE_NO_APT  set to 1: leave the system's packages alone
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=${FAILSAFE_VENV:-.venv}
stamp=$venv/failsafe-setup.stamp

say() { echo "setup: $*"; }
die() { echo "setup: $*" >&2; exit 1; }
is_root() { [ "$(id -u)" -eq 0 ]; }
apt_allowed() { [ "${FAILSAFE_NO_APT:-0}" != 1 ] && command -v apt-get >/dev/null; }

# A Python that runs and is in range: below 3.13, because ManiSkill pins an mplib that has no wheel for later ones.
in_range() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' >/dev/null 2>&1; }
can_make_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Sets $python, and $incomplete where the only ones found lack the venv module (Debian has it in a package of its own).
python='' incomplete=''
find_python() {
  python='' incomplete=''
  local name
  for name in python3.11 /usr/bin/python3.11 python3 /usr/bin/python3 python3.12 python3.10; do
    command -v "$name" >/dev/null && in_range "$name" || continue
    if can_make_venv "$name"; then python=$name; return; fi
    incomplete=${incomplete:-$name}
  done
}

apt_install() {
  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q \
    --no-install-recommends "$@"
}

make_venv() {
  if in_range "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then return; fi
  find_python
  if [ -z "$python" ]; then
    local packages=(python3 python3-venv)
    if [ -n "$incomplete" ]; then packages=("python$("$incomplete" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"); fi
    if is_root && apt_allowed; then
      say "installing ${packages[*]} ..."
      apt_install "${packages[@]}" >"$log" 2>&1 || { tail -n 5 "$log" >&2; die "apt-get could not install ${packages[*]}."; }
      find_python
    elif command -v apt-get >/dev/null; then
      die "no complete Python 3.10 to 3.12 was found. Run: sudo apt-get update && sudo apt-get install -y ${packages[*]}"
    fi
    [ -n "$python" ] || die "no Python 3.10 to 3.12 with its venv module was found. Install one (3.11 is the best tested) and run this again."
  fi
  say "making $venv with $("$python" --version) ..."
  "$python" -m venv --clear "$venv"
}

# The plan comes as lines "run COMMAND", "paste ALL-COMMANDS" and "say REMARK" (see debian.py).
install_system_packages() {
  [ "${FAILSAFE_NO_APT:-0}" != 1 ] || return 0
  local plan kind text failed=''
  plan=$("$venv/bin/python" -I src/failsafe/diagnostics/debian.py)
  [ -n "$plan" ] || return 0
  if is_root && grep -q '^run ' <<<"$plan"; then
    say "installing system packages for rendering and the browser tests ..."
  fi
  while read -r kind text; do
    case $kind in
      say) say "$text" ;;
      paste) is_root || { say "for rendering and the browser tests, run this line (going on without):"; echo "  $text"; } ;;
      run)
        is_root || continue
        if ! bash -c "$text" >"$log" 2>&1 </dev/null; then
          failed=yes
          say "this did not work: $text"
          tail -n 3 "$log" | sed 's/^/  /'
        fi ;;
    esac
  done <<<"$plan"
  [ -z "$failed" ] || say "some system packages are missing: 'failsafe doctor' says what needs them."
}

# All three suites, where the disk allows. LIBERO is the largest: 0.5 GB of assets to download, 1.6 GB with what it needs.
choose_suites() {
  suites=maniskill,metaworld
  local free
  free=$(df -Pk "$(dirname "$venv")" | awk 'NR == 2 { print int($4 / 1048576) }')
  if [ "$free" -ge 12 ] || [ -d "$venv"/lib/python3*/site-packages/libero ]; then
    suites=$suites,libero
  else
    say "leaving LIBERO out: $free GB are free, 12 are wanted. Later: $venv/bin/python -m pip install -c constraints.txt -e '.[libero]'"
  fi
}

install_python_packages() {
  local key suites
  choose_suites
  # The folder is part of it: an environment that was moved along with its checkout points to the old place.
  key=$(cat pyproject.toml constraints.txt scripts/setup.sh <(pwd; echo "$suites") | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ] && [ -x "$venv/bin/failsafe" ]; then
    say "$venv is up to date"
    return
  fi
  say "installing Python packages into $venv: some minutes the first time; about 2 GB to download with a CPU wheel of torch,"
  say "of which ManiSkill 0.3, Meta-World 0.04, LIBERO 0.5 ..."
  rm -f "$stamp"
  # Compiled here: a package of ManiSkill compiles with a warning, which the tests would take for an error.
  PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip install --quiet --constraint constraints.txt \
    --editable ".[$suites,compact,vlm,servers,ray,dev]" </dev/null >"$log" 2>&1 || {
    tail -n 15 "$log" >&2
    die "pip could not install the Python packages; its last words are above."
  }
  echo "$key" >"$stamp"
  say "$venv is ready"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
make_venv
install_system_packages
install_python_packages
