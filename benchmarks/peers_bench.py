"""``make bench-peers``: other servers of the same model compared with ours, one at a time, in interleaved rounds.

For each peer: set it up, start it, compare its answers with ours, measure our server and the peer in rounds at 1, 8 and
32 connections, stop it. Our server runs throughout and is idle while a peer is measured. Writes ``peers.{md,json,svg}``
to ``benchmarks/results``.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import load, photos
from benchmarks.bench import PACKAGES, available
from benchmarks.load import Sample
from benchmarks.peers import environments, report
from benchmarks.peers.catalogue import PEERS, Peer, Prediction, raw, read_ours
from benchmarks.peers.running import Running
from benchmarks.processes import Server, environment
from benchmarks.report import RESULTS, say

CONCURRENCIES = (1, 8, 32)
START_TIMEOUT = 180.0
COMPARED = 8  # photos whose answers are compared
#: Largest difference of a probability in fp32: decoders, resizers and the order of sums differ in the last bits.
TOLERANCE = 0.01


class Unusable(Exception):
    """A peer cannot be measured; the message is the reason."""


async def compare(chosen: list[Peer], precisions: list[str], arguments: argparse.Namespace) -> str:
    """Write the report after each peer, so that an interruption loses only the current one; returns it."""
    text = ""
    bodies = photos.requested(arguments.images, 32)
    plan = {name: getattr(arguments, name) for name in ("rounds", "seconds", "lead")}
    figures: dict[str, Any] = {"environment": environment(PACKAGES), **plan, "precisions": {}}
    for precision in precisions:
        rows = figures["precisions"][precision] = {}
        with Server("--precision", precision) as ours:
            for peer in chosen:
                if precision in peer.precisions():
                    rows[peer.name] = {"title": peer.title, "version": environments.version(peer)}
                    try:
                        rows[peer.name] |= await measure(ours, peer, precision, bodies, **plan)
                    except Unusable as reason:
                        say(f"{peer.name}: {reason}")
                        rows[peer.name]["reason"] = str(reason)
                    text = report.write(figures, arguments.out)
    return text


async def measure(
    ours: Server, peer: Peer, precision: str, bodies: list[bytes], rounds: int, seconds: float, lead: float
) -> dict[str, Any]:
    say(f"{precision}: {peer.title}")
    try:
        environments.prepare(peer)
    except subprocess.CalledProcessError as error:
        raise Unusable(f"could not be installed ({error})") from None
    our_requests = [raw("/classify")(body) for body in bodies]
    requests = [peer.request(body) for body in bodies]
    running = Running(peer, precision)
    try:
        start = await until_ready(running, requests[0])
        for index in range(COMPARED):
            expected = read_ours((await load.ask(ours.url, our_requests[index])).body)
            status, _, body = await load.ask(running.url, requests[index])
            if status != 200:
                raise Unusable(f"answered a photo with status {status}")
            try:
                answer = peer.read(body)
            except (LookupError, TypeError, ValueError):
                raise Unusable(f"answered a photo with {body[:200]!r}") from None
            if not agrees(answer, expected, precision):
                raise Unusable(f"answers {answer[:2]}, ours answers {expected[:2]}")
        targets = {"ours": (ours.url, our_requests), "peer": (running.url, requests)}
        samples = {name: defaultdict[int, list[Sample]](list) for name in targets}
        for url, prepared in targets.values():
            await load.closed_loop(url, prepared, concurrency=8, seconds=seconds, lead=lead)
        for turn in range(rounds):
            say(f"  round {turn + 1} of {rounds}")
            for name, (url, prepared) in targets.items():
                for at_once in CONCURRENCIES:
                    sample = await load.closed_loop(url, prepared, concurrency=at_once, seconds=seconds, lead=lead)
                    samples[name][at_once].append(sample)
        if running.has_ended():
            raise Unusable(f"ended under load; end of its log: {running.last_words()}")
        figures = {"start": start, **running.memory()}
        figures |= {"our_start": ours.start_seconds, "our_memory": ours.memory()}
    finally:
        killed = running.stop()
        if killed:
            say(f"  {killed} of its processes had to be killed")
    by_name = {name: {at_once: summary(taken) for at_once, taken in by.items()} for name, by in samples.items()}
    return figures | by_name | {"killed": killed}


async def until_ready(running: Running, request: bytes) -> float:
    """Seconds from the start of the process to its first answer with status 200."""
    deadline = time.perf_counter() + START_TIMEOUT
    while time.perf_counter() < deadline:
        if running.has_ended():
            raise Unusable(f"ended while starting; end of its log: {running.last_words()}")
        # A server may accept a request before its model is loaded and never answer it, so ask again.
        if (await load.ask(running.url, request, patience=10)).status == 200:
            return time.perf_counter() - running.started
        await asyncio.sleep(0.1)
    raise Unusable(f"did not answer within {START_TIMEOUT:.0f} s; end of its log: {running.last_words()}")


def agrees(answer: list[Prediction], expected: list[Prediction], precision: str) -> bool:
    """In fp32: the same five probabilities and the same best class. Otherwise: the best class is among our five."""
    if precision != "fp32":
        return answer[0][0] in [label for label, _ in expected]
    close = all(
        math.isclose(score, wanted, abs_tol=TOLERANCE) for (_, score), (_, wanted) in zip(answer, expected, strict=True)
    )
    return close and answer[0][0] == expected[0][0]


def summary(samples: list[Sample]) -> dict[str, Any]:
    """Lists hold one figure per round; p50 and p99 are None if nothing was answered."""
    merged = load.merged(samples)
    answers = merged.statuses[200]
    return {
        "rate": [sample.rate for sample in samples],
        "p50": [sample.percentile(50) if sample.latencies else None for sample in samples],
        "p99": merged.percentile(99) if answers else None,
        "statuses": dict(merged.statuses),
        "answers": answers,
        "errors": sum(merged.statuses.values()) - answers,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, of: %(default)s")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each measurement in a round")
    parser.add_argument("--lead", type=float, default=1.0, help="seconds at full concurrency before each measurement")
    parser.add_argument("--precision", default="fp32", help="comma-separated: fp32, bf16, int8")
    parser.add_argument("--images", type=Path, help="folder of JPEGs to send instead of synthetic ones of 500×375")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for report, plot and raw figures")
    parser.add_argument("--setup", action="store_true", help="only install the peers (each into .cache/peers/<peer>)")
    arguments = parser.parse_args()
    if unknown := set(arguments.peers.split(",")) - PEERS.keys():
        parser.error(f"unknown peers: {', '.join(sorted(unknown))}")
    chosen = [PEERS[name] for name in arguments.peers.split(",")]
    if arguments.setup:
        for peer in chosen:
            environments.prepare(peer)
        return
    precisions = arguments.precision.split(",")
    if missing := set(precisions) - set(available()):
        parser.error(f"cannot be served here: {', '.join(sorted(missing))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped, as after Ctrl+C
    sys.stdout.write(uvloop.run(compare(chosen, precisions, arguments)))


if __name__ == "__main__":
    main()
