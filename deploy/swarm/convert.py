"""Convert the output of `docker compose config --format json` for `docker stack deploy`, from stdin to stdout.

The two formats are almost the same. Keys that a Swarm does not know, or decides by itself, are removed.
"""

import json
import sys

stack = json.load(sys.stdin)
del stack["name"]
for service in stack["services"].values():
    for key in [key for key, value in service.items() if value is None]:
        del service[key]
    for key in ("build", "depends_on", "expose", "restart", "security_opt"):
        service.pop(key, None)
    # Nodes have no folder of this machine: tasks serve the image's store.
    service["volumes"] = [volume for volume in service.get("volumes", ()) if volume["type"] != "bind"]
    for port in service.get("ports", ()):
        port["published"] = int(port["published"])
        port.pop("host_ip", None)
    limits = service.get("deploy", {}).get("resources", {})
    for share in limits.values():
        if "cpus" in share:
            share["cpus"] = str(share["cpus"])
json.dump(stack, sys.stdout)
