#!/usr/bin/env bash
# Make MODEL (name/version) the stable version of every replica, or its canary (CANARY, percent) or shadow (SHADOW, a
# fraction), one replica after the other. Arguments go to `mobilenet-service models promote`.
#
# Each replica loads the version beside the others and compares it with its stable one. The first that refuses ends
# this, and all go back. Replicas cannot write to the store: aliases.json is written here, once all have accepted.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

replicas() { docker compose ps --format '{{.Name}}' service; }
promote() { docker exec "$1" mobilenet-service models promote --no-write "${options[@]}"; }
# Which versions the file names and a replica serves, without what changes by itself.
state() { docker exec "$1" mobilenet-service models status --json | grep -E '"(stable|version|percent|sample)":' || true; }
content() { cat "$file" 2>/dev/null || true; }

go_back() {
  local index replica ends
  for index in "${!asked[@]}"; do
    replica=${asked[index]}
    ends=$((SECONDS + 120))
    # SIGHUP: it reads the file again. Not by docker kill, after which Docker would not restart it any more.
    docker exec "$replica" sh -c 'kill -HUP 1' || { say "$replica could not be told to go back"; continue; }
    until [ "$(state "$replica")" = "${states[index]}" ]; do
      [ "$SECONDS" -lt "$ends" ] || { say "$replica did not go back; its log says why"; continue 2; }
      sleep 1
    done
    say "$replica is as it was"
  done
}

[ -n "${MODEL:-}" ] || fail "name a version: make compose-promote MODEL=mobilenet_v2/2"
options=("$MODEL")
[ -z "${CANARY:-}" ] || options+=(--canary "$CANARY")
[ -z "${SHADOW:-}" ] || options+=(--shadow "$SHADOW")
options+=("$@")

all=$(replicas)
[ -n "$all" ] || fail "no replica is running; make compose-up starts some"
first=${all%%$'\n'*}
path=$(docker exec "$first" printenv MOBILENET_MODEL_STORE)
store=$(docker inspect --format "{{range .Mounts}}{{if eq .Destination \"$path\"}}{{.Source}}{{end}}{{end}}" "$first")
[ -n "$store" ] || fail "replicas serve the image's own store; put MOBILENET_MODEL_STORE=/mnt/model_store into .env, then make compose-up"
[ -w "$store" ] || fail "$store cannot be written"
file=$store/aliases.json
before=$(content)

asked=() states=()
trap go_back EXIT
for replica in $all; do
  say "$replica"
  states+=("$(state "$replica")")
  asked+=("$replica")
  desired=$(promote "$replica") || fail "$replica does not serve $MODEL, so none does"
done
[ "$(content)" = "$before" ] || fail "$file has been changed by somebody else meanwhile"
new=$(mktemp "$store/.tmp-XXXXXX")
printf '%s\n' "$desired" >"$new"
chmod a+r "$new"
mv "$new" "$file"
trap - EXIT

# One that has started meanwhile read the file as it was.
for replica in $(replicas); do
  answer=$(promote "$replica" 2>&1) || fail "$replica: $answer"
done
echo "$(wc -w <<<"$all") replicas serve what $file says"
