"""What class maps cost: ``/explain`` and ``/classify`` on the same server, in turns.

``python -m benchmarks.explain [SIZE]``, where SIZE is one of 224x224, 500x375, 1280x960 and 4000x3000.
"""

from __future__ import annotations

import sys
from statistics import median

import uvloop

from benchmarks import load, photos, turns
from benchmarks.processes import Server, environment
from benchmarks.report import bullets, ratio, spread, table

CLASSIFY = "/classify"
FORMS = {
    CLASSIFY: ("/classify", ""),
    "/explain": ("/explain", ""),
    "/explain?class=284": ("/explain?class=284", ""),
    "/explain?embedding=true": ("/explain?embedding=true", ""),
    "/explain as image/png": ("/explain", "Accept: image/png\r\n"),
}


def main() -> None:
    parser = turns.parser(__doc__, rounds=8, seconds=2.0)
    parser.add_argument("size", nargs="?", choices=photos.SIZES, default=photos.STANDARD)
    given = parser.parse_args()
    bodies = photos.collection(given.size, 8)
    with Server() as server:
        targets = {
            name: turns.Target(server.url, load.requests(server.url, path, bodies, headers=headers), given.concurrency)
            for name, (path, headers) in FORMS.items()
        }
        found = uvloop.run(turns.measure(targets, rounds=given.rounds, seconds=given.seconds, alone=given.seconds / 2))
    rows = [
        [
            name,
            spread(rates),
            f"{1 / ratio(rates, found[CLASSIFY][0]):.3f}",
            f"{median(latencies) * 1e3:.2f} ms",
            f"{ratio(latencies, found[CLASSIFY][1]):.3f}",
        ]
        for name, (rates, latencies) in found.items()
    ]
    head = ["", f"requests/s at {given.concurrency}", "time over /classify", "p50 of one at a time", "over /classify"]
    sys.stdout.write("\n".join([*bullets(environment(["openvino"])), "", table(head, rows), ""]))


if __name__ == "__main__":
    main()
