"""Optional dependencies: is one installed, and the error that names its extra. Nothing is imported to find out."""

from __future__ import annotations

from importlib.util import find_spec

from service.errors import MissingExtra


def installed(*modules: str) -> bool:
    """Whether all ``modules`` could be imported."""
    try:
        return all(find_spec(name) is not None for name in modules)
    except ValueError:  # a None in sys.modules, which is how an import is blocked
        return False


def require(what: str, extra: str, *modules: str) -> None:
    """Raise MissingExtra, "``what`` needs …", unless ``modules`` are installed."""
    if not installed(*modules):
        raise MissingExtra(what, extra)
