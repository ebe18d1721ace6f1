"""Every check of the documents complains of a mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from tests.docs.test_collection import link_complaints, opening_complaints, security_complaints
from tests.docs.test_commands import command_complaints
from tests.docs.test_interface import metric_complaints
from tests.docs.test_settings import default_complaints, setting_complaints
from tests.documents import read

Check = Callable[[str], Iterable[str]]

#: Text in which the one mistake stands, or a page and what is replaced in it by what.
MISTAKES: dict[Check, list[str | tuple[str, str, str]]] = {
    link_complaints: [
        *(f"# Here\n\n[x]({target})\n" for target in ("docs/gone.md", "#gone", "docs/index.md#gone")),
        "# Here\n\n![x](docs/figures/gone.svg)\n",
    ],
    opening_complaints: [
        f"# 1. Title\n\n{opening}\n\n## Context\n"
        for opening in ("", "No sentence", "One. Two.", "One\n\nand two.", "* An item.")
    ],
    security_complaints: [
        f"| sends | what bounds it | shown by |\n|---|---|---|\n| a bomb | a limit | {test} |\n"
        for test in ("`max_pixels`", "")
    ],
    command_complaints: [
        "```sh\nmake sreve\n```\n",
        "```sh\nmake serve PROT=1\n```\n",
        '```sh\nmake serve ARGS="--decode-fast"\n```\n',
        "```sh\n.venv/bin/mobilenet-service clasify x.jpg\n```\n",
        "```\nmobilenet-service models add x.pth \\\n    --label y.txt\n```\n",
        "Run `mobilenet-service models fetch`.\n",
    ],
    metric_complaints: [
        ("docs/operations.md", "`endpoint`, `code`", "`endpoint`"),
        ("docs/operations.md", "`mobilenet_ready` | gauge", "`mobilenet_ready` | counter"),
        ("docs/operations.md", "`mobilenet_in_flight` |", "`in_flight` |"),
        ("docs/operations.md", "mobilenet_batch_size_sum[", "mobilenet_batch_sizes_sum["),
    ],
    setting_complaints: [
        ("docs/configuration.md", "`--port`", "`--prot`"),
        ("docs/configuration.md", "`8000`", "`80`"),
        ("docs/configuration.md", "0 to 65535", "1 to 65535"),
        ("docs/configuration.md", "`bf16`, `fp16`", "`bf16`"),
        ("docs/configuration.md", "MOBILENET_MAX_PIXELS", "MOBILENET_MOST_PIXELS"),
    ],
    default_complaints: ["after `drain_timeout_ms` (30 s)", "at most `max_images` (65)"],
}


@pytest.mark.parametrize(("check", "mistake"), [(check, each) for check in MISTAKES for each in MISTAKES[check]])
def test_a_mistake_is_noticed(check: Check, mistake: str | tuple[str, str, str]) -> None:
    if isinstance(mistake, str):
        assert len(list(check(mistake))) == 1
    else:
        page, old, new = mistake
        assert old in read(page)
        assert list(check(read(page).replace(old, new))) != []


def test_an_opening_may_hold_a_number_and_two_lines() -> None:
    assert list(opening_complaints("# 1. Title\n\nWe do it at 1.5 times\nthe cost.\n\n## Context\n")) == []
