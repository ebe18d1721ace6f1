"""Tries a version beside the present one, by the same gate as in one process, before any process serves it.

    supervisor ─► trial, in a process of its own: two models, one image at a time ─► its verdict, as a line of JSON

Whatever a version does to the process that loads it, it does to that one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.config import Settings
from service.errors import OperatorError
from service.model.artifact import load as load_artifact
from service.processes.child_process import BOOT
from service.serving import gate
from service.serving.gate import Figures, Refused
from service.serving.local import for_one_photo, served_locally

_MODULE = "service.processes.trial"
#: Seconds; a verdict takes a few.
_PATIENCE_S = 100.0
#: Requests go first.
_NICE = 10


async def try_version(new: Settings, old: Settings, store: Path, accept: Collection[str]) -> Figures:
    """Compare the version that ``new`` names with that of ``old``, on the photos of ``store``. Raises Refused."""
    question = {"new": _dump(new), "old": _dump(old), "store": str(store), "accept": list(accept)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", BOOT.format(module=_MODULE), "mobilenet-service", "trial", *sys.path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        process_group=0,
    )
    try:
        async with asyncio.timeout(_PATIENCE_S):
            answer, _ = await process.communicate(json.dumps(question).encode())
        verdict: dict[str, Any] = json.loads(answer)
    except TimeoutError:
        raise Refused("failed", f"{new.model}/{new.version} was not tried within {_PATIENCE_S:.0f} s") from None
    except ValueError:
        sentence = f"the process that tried {new.model}/{new.version} ended with status {process.returncode}"
        raise Refused("failed", sentence) from None
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    figures = Figures(**verdict["figures"])
    if verdict["reason"]:
        raise Refused(verdict["reason"], verdict["sentence"], figures)
    return figures


def main() -> None:
    question = json.loads(sys.stdin.buffer.read())
    os.nice(_NICE)
    new, old = (Settings(**question[which]) for which in ("new", "old"))
    try:
        figures, reason, sentence = asyncio.run(_compare(new, old, Path(question["store"]), question["accept"])), "", ""
    except Refused as error:
        figures, reason, sentence = error.figures, error.reason, str(error)
    sys.stdout.write(json.dumps({"reason": reason, "sentence": sentence, "figures": asdict(figures)}))
    sys.stdout.flush()
    os._exit(0)  # without waiting for threads that may hang


async def _compare(new: Settings, old: Settings, store: Path, accept: Collection[str]) -> Figures:
    try:
        candidate, current = (load_artifact(each.model_store, each.model, each.version) for each in (new, old))
        gate.check_memory(candidate, 1)
        async with (
            served_locally(old, current, _say, wide=False) as present,
            served_locally(new, candidate, _say, wide=False) as tried,
        ):
            return await gate.compare(tried, present, gate.parity_photos(store, new.model), accept)
    except Refused:
        raise
    except OperatorError as error:
        raise gate.load_refusal(error) from None


def _dump(settings: Settings) -> dict[str, Any]:
    return for_one_photo(settings).model_copy(update={"device": settings.engine_devices[0]}).model_dump(mode="json")


def _say(reason: str) -> None:
    sys.stderr.write(f"{reason}\n")
