"""Downloads a published file from its URL to disk and verifies its hash."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from service import __version__
from service.errors import PullError
from service.model.artifact import WeightsSource
from service.store.progress import Progress

#: Seconds without a single byte before a connection counts as dead.
TIMEOUT_S = 30.0
_CHUNK = 1 << 16


def download(source: WeightsSource, destination: Path, progress: Progress) -> None:
    """Fetch ``source.url`` into ``destination``, a path that does not exist yet.

    Raises PullError for a failed, short or wrong download; OSErrors from writing propagate.
    """
    url = source.url or ""
    if urlsplit(url).scheme not in ("http", "https"):
        raise PullError(f"the manifest's source url is not http or https: {url or 'none given'}")
    if source.sha256 is None and source.sha256_prefix is None:
        raise PullError(f"the manifest has no sha256 for {url}; a file that cannot be checked is not fetched")
    step = f"downloading {url.rsplit('/', 1)[-1]}"
    request = urllib.request.Request(url, headers={"User-Agent": f"mobilenet-service/{__version__}"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            digest = _stream(response, destination, lambda done, total: progress(step, done, total))
    except urllib.error.HTTPError as error:
        with error:
            raise PullError(f"{url}: the server answered {error.code} {error.reason}; is the url right?") from None
    except urllib.error.URLError as error:
        raise PullError(f"{url} cannot be reached ({_cause(error)}); is there a network?") from None
    except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise PullError(f"{url}: the connection broke ({_cause(error)}); run the command again") from None
    check_digest(source, digest, url)


def check_digest(source: WeightsSource, digest: str, what: str) -> None:
    """``digest`` is the hex sha256 that ``source`` names, or starts with the published digits; else PullError."""
    expected = source.sha256 or source.sha256_prefix or ""
    if not expected or not digest.startswith(expected.lower()):
        raise PullError(
            f"{what} is not the file that the manifest describes (its sha256 starts with {digest[:8]}, "
            f"expected {expected[:8]}); nothing was stored"
        )


def _stream(response: http.client.HTTPResponse, destination: Path, report: Callable[[int, int | None], None]) -> str:
    """Copy the body to ``destination``; returns its sha256 in hex."""
    total = response.length  # None if the server does not say
    sha256 = hashlib.sha256()
    done = 0
    report(done, total)
    with destination.open("xb") as file:
        while chunk := _read(response):
            file.write(chunk)
            sha256.update(chunk)
            done += len(chunk)
            report(done, total)
    if total is not None and done < total:
        # http.client does not report this when a body is read in chunks.
        raise http.client.IncompleteRead(b"", total - done)
    return sha256.hexdigest()


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except OSError as error:  # including TLS errors; callers take other OSErrors for failures to write
        raise ConnectionError(_cause(error)) from None


def _cause(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"{error.expected} bytes are missing"
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason or type(error).__name__)
