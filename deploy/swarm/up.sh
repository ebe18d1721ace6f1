#!/usr/bin/env bash
# Deploy or update the stack on this Swarm with SCALE replicas (2), and wait. Argument: its name (mobilenet).
# Every node must be able to pull SERVICE_IMAGE; on a Swarm of one node a local image is enough.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:-mobilenet}
[ "$(docker info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null)" = active ] \
  || { echo "error: this engine is not in a Swarm; run: docker swarm init" >&2; exit 1; }
docker compose --file docker-compose.yml --file deploy/swarm/stack.yml config --format json \
  | python3 deploy/swarm/convert.py \
  | docker stack deploy --compose-file - --prune --quiet --detach=false --resolve-image never "$name"
