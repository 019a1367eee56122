# shellcheck shell=bash
# Sourced by setup.sh and test.sh: find_uv sets PYTHON (an interpreter from 3.11 to 3.13) and UV (an executable), and
# installs uv by pip into .gatehouse/uv when the machine has none. It needs no root and writes nowhere else.
# On failure it prints one sentence and returns 1. Call it with the project's folder: find_uv DIR.

find_python() {
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3 python; do
    # Python itself says where it is, because the program on the PATH may be a version manager's shim.
    if PYTHON=$("$candidate" -c 'import sys; print(sys.executable); sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null); then
      return 0
    fi
  done
  echo "error: python: no interpreter from 3.11 to 3.13 is on the PATH. Install one (Debian: apt install python3), then run this again." >&2
  return 1
}

find_uv() {
  local home folder log pip_python
  home=$(cd "$1" && pwd)
  folder=$home/.gatehouse/uv
  find_python || return 1
  # uv 0.10 reads a cooldown given as a span of days (pyproject.toml), and lock files with revisions.
  if UV=$(command -v uv) && "$PYTHON" -c 'import re, sys; sys.exit(tuple(map(int, re.findall(r"\d+", sys.argv[1])[:2])) < (0, 10))' "$("$UV" --version 2>/dev/null || echo uv 0.0)"; then
    return 0
  fi
  UV=$folder/bin/uv
  "$UV" --version >/dev/null 2>&1 && return 0

  echo "installing uv into .gatehouse/uv"
  rm -rf "$folder"
  mkdir -p "$folder"
  log=$folder.log
  pip_python=$PYTHON
  if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    # Debian's python3 comes without pip; with python3-venv a throw-away environment has one.
    pip_python=$folder/venv/bin/python
    if ! "$PYTHON" -m venv "$folder/venv" >/dev/null 2>&1; then
      rm -rf "$folder"
      echo "error: uv: it is not installed, and $PYTHON has neither pip nor venv to install it with. Install uv or the package python3-venv, then run this again." >&2
      return 1
    fi
  fi
  if ! "$pip_python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target "$folder" \
    -r "$home/scripts/uv-requirements.txt" >"$log" 2>&1; then
    rm -rf "$folder"
    echo "error: uv: pip could not install it ($(tail -n 1 "$log")). See $log; check the network and pip's index, then run this again." >&2
    return 1
  fi
  rm -rf "$folder/venv" "$log"
}
