#!/usr/bin/env bash
# Sets Gatehouse up with one command: it makes .env with new secrets, starts the stack and waits until it answers a call.
# It uses docker-compose.yml when a Docker engine with Compose answers, else (or with --local) plain processes.
# It needs Python from 3.11 to 3.13 and no root, and writes only into this folder. A second run changes nothing.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: ./setup.sh [up] [--local]       bring Gatehouse up: in Docker when there is an engine, else on this machine
       ./setup.sh down                 stop all parts; the data stays
       ./setup.sh status               show the parts; exit code 0 when all run, else 3
       ./setup.sh logs [PART] [-f] [-n N]
                                       show the last lines; PART is gateway, postgres, redis or prometheus
       ./setup.sh secret show|rotate|forget EPOCH --yes
                                       the installation secret in .env, as `gatehouse keys secret` does
  --local   do not use Docker
USAGE
}

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
cd "$ROOT"
export GATEHOUSE_HOME=$ROOT
STATE=.gatehouse
MODE_FILE=$STATE/mode
GATEHOUSE=.venv/bin/gatehouse
# shellcheck source=scripts/find-uv.sh
. "$ROOT/scripts/find-uv.sh"

fail() {
  echo "error: $1" >&2
  exit 1
}

# Runs the part of the setup that is written in Python and needs no packages.
setup_py() {
  PYTHONPATH=$ROOT/guardrails PYTHONDONTWRITEBYTECODE=1 "$PYTHON" -P -m gatehouse.embedded.setup "$@"
}

# Prints the mode in which the stack runs; prints nothing when it does not run.
current_mode() {
  if [[ -s $MODE_FILE ]]; then
    cat "$MODE_FILE"
  elif [[ -x $GATEHOUSE && -e $STATE/supervisord.conf ]]; then
    echo embedded
  fi
}

make_state() {
  if ! mkdir -p "$STATE" 2>/dev/null || [[ ! -w . || ! -w $STATE ]]; then
    fail "$ROOT: this user may not write here. Make the folder writable for this user, then run this again."
  fi
}

# Tells whether Docker can be used. An engine that refuses only this user is an error: another mode would be a surprise.
docker_usable() {
  local said
  command -v docker >/dev/null || return 1
  if said=$(docker info --format '{{.ServerVersion}}' 2>&1) && [[ -n $said ]]; then
    docker compose version >/dev/null 2>&1 && return 0
    echo "Docker has no Compose plug-in; using plain processes of this machine."
    return 1
  fi
  if [[ $said == *"permission denied"* ]]; then
    fail "Docker: this user may not use its socket. Add the user to the group docker, or run ./setup.sh --local."
  fi
  echo "Docker's engine does not answer; using plain processes of this machine."
  return 1
}

choose_mode() {
  local running
  running=$([[ -s $MODE_FILE ]] && cat "$MODE_FILE" || true)
  if [[ $1 == local && $running == docker ]]; then
    fail "mode: Gatehouse runs in Docker. Run ./setup.sh down first, then ./setup.sh --local."
  elif [[ -n $running ]]; then
    MODE=$running
  elif [[ $1 != local ]] && docker_usable; then
    MODE=docker
  else
    MODE=embedded
  fi
}

# ---- Docker ---------------------------------------------------------------------------------------------------------

# Compose prefers a variable of the shell to the same one in .env, but the documentation names .env.
clear_shell() {
  local name value
  while IFS='=' read -r name value; do
    if [[ $name =~ ^[A-Z_]+$ && -n $value ]]; then unset "$name"; fi
  done <.env
}

# Turns Docker's output into one sentence; $1 is the step that failed.
explain_docker() {
  local said port variable
  # Prints the first line that matches.
  said() { grep -iE -m 1 "$1" "$STATE/docker.log"; }
  if said=$(said 'port is already allocated|address already in use'); then
    port=$(grep -oE ':[0-9]+' <<<"$said" | head -n 1 | tr -d :)
    variable=$(grep -E -m 1 "^[A-Z_]*PORT=$port\$" .env | cut -d= -f1 || true)
    fail "Docker: port $port is already taken. Stop that program, or set ${variable:-its variable} to a free port in .env."
  elif said 'permission denied.*docker.*sock' >/dev/null; then
    fail "Docker: this user may not use its socket. Add the user to the group docker, or run ./setup.sh --local."
  elif said 'no space left on device' >/dev/null; then
    fail "disk: Docker has no space left. Free some (docker system prune), then run this again."
  elif said=$(said 'no such host|failed to resolve|dial tcp|i/o timeout|TLS handshake|failed to fetch|connection refused'); then
    fail "network: Docker could not fetch what it needs (${said:0:200}). Check the network, or run ./setup.sh --local."
  fi
  fail "Docker: $1 failed. See $STATE/docker.log, or run ./setup.sh --local to do without Docker."
}

logged() {
  "$@" 2>&1 | tee "$STATE/docker.log"
}

# Runs when `up` ends early, also after Ctrl-C.
undo_docker() {
  echo "stopping the parts that were started" >&2
  docker compose logs --tail 15 2>/dev/null >&2 || true
  docker compose down --remove-orphans >/dev/null 2>&1 || true
  rm -f "$MODE_FILE"
}

up_docker() {
  find_python || exit 1
  setup_py env
  clear_shell
  local before
  before=$(docker compose ps --quiet 2>/dev/null || true)
  if [[ -z $before ]]; then
    setup_py ports
    trap undo_docker EXIT
    trap 'exit 130' INT TERM HUP
  fi
  echo docker >"$MODE_FILE"
  mkdir -p logs
  mkdir -p -m 0700 ledger
  logged docker compose build || explain_docker "the build"
  logged docker compose up --detach --wait || explain_docker "the start"
  setup_py welcome --addresses
  trap - EXIT INT TERM HUP
}

# ---- without Docker -------------------------------------------------------------------------------------------------

install_packages() {
  local unfinished=$STATE/venv.unfinished options=()
  if [[ -d .venv ]] && ! .venv/bin/python -c '' >/dev/null 2>&1; then
    rm -rf .venv
  fi
  if [[ ! -d .venv ]]; then
    local free
    free=$(df -Pm . | awk 'NR == 2 {print $4}')
    ((free >= 3000)) || fail "disk: $free MB are free in $ROOT and the packages need 3000 MB. Free some, then run this again."
    options+=(--python "$PYTHON")
  elif [[ -e $unfinished ]]; then
    # An interrupted installation can leave a package that looks complete.
    options+=(--reinstall)
  fi
  touch "$unfinished"
  # --inexact keeps what a developer installed. grep drops uv's list of packages, which would push the new master key off
  # the screen.
  "$UV" sync --frozen --no-dev --inexact "${options[@]+"${options[@]}"}" 2> >(grep -v '^ [-+~] ' >&2) ||
    fail "packages: uv could not install them. Check the network and the disk (uv's output is above), then run this again."
  rm -f "$unfinished"
}

embedded() {
  [[ -x $GATEHOUSE ]] || fail "packages: $ROOT/.venv is gone. Run ./setup.sh --local to install them again."
  "$GATEHOUSE" "$@"
}

up_embedded() {
  find_uv "$ROOT" || exit 1
  setup_py env
  install_packages
  "$GATEHOUSE" engine install --engine wasm
  "$GATEHOUSE" up
  if ! setup_py welcome; then
    [[ -s $MODE_FILE ]] || "$GATEHOUSE" down
    exit 1
  fi
  echo embedded >"$MODE_FILE"
}

# ---------------------------------------------------------------------------------------------------------------------

up() {
  make_state
  choose_mode "${1:-any}"
  "up_$MODE"
}

down() {
  case $(current_mode) in
    docker) docker compose down --remove-orphans ;;
    embedded) embedded down ;;
    *) echo "Gatehouse is not running." ;;
  esac
  rm -f "$MODE_FILE"
}

status() {
  case $(current_mode) in
    docker)
      docker compose ps
      [[ $(docker compose ps gateway --format '{{.Health}}' 2>/dev/null) == healthy ]] || exit 3
      ;;
    embedded) embedded status ;;
    *)
      echo "Gatehouse is not running. Start it with ./setup.sh."
      exit 3
      ;;
  esac
}

logs() {
  case $(current_mode) in
    docker) exec docker compose logs -n 20 "$@" ;;
    embedded) embedded logs "$@" ;;
    *) fail "logs: Gatehouse is not running. Start it with ./setup.sh." ;;
  esac
}

case ${1:-up} in
  -h | --help | help) usage ;;
  up | --local)
    [[ ${1:-} != up ]] || shift
    case "$#:${1:-}" in
      0:) up ;;
      1:--local) up local ;;
      *)
        usage >&2
        exit 2
        ;;
    esac
    ;;
  secret)
    shift
    find_python || exit 1
    setup_py secret "$@"
    ;;
  down | status | logs)
    command=$1
    shift
    "$command" "$@"
    ;;
  *)
    usage >&2
    exit 2
    ;;
esac
