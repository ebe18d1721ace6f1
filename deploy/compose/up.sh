#!/usr/bin/env bash
# Start the stack with SCALE replicas (2), wait until it is ready, print its address. Arguments go to compose's up.
#
# Images are taken from this machine if they are there, else pulled. If the balancer's image cannot be pulled, any local
# tag of it is used. Weights are copied from the host's model_store if they are there, else downloaded during the build.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

# Like compose: the environment, then .env, then the default.
setting() {
  local line
  if [ -n "${!1:-}" ]; then printf '%s' "${!1}"; return; fi
  line=$(grep -E "^$1=" .env 2>/dev/null | tail -n 1) || true
  line=${line#*=}
  printf '%s' "${line:-$2}"
}

have() { docker image inspect "$1" >/dev/null 2>&1; }
obtain() { have "$1" || { say "pulling $1 …"; docker pull --quiet "$1" >/dev/null 2>&1; }; }

command -v docker >/dev/null || fail "docker is not installed"
docker version >/dev/null 2>&1 || fail "no Docker engine answers; is it running, and may you use it?"
docker compose version >/dev/null 2>&1 || fail "docker compose (version 2) is not installed"

base=$(setting BASE_IMAGE python:3.11-slim-bookworm)
obtain "$base" || fail "$base is not here and cannot be pulled; name a Python 3.11 image with BASE_IMAGE=…"

balancer=$(setting BALANCER_IMAGE haproxy:3.2)
if ! obtain "$balancer"; then
  local_one=$(docker image ls --format '{{.Repository}}:{{.Tag}}' haproxy | head -n 1)
  [ -n "$local_one" ] || fail "$balancer is not here and cannot be pulled; name an HAProxy image (2.6 or newer) with BALANCER_IMAGE=…"
  say "$balancer cannot be pulled; taking $local_one"
  export BALANCER_IMAGE=$local_one
fi

files=(-f docker-compose.yml)
if [ -f model_store/mobilenet_v2/1/weights.safetensors ]; then
  files+=(-f deploy/compose/prepared-artifact.yml)
fi

export SCALE
SCALE=$(setting SCALE 2)
docker compose "${files[@]}" up --detach --build --wait --scale "service=$SCALE" "$@"

address=$(docker compose port balancer 8000)
cat <<EOF

$SCALE replicas are ready behind http://$address

  curl --data-binary @photo.jpg http://$address/classify
  make compose-up SCALE=4     more or fewer replicas
  make compose-roll           replace them one by one after a change
  make compose-down           stop
EOF
