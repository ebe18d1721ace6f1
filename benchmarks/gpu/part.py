"""What every part shares: its options, as JSON on its command line; photos and artifact; rows and one decision."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import photos
from benchmarks.report import table
from service.config import Settings
from service.model import artifact
from service.model.artifact import Artifact

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

PROGRAM = "benchmarks.gpu.sampler"
PHOTOS = 64

#: Begins a line that is not printed where it comes, but at the end of the report.
DECIDES = "decides: "


@dataclass(frozen=True)
class Options:
    device: str
    seconds: float = 60.0  # for the whole part
    images: str | None = None  # a folder of JPEGs
    program: str = PROGRAM  # the module that is the service

    @property
    def gpu(self) -> bool:
        return self.device != "cpu"

    @property
    def smoke(self) -> bool:
        """Use small sizes: this run only shows whether the benchmark works."""
        return not self.gpu and self.program == PROGRAM

    @property
    def precision(self) -> str:
        return "fp16" if self.gpu else "fp32"

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self))


def run(main: Callable[[Options, float], None]) -> None:
    """Call ``main(options, deadline)``. SIGTERM raises KeyboardInterrupt there, so that servers are stopped."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A program that was killed cannot end its parts itself.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    options = Options(**json.loads(sys.argv[1]))
    main(options, started + options.seconds)


def load_artifact() -> Artifact:
    settings = Settings()
    return artifact.load(settings.model_store, settings.model, settings.version)


def jpegs(options: Options) -> list[bytes]:
    return photos.requested(None if options.images is None else Path(options.images), PHOTOS)


def say(text: str = "") -> None:
    """Print a piece of the report at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say_row(*cells: str) -> None:
    """One row of a table whose rows come one by one."""
    say(f"| {' | '.join(cells)} |")


def say_head(*columns: str) -> None:
    """The first lines of such a table; an empty ``say`` ends it."""
    say_row(*columns)
    say("|" + "---|" * len(columns))


def say_table(head: list[str], rows: list[list[str]]) -> None:
    say(table(head, rows))


def decide(text: str) -> None:
    """What the part has shown; a later call replaces an earlier one."""
    say(DECIDES + text)
