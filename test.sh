#!/usr/bin/env bash
# Runs every check of the project on a bare machine with Python 3.11 to 3.13: it installs what it needs into the checkout
# with uv, then runs lint, types, and pytest once. See ./test.sh --help.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/find-uv.sh

usage() {
  cat <<'TEXT'
usage: ./test.sh [all|lint|unit|stack|console|compose|long] [pytest options]
       ./test.sh mutation [module...]

  all      everything below except `long` and `mutation` (the default); compose only when a Docker engine answers
  lint     ruff, mypy, import-linter, shellcheck, and prisma-engine's types and tests
  unit     tests/unit: no servers
  stack    tests/stack: real Postgres, Redis and proxy, from wheels
  console  tests/console: the same, and a real browser when `chromium` is installed
  compose  tests/compose: builds and runs docker-compose.yml
  long     tests with many thousand cases, for about an hour; CI does not run them
  mutation changes the modules that decide, one place at a time, and checks that a unit test fails; CI does not run it
TEXT
}

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

# step TITLE COMMAND... prints a heading, the command's output, and the seconds it took. The first failure ends the run.
step() {
  local title=$1 begin=$SECONDS
  shift
  echo "${bold}==> $title${plain}"
  "$@" || { echo "error: $title: failed after $((SECONDS - begin)) s; the reason is above." >&2; exit 1; }
  echo "    $((SECONDS - begin)) s"
}

have_docker() { docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

install() {
  # The tests start a hundred gateways. With this variable each would compile LiteLLM again, which takes seconds.
  unset PYTHONDONTWRITEBYTECODE
  # An existing .venv keeps its interpreter.
  [ -x .venv/bin/python ] || export UV_PYTHON=$PYTHON
  UV_PYTHON_DOWNLOADS=never "$UV" sync --frozen
}

lint_shell() { .venv/bin/shellcheck -x setup.sh test.sh .ci/run scripts/*.sh prisma-engine/query-engine; }

check_engine() (
  # This is the Node that the gateway uses. `node --run` replaces npm, because npm's script in the wheel does not start.
  node=$(.venv/bin/python -c 'from gatehouse.storage.node import find_node; print(find_node().executable)') || exit
  PATH=$(dirname "$node"):$PATH
  cd prisma-engine && node --run typecheck && node --run test
)

lint() {
  step "ruff check" .venv/bin/ruff check .
  step "ruff format" .venv/bin/ruff format --check .
  step "mypy" .venv/bin/mypy
  step "imports (import-linter)" .venv/bin/lint-imports --no-cache
  step "shellcheck" lint_shell
  step "prisma-engine: types and tests" check_engine
}

what=${1:-all}
[ $# -gt 0 ] && shift
case $what in
  all)
    tests=(tests/stack tests/console)
    if have_docker; then tests=(tests/compose "${tests[@]}"); else echo "No Docker engine with Compose answers here: the run leaves tests/compose out."; fi
    ;;
  lint) tests=() ;;
  unit | stack | console) tests=("tests/$what") ;;
  long)
    tests=(tests/stack tests/unit)
    set -- -m long "$@"
    ;;
  compose)
    have_docker || { echo "error: docker: no engine with Compose v2 answers. Start it, then run this again." >&2; exit 1; }
    tests=(tests/compose)
    ;;
  mutation) tests=() ;;
  -h | --help) usage; exit ;;
  *) echo "error: $what: there is no such part. See ./test.sh --help." >&2; exit 2 ;;
esac

find_uv .
step "Python packages (uv sync)" install
if [ "$what" = mutation ]; then
  echo "${bold}==> mutation testing${plain}"
  exec "$UV" run --frozen --with-requirements scripts/mutation-requirements.txt python scripts/mutation.py "$@"
fi
step "Prisma's engine" .venv/bin/gatehouse engine install --engine wasm --dev
case $what in all | lint) lint ;; esac
options=("$@") ran=false failed=0

# run_tests WORKERS FOLDER...: one pytest run. Where -k or -m selects nothing in it (code 5), another run may have some.
run_tests() {
  local workers=$1 code=0
  shift
  echo "${bold}==> pytest $*${plain}"
  .venv/bin/python -m pytest -n "$workers" --no-loadscope-reorder "$@" "${options[@]}" || code=$?
  case $code in 0) ran=true ;; 5) ;; *) failed=$code ;; esac
}

# The unit tests have a run of their own, because the gateways of the other tests live to the end of theirs. These have
# three workers on every machine: each may run three gateways, and waits for them a part of its time.
case $what in
  all)
    run_tests 2 tests/unit
    run_tests 3 "${tests[@]}"
    ;;
  unit) run_tests 2 "${tests[@]}" ;;
  lint) ran=true ;;
  *) run_tests 3 "${tests[@]}" ;;
esac
if [ "$failed" -eq 0 ] && ! $ran; then failed=5; fi
(exit "$failed")
