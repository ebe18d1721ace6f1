"""Every error that crosses a module boundary, and the HTTP status it becomes.

    ServiceError                      a request failed; carries HTTP status, title and metric reason
    ├── BadRequest               400  malformed request, empty body, no image in a form
    ├── Unauthorized             401  API key missing or wrong
    ├── UnknownModel             404  no model of this name and version is served
    ├── OtherEmbedding           412  ``Embedding-Id`` is not that of the vectors that would be answered
    ├── BodyTooLarge             413  more bytes than ``max_body_bytes``
    ├── ImageTooLarge            413  more pixels than ``max_pixels``, judged from the header
    ├── UnsupportedFormat        415  not JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF or HEIC
    ├── UnsupportedCoding        415  Content-Encoding other than gzip or deflate
    ├── BadImage                 422  truncated or corrupt image
    ├── InvalidParameter         422  a query parameter or header out of range
    ├── HeadersTooLarge          431  request header block over its limit
    ├── Overloaded               503  no room, or no time before the deadline; carries ``retry_after`` seconds
    │   └── TooManyRequests      429  the client already has its share in flight
    ├── NotReady                 503  starting, or the model cannot infer
    ├── Draining                 503  shutting down
    ├── DeadlineExceeded         504  the request's own deadline passed
    └── InferenceFailed          500  the runtime failed on this item

    OperatorError                     the process cannot do what its operator asked; never sent over HTTP
    ├── ArtifactError                 manifest, labels or weights missing, corrupt or inconsistent
    ├── PullError                     a download failed or did not match its hash
    └── MissingExtra                  an optional dependency is not installed; names the extra

    DeviceLost                        the device is gone for good: readiness off, process ends

``detail`` is shown to clients and never contains a path, a traceback or an object's repr.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import ClassVar


class ServiceError(Exception):
    """A request (or one item of it) failed. ``detail`` is safe to show to the client."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    reason: ClassVar[str] = "internal"  # label of the metrics

    def __init_subclass__(cls, status: int, title: str, reason: str) -> None:
        cls.status, cls.title, cls.reason = status, title, reason

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class BadRequest(ServiceError, status=400, title="Bad request", reason="bad_request"): ...


class Unauthorized(ServiceError, status=401, title="Unauthorized", reason="unauthorized"): ...


class UnknownModel(ServiceError, status=404, title="Unknown model", reason="unknown_model"): ...


class BodyTooLarge(ServiceError, status=413, title="Body too large", reason="body_too_large"):
    @classmethod
    def over(cls, max_bytes: int) -> BodyTooLarge:
        return cls(f"the body is larger than {max_bytes} bytes")


class ImageTooLarge(ServiceError, status=413, title="Image too large", reason="image_too_large"): ...


class UnsupportedFormat(ServiceError, status=415, title="Unsupported image format", reason="unsupported_format"): ...


class UnsupportedCoding(ServiceError, status=415, title="Unsupported content coding", reason="unsupported_coding"): ...


class BadImage(ServiceError, status=422, title="Unprocessable image", reason="bad_image"): ...


class InvalidParameter(ServiceError, status=422, title="Invalid parameter", reason="invalid_parameter"): ...


class HeadersTooLarge(
    ServiceError, status=431, title="Request header fields too large", reason="headers_too_large"
): ...


class OtherEmbedding(ServiceError, status=412, title="Other embedding", reason="other_embedding"):
    """Vectors of two ids must never meet in one index. ``ids``: members of the problem document."""

    def __init__(self, detail: str, **ids: str) -> None:
        super().__init__(detail)
        self.ids = ids


class Overloaded(ServiceError, status=503, title="Overloaded", reason="overloaded"):
    """No room for this request now. ``retry_after`` is in whole seconds, at least 1."""

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = max(1, retry_after)


class TooManyRequests(Overloaded, status=429, title="Too many requests", reason="client_share"): ...


class NotReady(ServiceError, status=503, title="Not ready", reason="not_ready"): ...


class Draining(ServiceError, status=503, title="Shutting down", reason="draining"): ...


class DeadlineExceeded(ServiceError, status=504, title="Deadline exceeded", reason="deadline"): ...


class InferenceFailed(ServiceError, status=500, title="Inference failed", reason="inference_failed"): ...


class OperatorError(Exception):
    """The process cannot do what its operator asked. The message is for a terminal: one sentence and a remedy."""


class ArtifactError(OperatorError): ...


class PullError(OperatorError): ...


class MissingExtra(OperatorError):
    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}; in a clone: .venv/bin/pip install -c constraints.txt -e '.[{extra}]'"
        )


def installed(*modules: str) -> bool:
    """Whether all ``modules`` can be imported; does not import them."""
    try:
        return all(find_spec(name) is not None for name in modules)
    except ValueError:  # sys.modules holds None for a module whose import is blocked
        return False


def require_extra(what: str, extra: str, *modules: str) -> None:
    """Raise MissingExtra, "``what`` needs …", unless ``modules`` are installed."""
    if not installed(*modules):
        raise MissingExtra(what, extra)


class DeviceLost(Exception):
    """The device is gone for good. Raised by runtimes; ends the process."""
