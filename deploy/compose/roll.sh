#!/usr/bin/env bash
# Replace every replica by one of the current image, one at a time: a new one is ready before an old one drains.
# `docker compose up` alone would stop all of them at once.
set -euo pipefail
cd "$(dirname "$0")/../.."

replicas() { docker compose ps --quiet service; }

old=$(replicas)
[ -n "$old" ] || { echo "error: no replica is running; make compose-up starts some" >&2; exit 1; }
count=$(wc -w <<<"$old")
for replica in $old; do
  docker compose up --detach --wait --no-deps --no-recreate --scale "service=$((count + 1))" service
  # SIGTERM: it stops being ready, answers the requests that it has, and exits.
  docker stop --time 30 "$replica" >/dev/null
  docker rm "$replica" >/dev/null
done
echo "$count replicas replaced"
